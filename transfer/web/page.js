// Runs an exported model on an image that is chosen, dropped or pasted, or on frames from the camera.

const RUNTIME = "node_modules/onnxruntime-web/dist/";
const LARGEST_AREA = 100_000_000; // pixels of an image, as in Python
const LARGEST_SIDE = 30_000;
const SHOWN = 10; // classes
const DRAWN = 800; // pixels a side of the image on the page
// One instruction of WebAssembly's SIMD, in the smallest module that holds it.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0,
  253, 15, 253, 98, 11];
const PROFILE = "Raw profile type exif\0"; // how a text of a PNG begins that holds EXIF data

const element = (id) => document.getElementById(id);
let ort, session, side, names;
let rows = []; // of the list of classes, from the most likely class down
let answer = null; // of the image on the page: its name, probabilities, maps
let chosenClass = null; // whose map is drawn, if not the most likely one's
let camera = null; // once it was asked for: its stream, or null until it is there
let latest = 0; // counts what was asked for: what comes after something newer is dropped

class Refusal extends Error {} // with a message for the reader

function say(status, error = "") {
  // What is set is read aloud, even if it is the same.
  if (element("status").textContent !== status) element("status").textContent = status;
  element("error").textContent = error;
}

function warn(message) {
  element("error").textContent = message;
}

// Shows an error and clears the previous answer.
function complain(error) {
  const known = error instanceof Refusal;
  if (!known) console.error(error);
  answer = null;
  element("time").textContent = "";
  element("classes").hidden = element("map-control").hidden = true;
  element("stage").classList.remove("holds-image");
  for (const id of ["image", "map"]) element(id).width = 0;
  element("image").setAttribute("aria-label", "No image");
  say("", known ? error.message : `The model can't be run here: ${error.message}`);
}

async function load() {
  if (location.protocol === "file:") {
    throw new Refusal("A browser loads a model only from a server: run python -m http.server in this " +
      "page's folder, then open http://localhost:8000.");
  }
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new Refusal("This browser has no WebAssembly SIMD, which the model needs: use a current " +
      "version of Chrome, Edge, Firefox or Safari.");
  }
  const read = async (path) => {
    const response = await fetch(path, { cache: "no-cache" }).catch(() => null);
    if (!response?.ok) {
      throw new Refusal(`${path} is missing from this page's folder: export the model again.`);
    }
    return response;
  };
  const [labels, prepared, model] = await Promise.all(
    ["labels.txt", "preprocessor_config.json", "model-web.onnx"].map(read));
  const runtime = `./${RUNTIME}ort.wasm.min.mjs`;
  try {
    ort = await import(runtime);
  } catch {
    const there = await fetch(runtime).then((response) => response.ok, () => false);
    throw new Refusal(there
      ? "This server must send .mjs files as text/javascript: it sends another type."
      : "ONNX Runtime, which runs the model, is missing: run npm ci --ignore-scripts in this page's " +
        "folder, then reload.");
  }
  names = (await labels.text()).split(/\r?\n/);
  if (names.at(-1) === "") names.pop();
  side = await prepared.json().then((known) => known.size.height).catch(() => null);
  if (!Number.isInteger(side) || side < 1) {
    throw new Refusal("preprocessor_config.json is damaged: export the model again.");
  }
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  ort.env.wasm.wasmPaths = new URL(RUNTIME, location.href).href;
  session = await ort.InferenceSession.create(new Uint8Array(await model.arrayBuffer()));
  const { probabilities, maps } = await run(new Uint8Array(side * side * 3)); // the first is slower
  if (probabilities.length !== names.length) {
    throw new Refusal(`labels.txt names ${names.length} classes, the model has ` +
      `${probabilities.length}: export the model again.`);
  }
  makeRows(Math.min(SHOWN, names.length), Boolean(maps));
  const listed = names.slice(0, SHOWN).join(", ") + (names.length > SHOWN ? ", …" : "");
  element("about").textContent = `This SqueezeNet tells ${names.length} classes apart: ${listed}. ` +
    "It runs in your browser; no image leaves this machine.";
  element("choose").disabled = element("camera").disabled = false;
  say("Ready.");
}

// Gives the network's answer to RGB pixels, and how long it took, in milliseconds.
async function run(pixels) {
  const start = performance.now();
  const fed = new ort.Tensor("uint8", pixels, [1, side, side, 3]);
  const found = await session.run({ [session.inputNames[0]]: fed });
  const [probabilities, maps] = session.outputNames.map((name) => found[name]);
  return { probabilities: probabilities.data, maps, milliseconds: performance.now() - start };
}

// Classifies a picture, and shows it and its answer unless something newer was asked for.
async function classify(picture, width, height, name, number, deep = false) {
  const part = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const pixels = centralSquare(width, height, side, (left, top, columns, lines) => {
    [part.canvas.width, part.canvas.height] = [columns, lines];
    part.fillStyle = "white"; // under what is transparent
    part.fillRect(0, 0, columns, lines);
    part.drawImage(picture, left, top, columns, lines, 0, 0, columns, lines);
    return part.getImageData(0, 0, columns, lines).data;
  });
  if (deep) refuseDark(pixels, name);
  const found = await run(pixels);
  if (number !== latest) return;
  const canvas = element("image"), whole = Math.min(width, height);
  canvas.width = canvas.height = Math.min(whole, DRAWN);
  canvas.getContext("2d").drawImage(picture, Math.floor((width - whole) / 2),
    Math.floor((height - whole) / 2), whole, whole, 0, 0, canvas.width, canvas.height);
  element("stage").classList.add("holds-image");
  answer = { name, ...found };
  show();
}

function refuseDark(pixels, name) {
  const brightest = pixels.reduce((most, value) => Math.max(most, value));
  if (brightest > 0 && brightest < 64) {
    throw new Refusal(`${name} has 16 bits per channel, but uses 14 of them or fewer, and would be ` +
      "dark: save it with 8 bits per channel.");
  }
}

// Decodes an image file, upright, and refuses it before that if it is too large.
async function decoded(file, bytes) {
  const url = URL.createObjectURL(file);
  try {
    const header = new Image();
    header.src = url;
    await new Promise((resolve, reject) => {
      header.onload = resolve;
      header.onerror = () => reject(new Refusal(`${file.name} is not an image that this browser can read.`));
    });
    const { naturalWidth: width, naturalHeight: height } = header;
    if (width * height > LARGEST_AREA || Math.max(width, height) > LARGEST_SIDE) {
      throw new Refusal(`${file.name} has ${width.toLocaleString("en")} x ${height.toLocaleString("en")} ` +
        `pixels: expected ${LARGEST_AREA.toLocaleString("en")} or fewer, ` +
        `and at most ${LARGEST_SIDE.toLocaleString("en")} a side.`);
    }
    if (await ignoredOrientation(bytes).catch(() => 0) > 1) { // 0 where it is damaged
      throw new Refusal(`${file.name} has an EXIF rotation where browsers ignore it: save it upright.`);
    }
    // The values in the file, as Pillow reads them, not those for this screen.
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
      .catch(() => {
        throw new Refusal(`${file.name} can't be decoded: it is damaged, too large for this browser, or ` +
          "a vector drawing.");
      });
  } finally {
    URL.revokeObjectURL(url);
  }
}

// Gives the EXIF orientation, 1 to 8, 1 being upright, where predict.py sees it and browsers don't; else 0.
const ignoredOrientation = async (bytes) =>
  isPng(bytes) ? pngOrientation(bytes) : webpOrientation(bytes);

// That of a WebP file, wherever it is.
function webpOrientation(bytes) {
  if (text(bytes, 0, 4) !== "RIFF" || text(bytes, 8, 4) !== "WEBP") return 0;
  for (let chunk = 12; chunk + 8 <= bytes.byteLength;) {
    const size = bytes.getUint32(chunk + 4, true);
    if (text(bytes, chunk, 4) === "EXIF") return orientation(bytes, chunk + 8);
    chunk += 8 + size + size % 2;
  }
  return 0;
}

// That of a PNG behind its pixels, or in a text, as ImageMagick writes it.
async function pngOrientation(bytes) {
  let profile = null, behind = false;
  for (let chunk = 8; chunk + 12 <= bytes.byteLength;) {
    const size = bytes.getUint32(chunk), kind = text(bytes, chunk + 4, 4), start = chunk + 8;
    if (kind === "eXIf") return behind ? orientation(bytes, start) : 0;
    if (kind === "IDAT") behind = true;
    const packed = kind === "zTXt";
    if ((packed || kind === "tEXt") && size > PROFILE.length && text(bytes, start, PROFILE.length) === PROFILE) {
      const from = start + PROFILE.length + packed;
      profile = new Blob([new Uint8Array(bytes.buffer, from, start + size - from)]).stream();
      if (packed) profile = profile.pipeThrough(new DecompressionStream("deflate"));
    }
    chunk = start + size + 4;
  }
  if (!profile) return 0;
  const hexadecimal = (await new Response(profile).text()).split("\n").slice(3).join("");
  const content = Uint8Array.from(hexadecimal.match(/../g), (pair) => parseInt(pair, 16));
  return orientation(new DataView(content.buffer), 0);
}

// Gives the orientation in EXIF data that begin there.
function orientation(bytes, start) {
  const tiff = start + (text(bytes, start, 4) === "Exif" ? 6 : 0);
  const little = text(bytes, tiff, 2) === "II";
  const directory = tiff + bytes.getUint32(tiff + 4, little);
  for (let entry = 0; entry < bytes.getUint16(directory, little); entry++) {
    const at = directory + 2 + 12 * entry;
    if (bytes.getUint16(at, little) === 0x0112) return bytes.getUint16(at + 8, little);
  }
  return 0;
}

const text = (bytes, start, length) => String.fromCharCode(...new Uint8Array(bytes.buffer, start, length));

const isPng = (bytes) => bytes.byteLength > 24 && bytes.getUint32(0) === 0x89504e47;

// A PNG's 16 bits per channel may hold 12, which the file does not say.
const isDeepPng = (bytes) => isPng(bytes) && bytes.getUint8(24) === 16;

async function open(files) {
  const count = files.length; // which is 0 once the input is cleared
  const file = [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];
  if (!file) return;
  stopCamera();
  const number = ++latest;
  try {
    await loaded;
    const bytes = new DataView(await file.arrayBuffer().catch(() => {
      throw new Refusal(`${file.name} can't be read: it is a folder, or no longer there.`);
    }));
    const bitmap = await decoded(file, bytes);
    try {
      chosenClass = null;
      if (number === latest) {
        await classify(bitmap, bitmap.width, bitmap.height, file.name, number, isDeepPng(bytes));
      }
    } finally {
      bitmap.close();
    }
    if (count > 1 && number === latest) warn(`Of ${count} files, only this one is shown.`);
  } catch (error) {
    if (number === latest && session) complain(error);
  }
}

const percent = (probability) => `${(100 * probability).toFixed(1)}%`;

function makeRows(count, clickable) {
  rows = Array.from({ length: count }, () => {
    const row = document.createElement(clickable ? "button" : "div");
    const [name, fraction] = ["name", "fraction"].map((kind) => {
      const part = document.createElement("span");
      part.className = kind;
      row.append(part);
      return part;
    });
    const made = { row, name, fraction, number: null };
    if (clickable) {
      row.title = "Show the map of this class";
      row.onclick = () => { chosenClass = made.number; show(); };
    }
    const item = document.createElement("li");
    item.append(row);
    element("classes").append(item);
    return made;
  });
}

// Shows the answer: the most likely classes, with bars, and the map of one of them if there are maps.
function show() {
  const { name, probabilities, maps, milliseconds } = answer;
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const said = `${name}: ${names[order[0]]}, ${percent(probabilities[order[0]])}`;
  element("time").textContent = `${milliseconds.toFixed(0)} ms`;
  // The status is read aloud: not for each frame of the camera.
  if (!camera) say(said);
  const mapped = chosenClass ?? order[0];
  rows.forEach((made, place) => {
    made.number = order[place];
    made.name.textContent = names[made.number];
    made.fraction.textContent = percent(probabilities[made.number]);
    made.row.style.setProperty("--fraction", `${100 * probabilities[made.number]}%`);
    if (maps) made.row.setAttribute("aria-pressed", made.number === mapped);
  });
  element("classes").hidden = false;
  element("image").setAttribute("aria-label", said);
  element("map-control").hidden = !maps;
  drawMap(mapped);
}

// Draws a class's map over the image: blue for zero, yellow for its maximum.
function drawMap(number) {
  const canvas = element("map"), { maps } = answer;
  canvas.hidden = !maps || !element("show-map").checked;
  if (canvas.hidden) return;
  const [, lines, columns, classes] = maps.dims;
  const values = Array.from({ length: lines * columns }, (_, cell) =>
    Math.max(0, maps.data[cell * classes + number]));
  const most = Math.max(...values, 1e-12);
  const small = new OffscreenCanvas(columns, lines);
  const colors = new ImageData(columns, lines);
  values.forEach((value, cell) => {
    const fraction = value / most;
    colors.data.set([255 * fraction, 40 + 190 * fraction, 160 * (1 - fraction), 255], 4 * cell);
  });
  small.getContext("2d").putImageData(colors, 0, 0);
  [canvas.width, canvas.height] = [256, 256];
  canvas.getContext("2d").drawImage(small, 0, 0, 256, 256);
}

async function startCamera() {
  const number = ++latest;
  camera = { stream: null };
  element("camera").textContent = "Stop the camera";
  chosenClass = null;
  const video = element("video");
  try {
    if (!navigator.mediaDevices) {
      throw new Refusal("Browsers allow the camera only on https:// pages and on localhost.");
    }
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (number !== latest) {
      stop(stream);
      return;
    }
    camera.stream = video.srcObject = stream;
    stream.getVideoTracks()[0].onended = () => { if (number === latest) stopCamera(); };
    await video.play();
    say("Camera");
    while (number === latest) {
      if (video.videoWidth) {
        const frame = await createImageBitmap(video); // the one that is shown is the one classified
        try {
          await classify(frame, frame.width, frame.height, "Camera", number);
        } finally {
          frame.close();
        }
      }
      await new Promise(requestAnimationFrame); // waits while the page is hidden
    }
  } catch (error) {
    if (number !== latest) return;
    stopCamera();
    const reasons = {
      NotAllowedError: "This page isn't allowed to use the camera: allow it in the browser's site settings.",
      NotFoundError: "There is no camera on this machine.",
      NotReadableError: "The camera is in use by another program.",
    };
    warn(error instanceof Refusal ? error.message : reasons[error.name] ?? `The camera failed: ${error.message}`);
  }
}

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());

function stopCamera() {
  if (!camera) return;
  latest++;
  if (camera.stream) stop(camera.stream);
  camera = null;
  element("video").srcObject = null;
  element("camera").textContent = "Start the camera";
  if (answer) show();
}

element("choose").onclick = () => element("file").click();
element("camera").onclick = () => camera ? stopCamera() : startCamera();
element("file").onchange = ({ target }) => {
  open(target.files);
  target.value = ""; // so that the same file can be chosen again
};
element("show-map").onchange = () => answer && show();
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData.files.length) open(clipboardData.files);
  else warn("What you pasted isn't an image.");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("is-target");
});
document.addEventListener("dragleave", () => element("stage").classList.remove("is-target"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("is-target");
  if (event.dataTransfer.files.length) open(event.dataTransfer.files);
  else warn("What you dropped isn't an image file.");
});

const loaded = load();
loaded.catch((error) => {
  session = null;
  complain(error);
});
