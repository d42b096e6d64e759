"""The page that runs a model in a browser: its answers are Keras', and what it can't do it says."""

import contextlib
import shutil

import numpy as np
import pytest
from conftest import TINY, predicted, start
from PIL import Image, PngImagePlugin

import data
from benchmarks.exported import served
from transfer import images
from transfer import page as web

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.ci]
pytest.importorskip("onnxruntime", reason="needs requirements-export.txt")
pytest.importorskip("tf2onnx", reason="needs requirements-export.txt")
INSTALL = f"{web.INSTALL} transfer/web"
STATE = "return ['status', 'error'].map(id => document.getElementById(id).textContent)"
ANSWER = """
if (document.getElementById('classes').hidden) return []
return [...document.querySelectorAll('#classes li > *')]
    .sort((a, b) => a.querySelector('.name').textContent < b.querySelector('.name').textContent ? -1 : 1)
    .map(row => answer.probabilities[names.indexOf(row.querySelector('.name').textContent)])
"""


@pytest.fixture(scope="module")
def serve():
    with contextlib.ExitStack() as servers:
        yield lambda folder: servers.enter_context(served(folder))


@pytest.fixture
def page(browser):
    """Says what the page says, and shows images to it."""

    class Page:
        def open(self, url, ready="Ready."):
            browser.open(url)
            return self.says(ready)

        def says(self, *wanted):
            """Waits until the page says that; returns it."""

            def said():
                text = "\n".join(self.run(STATE))
                return all(word in text for word in wanted) and text

            return self.until(said, f"never said {wanted}")

        def wait(self, code):
            self.until(lambda: self.run(code), code)

        def until(self, condition, message):
            from selenium.webdriver.support.ui import WebDriverWait

            return WebDriverWait(browser.driver, 60, 0.05).until(lambda _: condition(), message)

        def show(self, path):
            browser.driver.find_element("id", "file").send_keys(str(path))
            self.says(path.name)
            return self.run(ANSWER)

        def run(self, code, *arguments):
            return browser.driver.execute_script(code, *arguments)

    return Page()


@pytest.fixture(scope="module")
def exported(in_float32, tmp_path_factory):
    """A page with its model."""
    if not web.has_runtime():
        pytest.skip(f"needs {INSTALL}")
    folder = tmp_path_factory.mktemp("exported") / "page"
    export = ("export.py", in_float32.folder, "--format", "web", "--output", folder)
    out, err = start(*export).communicate()
    assert "page        python -m http.server" in out, err
    return folder


def test_it_answers_as_keras_does(in_float32, script, exported, serve, page, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    images, labels = data.load("shapes").validation
    side = images.shape[1]
    for number, image in enumerate(images[:20]):
        picture = Image.fromarray(image)
        # As they are; not square; as JPEG; smaller, which is enlarged; so large that blocks are averaged.
        sizes = [(1, 1), (3, 5), (3.9, 2.1), (0.7, 1), (6.5, 9), (31, 27.3)]
        width, height = (round(side * times) for times in sizes[number % 6])
        name = f"{number:02}." + ("jpg" if number % 6 == 2 else "png")
        picture.resize((width, height)).save(pictures / name, quality=95)
    upside_down = Image.fromarray(images[0]).getexif()
    upside_down[0x0112] = 3
    Image.fromarray(images[0]).save(pictures / "20.jpg", exif=upside_down)
    glass = Image.fromarray(images[1]).convert("RGBA")
    glass.putalpha(128)
    glass.save(pictures / "21.png")
    Image.fromarray(images[2]).convert("P").save(pictures / "22.gif")
    Image.fromarray(images[3]).convert("CMYK").save(pictures / "23.jpg", quality=95)

    names = in_float32.metrics["data"]["class_names"]
    asked = (pictures, "--json", "--top", len(names), "--run", in_float32.folder)
    expected = predicted(script("predict.py", *asked).out)
    address = serve(exported)
    page.open(address)
    found = [page.show(path) for path in sorted(pictures.iterdir())]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.std(expected, axis=0).max() > 0.01
    # A bar has the width of the list, whether or not it is a button that shows a map.
    assert page.run(
        "return [...document.querySelectorAll('#classes li > *')]"
        ".every(row => row.offsetWidth === row.parentElement.offsetWidth)"
    )
    loaded = page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith((address, "blob:", "data:")) for name in loaded)


PIXELS = """
const [width, height, side, values] = arguments
const read = (left, top, columns, rows) => Array.from({length: rows}, (_, row) => {
  const from = ((top + row) * width + left) * 4
  return values.slice(from, from + columns * 4)
}).flat()
return Array.from(centralSquare(width, height, side, read))
"""


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [(30, 30, 20), (30, 41, 20), (30, 90, 20), (90, 30, 20), (75, 100, 10), (9, 30, 20)],
)
def test_its_pixels_are_pillows(exported, serve, page, width, height, side):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), "u1")
    page.open(serve(exported))
    found = page.run(PIXELS, width, height, side, pixels.ravel().tolist())
    expected = images.square(Image.fromarray(pixels[..., :3]), side, enlarge=True)
    np.testing.assert_array_equal(np.reshape(found, (side, side, 3)), expected)


def test_class_maps_of_the_heads_that_have_them(script, serve, page, tmp_path):
    import onnxruntime

    if not web.has_runtime():
        pytest.skip(f"needs {INSTALL}")
    small = ("--recipe", "report", "--images-per-class", "10", "--name", "report")
    assert script("train_full.py", *TINY, *small, "--logs", tmp_path).status == 0
    run = tmp_path / "full" / "report"
    result = script("export.py", run, "--format", "web", "--output", tmp_path / "page")
    assert result.status == 0, result.err
    model = onnxruntime.InferenceSession(tmp_path / "page" / "model-web.onnx")
    image = data.load("shapes").test.images[:1]
    probabilities, maps = model.run(None, {model.get_inputs()[0].name: image})
    logits = np.exp(maps.mean(axis=(1, 2)))
    np.testing.assert_allclose(probabilities, logits / logits.sum(), atol=1e-5)

    page.open(serve(tmp_path / "page"))
    Image.fromarray(image[0]).save(tmp_path / "one.png")
    page.show(tmp_path / "one.png")
    pressed = (
        "return [...document.querySelectorAll('[aria-pressed=true] .name')].map(e => e.innerText)"
    )
    shown = "return !document.getElementById('map').hidden"
    (first,) = page.run(pressed)
    page.run("document.querySelectorAll('#classes button')[1].click()")
    (second,) = page.run(pressed)
    assert first != second and page.run(shown)
    page.run("document.getElementById('show-map').click()")
    assert not page.run(shown)


def test_what_is_no_image_is_named(exported, serve, page, tmp_path):
    page.open(serve(exported))
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    (tmp_path / "notes.png").write_text("not an image")
    Image.new("1", (12_000, 9_000)).save(tmp_path / "poster.png")
    Image.fromarray(np.full((40, 40), 4000, np.uint16)).save(tmp_path / "scan.png")
    turned = Image.new("RGB", (40, 40)).getexif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 40)).save(tmp_path / "turned.webp", exif=turned)
    for orientation, name in ((6, "turned"), (1, "upright")):
        turned[0x0112] = orientation
        profile = f"\nexif\n{len(turned.tobytes()):8}\n{turned.tobytes().hex()}\n"
        for packed in (False, True):  # as ImageMagick writes it
            text = PngImagePlugin.PngInfo()
            text.add_text("Raw profile type exif", profile, zip=packed)
            Image.new("RGB", (40, 40)).save(tmp_path / f"{name}-{packed}.png", pnginfo=text)
        written = (tmp_path / "good.png").read_bytes()
        with (tmp_path / f"{name}-late.png").open("wb") as late:
            late.write(written[:-12])  # without its end
            PngImagePlugin.putchunk(late, b"eXIf", turned.tobytes().removeprefix(b"Exif\0\0"))
            late.write(written[-12:])
    for name in ("False", "True", "late"):
        assert page.show(tmp_path / f"upright-{name}.png")
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>'
    (tmp_path / "drawing.svg").write_text(drawing)
    damaged = (tmp_path / "good.png").read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(damaged[: len(damaged) // 2])
    for name, reason in (
        ("notes.png", "is not an image"),
        ("empty.png", "is not an image"),
        ("cut.png", ""),
        ("poster.png", "has 12,000 x 9,000 pixels"),
        ("scan.png", "would be dark"),
        ("turned.webp", "has an EXIF rotation"),
        ("turned-False.png", "has an EXIF rotation"),
        ("turned-True.png", "has an EXIF rotation"),
        ("turned-late.png", "has an EXIF rotation"),
        ("drawing.svg", "can't be decoded"),
    ):
        assert page.show(tmp_path / "good.png")
        assert page.show(tmp_path / name) == []  # an earlier answer is no longer there
        page.says(f"{name} ", reason)
    paste = (
        "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: new DataTransfer()}))"
    )
    page.run(paste)
    page.says("What you pasted isn't an image.")


@pytest.mark.parametrize(
    ("name", "words"),
    [(None, "localhost"), ("NotAllowedError", "isn't allowed"), ("NotFoundError", "no camera")],
)
def test_an_unavailable_camera(exported, serve, page, name, words):
    page.open(serve(exported))
    if name:
        refuse = "() => { throw new DOMException('', arguments[0]) }"
        page.run(f"const [name] = arguments; navigator.mediaDevices.getUserMedia = {refuse}", name)
    else:
        page.run("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    page.run(CAMERA)
    page.says(words)


CAMERA = "document.getElementById('camera').click()"
SLOW_CAMERA = """
const devices = navigator.mediaDevices, get = devices.getUserMedia.bind(devices);
window.streams = [];
devices.getUserMedia = async asked => {
    const stream = await get(asked);
    await new Promise(done => setTimeout(done, 400));
    streams.push(stream);
    return stream;
}
"""
LIVE = "return streams.flatMap(s => s.getTracks()).filter(t => t.readyState === 'live').length"


def test_the_camera_is_classified_until_it_is_stopped(exported, serve, page):
    page.open(serve(exported))
    page.run(SLOW_CAMERA)
    page.run(CAMERA)
    page.wait("return answer?.name === 'Camera'")
    assert len(page.run(ANSWER)) == 10
    page.run("window.said = 0; new MutationObserver(all => said += all.length)"
             ".observe(document.getElementById('status'), {childList: true})")  # fmt: skip
    page.run("window.before = answer")
    page.wait("return answer !== before")
    assert page.run("return said") == 0  # it would be read aloud
    page.run(CAMERA)
    page.says("Camera: ")
    assert page.run(LIVE) == 0


def test_a_camera_that_is_no_longer_wanted_when_it_is_there(exported, serve, page, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "chosen.png")
    page.open(serve(exported))
    page.run(SLOW_CAMERA)
    for _ in range(3):
        page.run(CAMERA)
    page.show(tmp_path / "chosen.png")
    page.wait("return streams.length === 2")
    page.wait(LIVE.replace("length", "length === 0"))
    assert page.run("return answer.name") == "chosen.png"


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("node_modules", "npm ci --ignore-scripts"),
        ("model-web.onnx", "model-web.onnx is missing"),
        ("labels.txt", "labels.txt is missing"),
    ],
)
def test_what_is_missing_beside_the_page_is_named(exported, serve, page, tmp_path, missing, words):
    folder = shutil.copytree(exported, tmp_path / "moved")
    gone = folder / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    page.open(serve(folder), words)


def test_files_that_do_not_belong_to_its_model_are_refused(exported, serve, page, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "mixed")
    (folder / "labels.txt").write_text("ants\nbees\n")
    page.open(serve(folder), "labels.txt names 2 classes, the model has 10")
    shutil.copy(exported / "labels.txt", folder)
    (folder / "preprocessor_config.json").write_text("{}")
    page.open(serve(folder), "preprocessor_config.json is damaged")


def test_where_it_can_not_run(exported, serve, page, browser):
    page.open(f"file://{exported}/index.html", "python -m http.server")
    code = "WebAssembly.validate = () => false"
    added = browser.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": code}
    )
    try:
        page.open(serve(exported), "has no WebAssembly SIMD")
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
