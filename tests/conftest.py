import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from transfer import files, terminal

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# As for most readers, HEIC can't be read in this process, only in others.
sys.modules["pillow_heif"] = None
# A shell's background job ignores Ctrl-C, and so would the scripts that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
terminal.import_keras()

ROOT = Path(__file__).parent.parent
KERAS_HOME = files.keras_home()
WEIGHTS = KERAS_HOME / "models" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGES = KERAS_HOME / "datasets" / "cifar10-jpeg.npz"
REGIMES = ("frozen", "last_fire", "full")
TINY = ("--data", "shapes", "--weights", "none", "--image-size", "32", "--epochs", "2")


def pytest_collection_modifyitems(items):
    missing = {}
    if not (WEIGHTS.exists() and IMAGES.exists()):
        missing["real"] = f"needs {WEIGHTS} and {IMAGES}"
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        missing["browser"] = "needs Debian's packages chromium and chromium-driver"
    for item in items:
        for mark in missing.keys() & item.keywords.keys():
            item.add_marker(pytest.mark.skip(reason=missing[mark]))


@pytest.fixture(autouse=True)
def _precision():
    """A run sets the precision of its process; the next test begins with Keras' own."""
    import keras

    keras.config.set_dtype_policy("float32")


def start(script, *arguments, stdout=subprocess.PIPE, **environment):
    return subprocess.Popen(
        [sys.executable, ROOT / script, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def finish(process):
    out, err = process.communicate()
    return SimpleNamespace(status=process.returncode, out=out, err=err)


@pytest.fixture
def command():
    """Runs a script as a process of its own; returns its exit status and output."""
    return lambda *arguments, **environment: finish(start(*arguments, **environment))


@pytest.fixture
def script(monkeypatch, capfd):
    """Runs a script in this process, which has imported Keras already."""
    import runpy

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
        captured = capfd.readouterr()
        return SimpleNamespace(status=status, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, worker_id):
    """The three scripts run once, as a reader runs them: their output and folders by regime.

    The processes of pytest-xdist share them, so that no test may change them.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    logs, output = shared / "trained", shared / "trained.json"
    with (shared / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            processes = {
                regime: start(f"train_{regime}.py", *TINY, "--logs", logs, "--name", "tiny")
                for regime in REGIMES
            }
            finished = {regime: vars(finish(process)) for regime, process in processes.items()}
            output.write_text(json.dumps(finished))
    results = {
        regime: SimpleNamespace(**known) for regime, known in json.loads(output.read_text()).items()
    }
    for regime, result in results.items():
        assert result.status == 0, result.err
        result.folder = logs / regime / "tiny"
        result.metrics = json.loads((result.folder / "metrics.json").read_text())
    return SimpleNamespace(logs=logs, **results)


@pytest.fixture(scope="session")
def in_float32(trained, tmp_path_factory):
    """The full run in float32, as exported models compute, whatever this processor would choose."""
    if trained.full.metrics["precision"] == "float32":
        return trained.full
    logs = tmp_path_factory.mktemp("float32")
    flags = (*TINY, "--precision", "float32", "--logs", logs, "--name", "tiny")
    result = finish(start("train_full.py", *flags))
    assert result.status == 0, result.err
    result.folder = logs / "full" / "tiny"
    result.metrics = json.loads((result.folder / "metrics.json").read_text())
    return result


@pytest.fixture
def one_line():
    """Asserts that a command refused its input as a person would want it to."""

    def check(result, *words, status=2):
        assert result.status == status, result.err
        assert result.err.count("\n") == 1, result.err
        for word in words:
            assert word in result.err

    return check


def predicted(out):
    """Reads what predict.py --json printed: probabilities by image, of the classes in their order."""
    return [
        [
            entry["probability"]
            for entry in sorted(json.loads(line)["classes"], key=lambda e: e["class"])
        ]
        for line in out.splitlines()
    ]


# Elements of a page, and of the shadow trees in it of which TensorBoard is made, by their text.
ELEMENTS = """
const [wanted] = arguments, found = [];
const walk = node => {
    if (node.nodeType === Node.ELEMENT_NODE && node.textContent.trim() === wanted) found.push(node);
    node.childNodes.forEach(walk);
    if (node.shadowRoot) walk(node.shadowRoot);
};
walk(document.body);
return found;
"""


class Browser:
    """Headless Chromium, as a reader who looks for words and clicks on them."""

    def __init__(self, home):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        camera = [f"use-fake-{what}-for-media-stream" for what in ("device", "ui")]
        for argument in ("headless=new", "no-sandbox", "window-size=1600,1000", *camera):
            options.add_argument(f"--{argument}")
        options.add_argument(f"--user-data-dir={home}")
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options, service)
        self.home = home

    def open(self, url):
        self.driver.get("about:blank")  # else only what comes after the # would change
        self.driver.get(url)

    def find(self, text, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := self.driver.execute_script(ELEMENTS, text):
                return found
            time.sleep(0.5)
        self.driver.save_screenshot(str(self.home / "missing.png"))
        raise AssertionError(f"{text!r} is not on the page: see {self.home / 'missing.png'}")

    def waits_for(self, *texts):
        for text in texts:
            self.find(text)

    def click(self, text):
        self.driver.execute_script("arguments[0].click()", self.find(text)[0])

    def expand(self, node, inner):
        """Double-clicks on a node of a graph, which may still be moving, until one inside it shows."""
        from selenium.webdriver import ActionChains

        for _ in range(10):
            shape = self.driver.execute_script(
                "return arguments[0].parentNode", self.find(node)[-1]
            )
            ActionChains(self.driver).double_click(shape).perform()
            with contextlib.suppress(AssertionError):
                return self.find(inner, seconds=4)
        raise AssertionError(f"{node} shows no {inner}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.driver.quit()
