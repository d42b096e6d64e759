// Runs an exported model on an image that is chosen, dropped or pasted, or on the camera's.

const RUNTIME = "node_modules/onnxruntime-web/dist/";
const LARGEST_AREA = 100_000_000; // of an image, in pixels, as in Python
const LARGEST_SIDE = 30_000;
const SHOWN = 10; // classes
// One instruction of WebAssembly's SIMD, in the smallest module that holds it.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0,
  253, 15, 253, 98, 11];

const element = (id) => document.getElementById(id);
const image = element("image").getContext("2d", { willReadFrequently: true });
let ort, session, side, names;
let answer = null; // { name, probabilities, maps } of the image that is shown
let chosenClass = null; // whose map is shown, if not the most likely one's
let stream = null; // the camera's
let latest = 0; // number of the latest image: an older one that is still being read is dropped

class Refusal extends Error {} // with a message for the reader

function say(status, error = "") {
  element("status").textContent = status;
  element("error").textContent = error;
}

// Says what is wrong, and shows no earlier answer beside it.
function complain(error) {
  const known = error instanceof Refusal;
  answer = null;
  element("classes").replaceChildren();
  element("stage").classList.remove("holds-image");
  for (const id of ["image", "map"]) element(id).width = 0;
  say("", known ? error.message : `The model can't be run here: ${error.message}`);
  if (!known) console.error(error);
}

async function load() {
  if (location.protocol === "file:") {
    throw new Refusal("A browser loads a model only from a server: in the folder of this page run " +
      "python -m http.server, then open http://localhost:8000.");
  }
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(new Uint8Array(SIMD))) {
    throw new Refusal("This browser has no WebAssembly SIMD, which the model needs: use a newer " +
      "one (Chrome 91, Firefox 89, Safari 16.4 or later).");
  }
  const read = async (path) => {
    const response = await fetch(path).catch(() => null);
    if (!response?.ok) throw new Refusal(`${path} is not beside this page: export the model again.`);
    return response;
  };
  const [labels, prepared, model] = await Promise.all(
    ["labels.txt", "preprocessor_config.json", "model-web.onnx"].map(read));
  try {
    ort = await import(`./${RUNTIME}ort.wasm.min.mjs`);
  } catch {
    throw new Refusal("ONNX Runtime, which runs the model, is not beside this page: in the folder of " +
      "this page run npm ci --ignore-scripts, then reload.");
  }
  names = (await labels.text()).split("\n").slice(0, -1);
  side = (await prepared.json()).size.height;
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  ort.env.wasm.wasmPaths = new URL(RUNTIME, location.href).href;
  session = await ort.InferenceSession.create(new Uint8Array(await model.arrayBuffer()));
  await run(new Uint8Array(side * side * 3)); // the first call is slower
  const listed = names.slice(0, SHOWN).join(", ") + (names.length > SHOWN ? ", …" : "");
  element("about").textContent = `A SqueezeNet that tells ${names.length} classes apart: ${listed}. ` +
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

// The network sees an image as predict.py shows it: its largest central square, resized as Pillow
// does it (Resample.c), by a filter that is as wide as the pixels it makes, a dimension at a time.
const BILINEAR = { reach: 1, at: (x) => Math.max(0, 1 - x) };
const BICUBIC = {
  reach: 2,
  at: (x) => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0,
};

function resized(data, size) {
  const scale = size / side, width = Math.max(scale, 1);
  const filter = scale > 1 ? BILINEAR : BICUBIC;
  const taps = Array.from({ length: side }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - filter.reach * width + 0.5));
    const end = Math.min(size, Math.trunc(center + filter.reach * width + 0.5));
    const weights = [];
    for (let x = first; x < end; x++) weights.push(filter.at(Math.abs(x + 0.5 - center) / width));
    const sum = weights.reduce((total, weight) => total + weight);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
  // Resizes lines of `size` pixels, `step` values apart, and puts each pixel `channels` values long.
  const pass = (source, channels, lines, lineStep, step) => {
    const made = new Uint8ClampedArray(lines * side * 3);
    for (let line = 0; line < lines; line++) {
      for (let place = 0; place < side; place++) {
        const { first, weights } = taps[place];
        for (let channel = 0; channel < 3; channel++) {
          let value = 0.5;
          for (let tap = 0; tap < weights.length; tap++) {
            value += weights[tap] * source[line * lineStep + (first + tap) * step + channel];
          }
          // Transposed, so that the second pass puts it right.
          made[(place * lines + line) * 3 + channel] = Math.floor(value);
        }
      }
    }
    return made;
  };
  const across = pass(data, 4, size, size * 4, 4);
  return new Uint8Array(pass(across, 3, side, size * 3, 3).buffer);
}

// Gives the RGB pixels that the network sees of a picture, and shows them.
function squared(picture, width, height) {
  const whole = Math.min(width, height);
  // Of a very large one, the browser makes a smaller one first.
  const size = whole > 8 * side ? 4 * side : whole;
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, size, size);
  const left = Math.floor((width - whole) / 2), top = Math.floor((height - whole) / 2);
  context.drawImage(picture, left, top, whole, whole, 0, 0, size, size);
  const { data } = context.getImageData(0, 0, size, size);
  const shown = image.canvas;
  [shown.width, shown.height] = [size, size];
  image.drawImage(canvas, 0, 0);
  element("stage").classList.add("holds-image");
  return resized(data, size);
}

async function classify(picture, width, height, name, number) {
  const pixels = squared(picture, width, height);
  const found = await run(pixels);
  if (number !== latest) return;
  answer = { name, ...found };
  show();
}

// Decodes an image file, upright, and refuses it before that if it is too large.
async function decoded(file) {
  const url = URL.createObjectURL(file);
  try {
    const header = new Image();
    header.src = url;
    await new Promise((resolve, reject) => {
      header.onload = resolve;
      header.onerror = () => reject(new Refusal(`${file.name} is not an image that this browser can read.`));
    });
    const { naturalWidth: width, naturalHeight: height } = header;
    if (!width || !height) throw new Refusal(`${file.name} has no size in pixels.`);
    if (width * height > LARGEST_AREA || Math.max(width, height) > LARGEST_SIDE) {
      throw new Refusal(`${file.name} has ${width.toLocaleString("en")} x ${height.toLocaleString("en")} ` +
        `pixels: expected ${LARGEST_AREA.toLocaleString("en")} or fewer.`);
    }
    // The values in the file, as Pillow reads them, not those for this screen.
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
      .catch(() => { throw new Refusal(`${file.name} is damaged, or too large for this browser.`); });
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function open(files) {
  if (!session) return;
  stopCamera();
  const number = ++latest;
  try {
    if (!files.length) throw new Refusal("There is no image in what you dropped or pasted.");
    const bitmap = await decoded(files[0]);
    if (number === latest) {
      chosenClass = null;
      await classify(bitmap, bitmap.width, bitmap.height, files[0].name, number);
    }
    bitmap.close();
  } catch (error) {
    if (number === latest) complain(error);
  }
}

const percent = (probability) => `${(100 * probability).toFixed(1)}%`;

// Shows the answer: the most likely classes, with bars, and where the model ends in them, class maps.
function show() {
  const { name, probabilities, maps, milliseconds } = answer;
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
  const top = order.slice(0, SHOWN);
  // Not for every frame of the camera: it is read aloud.
  const said = `${name}: ${names[top[0]]}, ${percent(probabilities[top[0]])}`;
  if (!stream) say(`${said} (${milliseconds.toFixed(0)} ms)`);
  else element("status").textContent = `${name} (${milliseconds.toFixed(0)} ms)`;
  const focused = document.activeElement?.dataset.number;
  element("classes").replaceChildren(...top.map((number) => {
    const row = document.createElement(maps ? "button" : "div");
    row.dataset.number = number;
    row.dataset.probability = probabilities[number];
    row.style.setProperty("--share", `${100 * probabilities[number]}%`);
    for (const [kind, text] of [["name", names[number]], ["share", percent(probabilities[number])]]) {
      const part = document.createElement("span");
      part.className = kind;
      part.textContent = text;
      row.append(part);
    }
    if (maps) {
      row.title = "Show the map of this class";
      row.setAttribute("aria-pressed", number === (chosenClass ?? top[0]));
      row.onclick = () => { chosenClass = number; show(); };
    }
    const item = document.createElement("li");
    item.append(row);
    return item;
  }));
  element("classes").querySelector(`[data-number="${focused}"]`)?.focus();
  element("image").setAttribute("aria-label", said);
  element("map-control").hidden = !maps;
  drawMap(chosenClass ?? top[0]);
}

// Draws what counts towards a class, from nothing to the map's maximum: blue to yellow, over the image.
function drawMap(number) {
  const canvas = element("map"), { maps } = answer;
  canvas.hidden = !maps || !element("show-map").checked;
  if (canvas.hidden) return;
  const [, rows, columns, classes] = maps.dims;
  const values = Array.from({ length: rows * columns }, (_, cell) =>
    Math.max(0, maps.data[cell * classes + number]));
  const most = Math.max(...values, 1e-12);
  const small = new OffscreenCanvas(columns, rows);
  const colors = new ImageData(columns, rows);
  values.forEach((value, cell) => {
    const share = value / most;
    colors.data.set([255 * share, 40 + 190 * share, 160 * (1 - share), 255], 4 * cell);
  });
  small.getContext("2d").putImageData(colors, 0, 0);
  [canvas.width, canvas.height] = [256, 256];
  canvas.getContext("2d").drawImage(small, 0, 0, 256, 256);
}

async function startCamera() {
  const video = element("video");
  try {
    if (!navigator.mediaDevices) {
      throw new Refusal("A browser gives the camera only to https:// pages and to localhost.");
    }
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The camera may not be used: allow it in the browser's settings of this page.",
      NotFoundError: "There is no camera on this machine.",
      NotReadableError: "The camera is in use by another program.",
    };
    complain(error instanceof Refusal ? error : new Refusal(reasons[error.name] ?? `The camera: ${error.message}`));
    return;
  }
  const own = stream, number = ++latest;
  chosenClass = null;
  element("camera").textContent = "Stop the camera";
  say("Camera");
  own.getVideoTracks()[0].onended = () => { if (stream === own) stopCamera(); };
  video.srcObject = own;
  try {
    await video.play();
    while (stream === own && number === latest) {
      if (video.videoWidth) await classify(video, video.videoWidth, video.videoHeight, "Camera", number);
      await new Promise(requestAnimationFrame); // waits while the page is hidden
    }
  } catch (error) {
    if (stream === own) {
      stopCamera();
      complain(error);
    }
  }
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  element("video").srcObject = null;
  element("camera").textContent = "Start the camera";
}

element("choose").onclick = () => element("file").click();
element("camera").onclick = () => stream ? stopCamera() : startCamera();
element("file").onchange = ({ target }) => {
  if (target.files.length) open([...target.files]);
  target.value = ""; // so that the same file can be chosen again
};
element("show-map").onchange = () => answer && show();
document.addEventListener("paste", ({ clipboardData }) => open(clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  element("stage").classList.add("is-target");
});
document.addEventListener("dragleave", () => element("stage").classList.remove("is-target"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  element("stage").classList.remove("is-target");
  open(event.dataTransfer.files);
});

load().catch(complain);
