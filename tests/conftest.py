import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import cli

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# A shell's background job ignores Ctrl-C, and so would the scripts that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
cli.import_keras()

ROOT = Path(__file__).parent.parent
KERAS_HOME = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
WEIGHTS = KERAS_HOME / "models" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGES = KERAS_HOME / "datasets" / "cifar10-jpeg.npz"
REGIMES = ("frozen", "last_fire", "full")
TINY = ("--data", "shapes", "--weights", "none", "--image-size", "32", "--epochs", "2")


def pytest_collection_modifyitems(items):
    if not (WEIGHTS.exists() and IMAGES.exists()):
        skip = pytest.mark.skip(reason=f"needs {WEIGHTS} and {IMAGES}")
        for item in items:
            if "real" in item.keywords:
                item.add_marker(skip)


def start(script, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, ROOT / script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def finish(process):
    out, err = process.communicate()
    return SimpleNamespace(status=process.returncode, out=out, err=err)


@pytest.fixture
def command():
    """Runs a script as a process of its own; gives its exit status and output."""
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
def trained(tmp_path_factory):
    """The three scripts run once, as a reader runs them: their output and folders by regime."""
    logs = tmp_path_factory.mktemp("logs")
    processes = {
        regime: start(f"train_{regime}.py", *TINY, "--logs", logs, "--name", "tiny")
        for regime in REGIMES
    }
    results = {regime: finish(process) for regime, process in processes.items()}
    for regime, result in results.items():
        assert result.status == 0, result.err
        result.folder = logs / regime / "tiny"
        result.metrics = json.loads((result.folder / "metrics.json").read_text())
    return SimpleNamespace(logs=logs, **results)


@pytest.fixture
def one_line():
    """Asserts that a command refused its input as a person would want it to."""

    def check(result, *words, status=2):
        assert result.status == status, result.err
        assert result.err.count("\n") == 1, result.err
        for word in words:
            assert word in result.err

    return check
