"""A model of the whole: whatever a reader does, and in whatever order, what is there belongs together.

WHOLE=500 python -m pytest -m slow tests/test_whole.py     # so many sequences of up to 12 steps
"""

import contextlib
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, predicted
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from PIL import Image

import data
from transfer import results, runs

SEQUENCES = int(os.environ.get("WHOLE", "2"))
CLASSES = ("ant", "bee", "cat")
PICK = st.integers(0, 2**16)


class Killed(BaseException):
    """The end of a process at a moment of its own."""


@contextlib.contextmanager
def killed_at(moment, after):
    """Ends a run at that one of the files it writes, counted from 1, before or after it; 0: never."""
    replace, left = os.replace, moment

    def counted(*paths):
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise Killed
        replace(*paths)
        if left == 0:
            raise Killed

    os.replace = counted
    try:
        yield
    finally:
        os.replace = replace


def unplotted(figure, file, **_):
    Image.new("RGB", (1, 1)).save(file, "PNG")


class Whole(RuleBasedStateMachine):
    @initialize(counts=st.lists(st.integers(6, 14), min_size=3, max_size=3))
    def begin(self, counts):
        self.home = Path(tempfile.mkdtemp())
        os.environ["KERAS_HOME"] = str(self.home / "keras")
        (self.home / "keras").mkdir()
        self.images, self.logs, self.made = self.home / "images", self.home / "logs", 0
        self.checked, self.changed = set(), True
        for name, count in zip(CLASSES, counts, strict=True):
            (self.images / name).mkdir(parents=True)
            for _ in range(count):
                self.draw(name)
        self.train_as("frozen", "--epochs", 2, "--recipe", "report")
        assert (self.folders()[0] / "metrics.json").exists()

    def teardown(self):
        if hasattr(self, "home"):
            shutil.rmtree(self.home)

    # --- what a reader does to images --------------------------------------------------------

    def draw(self, name):
        self.made += 1
        pixels = np.random.default_rng(self.made).integers(0, 256, (9, 8, 3), "uint8")
        Image.fromarray(pixels).save(self.images / name / f"{self.made}.png")

    def files(self):
        return sorted(path for path in self.images.rglob("*.png") if path.is_file())

    @rule(name=st.sampled_from(CLASSES), count=st.integers(1, 5))
    def add(self, name, count):
        self.changed = True
        for _ in range(count):
            self.draw(name)

    @rule(
        pick=PICK,
        what=st.sampled_from(("remove", "rename", "duplicate", "corrupt", "empty", "swap")),
    )
    def change(self, pick, what):
        self.changed = True
        files = self.files()
        path = files[pick % len(files)]
        other = self.images / CLASSES[pick % 3] / f"{what}{pick}.png"
        if what == "remove" and len(files) > 12:
            path.unlink()
        elif what == "rename":
            path.rename(path.with_stem(f"renamed{pick}"))
        elif what == "duplicate":
            shutil.copy2(path, other)
        elif what == "corrupt":
            other.write_bytes(path.read_bytes()[:60])
        elif what == "empty":
            other.touch()
        elif what == "swap":  # another image under the same name, of the same time
            state = path.stat()
            path.write_bytes(files[pick // 2 % len(files)].read_bytes())
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    # --- what a reader does to runs ----------------------------------------------------------

    def folders(self):
        return sorted(path.parent for path in self.logs.glob("*/*/config.json"))

    @precondition(lambda self: self.folders())
    @rule(pick=PICK, what=st.sampled_from(("copy", "move", "delete", "rename logs")))
    def move(self, pick, what):
        self.changed = True
        folders = self.folders()
        folder = folders[pick % len(folders)]
        if what == "copy":
            shutil.copytree(folder, folder.with_name(f"copy{pick}-{len(folders)}"))
        elif what == "move":
            folder.rename(folder.with_name(f"moved{len(folders)}-{pick}"))
        elif what == "delete":
            shutil.rmtree(folder)
        else:
            self.logs.rename(self.home / f"logs{pick}")
            self.logs = self.home / f"logs{pick}"

    def call(self, name, *arguments, expected=(0, 2)):
        out, err = io.StringIO(), io.StringIO()
        argv, sys.argv, status = sys.argv, [name, *map(str, arguments)], 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code or 0
        finally:
            sys.argv = argv
        assert status in expected, err.getvalue()
        if status == 2:
            assert err.getvalue().strip(), "a refusal without a word"
        assert "Traceback" not in err.getvalue()
        return status, out.getvalue(), err.getvalue()

    @rule(
        regime=st.sampled_from(("frozen", "frozen", "last_fire", "full")),
        seed=st.integers(0, 1),
        epochs=st.integers(1, 3),
        skip=st.booleans(),
        mirrored=st.booleans(),
        recipe=st.sampled_from(("report", "report", "tuned")),
        patience=st.sampled_from((0, 0, 1)),
        killed=st.sampled_from((0, 0, 1, 2, 3, 4, 6, 9, 12)),
        after=st.booleans(),
    )
    def train(self, regime, seed, epochs, skip, mirrored, recipe, patience, killed, after):
        arguments = ["--epochs", epochs, "--seed", seed, "--recipe", recipe]
        arguments += ["--on-bad-image", "skip"] if skip else []
        arguments += ["--evaluation", "mirrored"] if mirrored else []
        arguments += ["--early-stopping", patience] if patience else []
        self.train_as(regime, *arguments, killed=killed, after=after)

    def train_as(self, regime, *arguments, killed=0, after=False):
        arguments += ("--data", self.images, "--logs", self.logs, "--weights", "none")
        self.go(f"train_{regime}.py", (*arguments, "--image-size", 32), killed, after)

    @precondition(lambda self: self.folders())
    @rule(
        pick=PICK,
        more=st.integers(0, 2),
        killed=st.sampled_from((0, 0, 1, 2, 3, 4, 6)),
        after=st.booleans(),
    )
    def resume(self, pick, more, killed, after):
        folders = self.folders()
        folder = folders[pick % len(folders)]
        config = json.loads((folder / "config.json").read_text())
        arguments = ["--resume", folder]
        arguments += ["--epochs", config["epochs"] + more] if more else []
        self.go(f"train_{folder.parent.name}.py", arguments, killed, after)

    def go(self, script, arguments, killed, after):
        self.changed = True
        with contextlib.suppress(Killed):
            with killed_at(killed, after):
                status, out, err = self.call(script, *arguments)
            assert "--resume" in arguments or "--help" not in err, err
            if status == 0:
                self.check_scan(out)
        for folder in self.folders():
            self.check(folder)

    @precondition(lambda self: self.changed and list(self.logs.glob("*/*/metrics.json")))
    @rule()
    def compare(self):
        self.call("compare.py", "--logs", self.logs)
        self.changed = False
        for folder in self.folders():
            self.check(folder)

    # --- what must hold ----------------------------------------------------------------------

    def check_scan(self, out):
        """Every file is in a split or in a line that says why not."""
        counts = re.search(r"([\d,]+) train, ([\d,]+) validation, ([\d,]+) test images", out)
        kept = sum(int(count.replace(",", "")) for count in counts.groups())
        left_out = sum(int(count) for count in re.findall(r"note +left out: (\d+)", out))
        assert kept + left_out == len(self.files()), out

    def check(self, folder):
        """All files of a run are of the same state, and its figures those of its model."""
        state = hashlib.sha256()
        for path in sorted([*folder.iterdir(), *self.images.rglob("*")]):
            if path.is_file():
                state.update(f"{path} {path.stat().st_mtime_ns}".encode() + path.read_bytes())
        if state.digest() in self.checked:
            return
        self.checked.add(state.digest())
        split = json.loads((folder / "split.json").read_text())
        digests = [row["sha256"] for rows in split.values() for row in rows]
        assert len(digests) == len(set(digests))
        assert not (folder / "test.json").exists() or (folder / "metrics.json").exists()
        if not (folder / "metrics.json").exists():
            return
        metrics = results.read_metrics(folder)
        assert json.loads((folder / "config.json").read_text()) == metrics["config"]
        config = metrics["config"]
        asked = {key: config[key] for key in ("seed", "on_bad_image")}
        try:
            dataset = data.load(str(self.images), config["image_size"], **asked)
        except (OSError, ValueError):
            return
        if dataset.fingerprint != metrics["data"]["sha256"] or dataset.files != split:
            return
        kept = runs.read_probabilities(
            folder / "validation.npz", (len(split["validation"]), len(CLASSES))
        )
        labels = dataset.validation.labels
        assert np.mean(kept.argmax(axis=1) == labels) == metrics["validation_accuracy"]
        loss = -np.log(kept[np.arange(len(labels)), labels]).mean()
        assert loss == pytest.approx(metrics["validation_loss"], rel=1e-4, abs=1e-6)
        names = [self.images / row["file"] for row in split["validation"]]
        _, out, _ = self.call(
            "predict.py", *names, "--run", folder, "--json", "--top", len(CLASSES)
        )
        # As all images are of one size, nothing is enlarged before the model does it.
        np.testing.assert_allclose(predicted(out), kept, atol=1e-4)


@pytest.mark.slow
def test_the_whole(monkeypatch):
    import tensorflow
    from hypothesis.stateful import run_state_machine_as_test
    from matplotlib.figure import Figure

    monkeypatch.setenv("KERAS_HOME", "")
    # No step looks at a plot, and few trains long enough for the tracing of a graph to pay.
    monkeypatch.setattr(Figure, "savefig", unplotted)
    tensorflow.config.run_functions_eagerly(True)
    run_state_machine_as_test(
        Whole,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=12,
            deadline=None,
            database=None,
            derandomize="WHOLE" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )
