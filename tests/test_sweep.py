"""Trains a grid of runs, says which depth to take, and is right however it is stopped."""

import csv
import itertools
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import REGIMES, ROOT, TINY, finish, start
from PIL import Image
from test_features import built, rule

from transfer import curve, depths, files, grid, plots, pool, settings, sweeping, terminal
from transfer.pool import Outcome
from transfer.precision import choose_precision
from transfer.runs import Run
from transfer.table import Row, overlapping

GRID = (*TINY, "--precision", "float32", "--depth", "head", "all", "--images-per-class", "5", "10")
GRID += ("--seed", "3")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of four runs: what it printed, and its folder."""
    logs = tmp_path_factory.mktemp("sweep")
    home = tmp_path_factory.mktemp("keras")  # in which there are no features yet
    result = finish(start("sweep.py", *GRID, "--logs", logs, KERAS_HOME=str(home)))
    assert result.status == 0, result.err
    result.logs, result.home = logs, home
    with (logs / "sweep.csv").open() as file:
        result.lines = list(csv.DictReader(file))
    return result


@pytest.mark.parametrize("depth", depths.REGIMES)
def test_a_depth_trains_what_its_script_does(depth):
    regime = depths.regime(depth)
    assert regime in REGIMES
    trainable, _ = rule(regime)
    for layer in built(regime).layers:
        assert depths.rule(depth)(layer) == trainable(layer), layer.name


def test_depths_train_more_and_more():
    layers = [layer for layer in built("full").layers if layer.weights]
    counts = [sum(map(depths.rule(depth), layers)) for depth in depths.DEPTHS]
    assert counts == sorted(set(counts))
    assert counts[-1] == len(layers)


def test_of_settings_that_are_as_accurate_the_lower_loss_decides():
    def run(rate, loss):
        made = {
            "validation_accuracy": 0.75, "validation_loss": loss, "seconds": 1.0, "trainable_params": 1,
            "validation_images": 8, "data": {}, "config": {"seed": 0, "learning_rate": rate},
        }  # fmt: skip
        config = settings.Config("frozen", learning_rate=rate)
        trial = grid.Trial("head", config, "head")
        return curve.Result(trial, "finished", run=Run(Path("x"), made))

    for rates in ((1e6, 1e-3), (1e-3, 1e6)):
        found = [run(rate, 0.3 if rate == 1e-3 else 9.0) for rate in rates]
        ((point,),) = curve.points(found, ["learning_rate"]).values()
        assert point.settings == {"learning_rate": 1e-3}


@pytest.mark.parametrize("line", [0, 3])
def test_a_trial_equals_the_run_of_its_script(swept, script, tmp_path, line):
    """To the bit, whatever ran in its process before and whoever computed its features."""
    trial = swept.lines[line]
    regime = depths.regime(trial["depth"])
    arguments = ("--images-per-class", trial["images_per_class"], "--seed", 3)
    result = script(
        f"train_{regime}.py", *TINY, *arguments, "--precision", "float32", "--logs", tmp_path,
        "--name", "alone",
    )  # fmt: skip
    assert result.status == 0, result.err
    folders = tmp_path / regime / "alone", Path(trial["run"])
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert metrics[0]["history"] == metrics[1]["history"]
    models = [keras.models.load_model(folder / "model.keras") for folder in folders]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_sweep_leaves(swept):
    assert [(line["images_per_class"], line["depth"]) for line in swept.lines] == [
        ("5", "head"), ("5", "all"), ("10", "head"), ("10", "all"),
    ]  # fmt: skip
    for line in swept.lines:
        metrics = json.loads((ROOT / line["run"] / "metrics.json").read_text())
        for key in ("validation_accuracy", "validation_loss", "seconds", "trainable_params"):
            assert float(line[key]) == metrics[key]
    text = (swept.logs / "sweep.md").read_text()
    for amount in (5, 10):
        assert f"## {amount} images per class" in text
        assert f"\n{amount} images per class: " in swept.out
    assert (swept.logs / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "4/4 finished" in swept.out


def test_what_is_finished_is_not_trained_again(swept, script):
    before = {path: path.stat().st_mtime_ns for path in swept.logs.rglob("metrics.json")}
    assert len(before) == 4
    again = script("sweep.py", *GRID, "--logs", swept.logs)
    assert (again.status, again.err) == (0, "")
    assert "none to train" in again.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    # What the rule has chosen, spelled out.
    spelled = script("sweep.py", *GRID, "--dropout", "0.5", "--list", "--logs", swept.logs)
    assert "none to train" in spelled.out
    grown = script("sweep.py", *GRID, "4", "--list", "--logs", swept.logs)
    assert "8 runs" in grown.out and "4 to train" in grown.out
    # What says nothing about training.
    about = ("--histograms", "--features", "none", "--on-bad-image", "skip")
    assert "none to train" in script("sweep.py", *GRID, *about, "--list", "--logs", swept.logs).out


def test_runs_of_a_sweep_are_ordinary_runs(swept, script):
    table = script("compare.py", "--logs", swept.logs)
    assert table.status == 0, table.err
    assert table.out.count("sweep-10-per-class-seed-3") >= 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--depth", "fire1"), ["--depth", "fire1"]),
        (("--depth", "head", "head"), ["--depth", "head", "twice"]),
        (("--seed", "0", "0"), ["--seed", "twice"]),
        (("--seed",), ["--seed", "expected"]),
        (("--learning-rate", "1e-3", "-1"), ["--learning-rate", "-1"]),
        (("--optimizer", "adam", "adan"), ["--optimizer", "adan"]),
        (("--images-per-class", "0"), ["--images-per-class", "1 or more"]),
        (("--folds", "2", "--fold", "3"), ["--fold", "3"]),
        (("--fold", "1"), ["--fold", "--folds of 2 or more"]),
        (("--optimizer", "adam", "adamw"), ["--optimizer", "the same here"]),
        (
            ("--precision", "auto", choose_precision("auto")[0]),
            ["--precision", "the same on this machine"],
        ),
        (("--folds", "2", "3"), ["--folds", "one value", "different images"]),
        (("--near-duplicates", "keep", "drop"), ["--near-duplicates", "one value"]),
        (
            ("--near-duplicates", "drop", "--image-size", "64", "96"),
            ["--image-size", "one value", "different images"],
        ),
        (("--weights", "none", "missing.h5"), ["missing.h5", "does not exist"]),
        (("--seed", *map(str, range(2000))), ["12,000", "--yes"]),
        (("--folds", "1000000"), ["18,000,000 runs", "--yes"]),
        (
            ("--near-duplicates", "drop"),
            ["shapes is no folder", "leave --near-duplicates drop out"],
        ),
        (("--images-per-class", "10", "500"), ["500", "--skip-impossible"]),
        (("--data", "missing/"), ["missing/"]),
        (("--lern", "1"), ["--lern"]),
        (("--resume", "logs/x"), ["--resume"]),
    ],
)
def test_refuses_before_a_trial_starts(script, one_line, tmp_path, arguments, words):
    logs = tmp_path / "logs"
    result = script("sweep.py", "--data", "shapes", "--logs", logs, *arguments)
    one_line(result, *words)
    assert result.out == ""
    assert not logs.exists()


def test_impossible_runs_can_be_left_out(script, tmp_path):
    arguments = ("--data", "shapes", "--seed", "0", "--images-per-class", "10", "500", "--list")
    result = script("sweep.py", *arguments, "--skip-impossible", "--logs", tmp_path)
    assert result.status == 0, result.err
    assert result.out.count("  impossible: ") == 6
    assert "6 to train" in result.out
    asked = asked_for(*arguments[:-1], "--logs", str(tmp_path))
    found, _ = sweeping.begin(asked, "shapes", tmp_path, skip_impossible=True)
    (_, more) = curve.answers(found, asked.varied)
    assert more == (
        "500 images per class: no depth can be judged; 6 of 6 runs need more images than there are"
    )
    assert curve.comma_separated(found, asked.varied).count("impossible,,,,,\n") == 6


def test_the_folder_of_another_sweep_is_refused(swept, script, one_line):
    result = script("sweep.py", *GRID, "--data", "cifar10", "--logs", swept.logs)
    if "can't be downloaded" not in result.err:
        one_line(result, "other images", "--logs")


def test_the_answer_is_given_even_if_it_cant_be_written(swept, script, one_line, tmp_path):
    logs = shutil.copytree(swept.logs, tmp_path / "logs")
    (logs / "sweep.md").unlink()
    (logs / "sweep.md").mkdir()
    result = script("sweep.py", *GRID, "--logs", logs)
    assert "5 images per class: " in result.out and "10 images per class: " in result.out
    one_line(result, "sweep.md")


def test_files_that_change_their_names_are_other_splits_and_so_other_runs(script, tmp_path):
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(5):
            pixels = random.integers(0, 256, (8, 8, 3), "u1")
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    asked = ("--data", tmp_path / "images", "--weights", "none", "--depth", "head", "--seed", "0")
    tiny = ("--image-size", "32", "--epochs", "1", "--logs", tmp_path / "logs")
    assert script("sweep.py", *asked, *tiny).status == 0
    assert "none to train" in script("sweep.py", *asked, *tiny, "--list").out
    (tmp_path / "images" / "ant" / "0.png").rename(tmp_path / "images" / "ant" / "9.png")
    assert "1 to train" in script("sweep.py", *asked, *tiny, "--list").out
    (tmp_path / "images" / "ant" / "9.png").rename(tmp_path / "images" / "ant" / "0.png")
    assert "none to train" in script("sweep.py", *asked, *tiny, "--list").out
    (tmp_path / "images" / "ant").rename(tmp_path / "images" / "aphid")
    assert "1 to train" in script("sweep.py", *asked, *tiny, "--list").out


@pytest.mark.slow
def test_where_views_are_new_each_epoch_the_head_reads_the_features_of_depth_head(
    swept, script, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(swept.home))
    asked = (*TINY, "--precision", "float32", "--images-per-class", "5", "--seed", "3")
    result = script("sweep.py", *asked, "--epochs", "1", "--depth", "fire4", "--logs", tmp_path)
    assert result.status == 0, result.err
    (output,) = (tmp_path / "sweep").glob(f"{depths.regime('fire4')}-*.txt")
    assert "already computed" in output.read_text()


def asked_for(*arguments):
    """Reads the command line of a sweep; returns its grid."""
    parser = terminal.Parser()
    parser.add_argument("--yes", action="store_true")
    return grid.parse(parser, list(map(str, arguments)))[0]


@pytest.fixture
def trials(tmp_path):
    """A small sweep on drawn images, of which nothing has been trained."""
    asked = asked_for(*GRID, "--logs", str(tmp_path))
    return sweeping.begin(asked, "shapes", tmp_path, skip_impossible=False)[0]


class Dying:
    """A pool whose process dies in the trial of one depth, and which finishes all others."""

    def __init__(self):
        self.busy, self.started = [], []

    def free(self):
        return not self.busy

    def start(self, trial):
        self.busy.append(trial)
        self.started.append(trial.depth)

    def finished(self, seconds):
        trial = self.busy.pop()
        return [
            (trial, Outcome("died", "killed") if trial.depth == "all" else Outcome("failed", "bad"))
        ]

    def close(self):
        pass


def test_a_trial_whose_process_dies_is_retried_twice(trials, tmp_path):
    dying = Dying()
    sweeping.train(trials, tmp_path, "fingerprint", dying)
    assert dying.started.count("all") == 2 * 3
    assert dying.started.count("head") == 2
    assert [one.status for one in trials] == ["failed"] * 4
    assert "killed" in trials[1].reason


def test_a_trial_that_is_terminated_alone_is_retried(trials, tmp_path):
    dying = Dying()
    dying.finished = lambda seconds: [(dying.busy.pop(), Outcome("interrupted"))]
    sweeping.train(trials, tmp_path, "fingerprint", dying)
    assert dying.started.count("all") == 2 * 3
    assert [one.status for one in trials] == ["failed"] * 4
    assert "terminated" in trials[1].reason


def test_a_trial_whose_machine_died_waits_for_its_lock(trials, tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping, "PAUSE", 0)
    taken = Outcome("taken", "another process is training it")
    outcomes = [Outcome("died", "killed"), taken, taken, taken, Outcome("failed", "bad"), taken]
    dying = Dying()
    dying.finished = lambda seconds: [(dying.busy.pop(), outcomes.pop(0))]
    first, second = (one._replace(status="waiting") for one in trials[:2])
    sweeping.train(found := [first], tmp_path, "fingerprint", dying)
    assert len(dying.started) == 5 and found[0].reason.startswith("bad")
    # One that is another sweep's does not wait.
    sweeping.train(found := [second], tmp_path, "fingerprint", dying)
    assert (found[0].status, found[0].reason) == ("failed", taken.reason)


def test_a_trial_that_another_process_trains_is_taken(trials):
    trial = trials[0].trial
    trial.output.parent.mkdir(parents=True)
    trial.output.touch()
    with files.held(trial.output):
        assert pool.train(trial).status == "taken"


def test_a_label_is_shown_on_a_terminal_as_it_is(trials, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    label = "w[/b].h5 [old]"
    found = [trials[0]._replace(trial=trials[0].trial._replace(label=label), status="running")]
    with sweeping._shown(found) as show:
        show()
    assert label in capsys.readouterr().out


class Pressed(Dying):
    """A pool in which Ctrl-C is pressed a second time."""

    def finished(self, seconds):
        raise KeyboardInterrupt


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_trial_on_a_full_disk_fails_with_that_reason(trials, tmp_path):
    output = trials[0].trial.output
    output.parent.mkdir(parents=True)
    output.symlink_to("/dev/full")
    outcome = pool.train(trials[0].trial._replace(depth="no such depth"))
    assert outcome == Outcome("failed", "No space left on device")


def test_a_terminated_trial_is_interrupted(trials, monkeypatch):
    monkeypatch.setattr(
        "transfer.run.run", lambda *_: signal.raise_signal(signal.SIGTERM) or time.sleep(9)
    )

    def ignore(*_):
        pass

    before = signal.signal(signal.SIGTERM, ignore)
    try:
        assert pool.train(trials[0].trial) == Outcome("interrupted")
        assert signal.getsignal(signal.SIGTERM) is ignore
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_was_running_when_ctrl_c_was_pressed_again_was_interrupted(trials, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweeping.train(trials, tmp_path, "fingerprint", Pressed())
    assert sorted(one.status for one in trials) == ["interrupted"] + ["waiting"] * 3


class Terminated(Dying):
    """A pool in which the sweep is told to end, as by a batch system's time limit."""

    def __init__(self):
        super().__init__()
        self.interrupted = False

    def finished(self, seconds):
        if self.interrupted:
            return [(self.busy.pop(), Outcome("interrupted"))]
        signal.raise_signal(signal.SIGTERM)
        return []

    def interrupt(self):
        self.interrupted = True


def test_a_sweep_that_is_terminated_stops_in_order(trials, tmp_path):
    terminated = Terminated()
    with pytest.raises(KeyboardInterrupt):
        sweeping.train(trials, tmp_path, "fingerprint", terminated)
    assert terminated.interrupted
    assert sorted(one.status for one in trials) == ["interrupted"] + ["waiting"] * 3


class Forgetful(Dying):
    """A pool that says that it has finished each trial, and leaves nothing."""

    def finished(self, seconds):
        return [(self.busy.pop(), Outcome("finished"))]


def test_a_run_whose_figures_cant_be_read_is_named(trials, tmp_path):
    sweeping.train(trials, tmp_path, "fingerprint", Forgetful())
    assert {(one.status, one.reason) for one in trials} == {
        ("failed", "its metrics.json can't be read")
    }
    (tmp_path / "sweep.png").write_text("an older plot")
    written = sweeping.write(trials, ["seed"], tmp_path)
    assert [path.name for path in written] == ["sweep.md", "sweep.csv"]
    assert not (tmp_path / "sweep.png").exists()


def test_damaged_files_of_an_earlier_sweep_are_named(script, one_line, tmp_path):
    arguments = (
        "sweep.py",
        *GRID,
        "--depth",
        "head",
        "--images-per-class",
        "5",
        "--logs",
        tmp_path,
    )
    asked = asked_for(*arguments[1:])
    ((one,), _) = sweeping.begin(asked, "shapes", tmp_path, skip_impossible=False)
    one.trial.folder.mkdir(parents=True)
    (one.trial.folder / "metrics.json").touch()
    result = script(*arguments)
    assert result.status == 1
    assert f"{one.trial.folder / 'metrics.json'} is damaged" in result.out, result.out
    assert "sweep.md, sweep.csv\n" in result.out
    (tmp_path / "sweep.json").touch()
    one_line(script(*arguments), f"{tmp_path / 'sweep.json'} is damaged", "remove it")


def test_a_trial_that_was_stopped_early_is_not_finished(tmp_path, script, one_line, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    arguments = (*TINY, "--seed", "3", "--depth", "head", "--images-per-class", "100")
    asked = asked_for(*arguments, "--logs", str(tmp_path))
    ((one,), _) = sweeping.begin(asked, "shapes", tmp_path, skip_impossible=False)
    outcome = pool.train(one.trial, hopeless=lambda percent, accuracy: percent >= 50)
    assert outcome.status == "stopped" and "after epoch 1 of 2" in outcome.reason

    def begun(stop_worst):
        ((one,), _) = sweeping.begin(asked, "shapes", tmp_path, False, stop_worst)
        return one

    assert (begun(True).status, begun(True).reason) == ("stopped", outcome.reason)
    assert curve.points([begun(True)], []) == {}
    assert begun(False).status == "waiting"
    with monkeypatch.context() as patched:
        patched.setattr("transfer.run.run", interrupted)
        assert pool.train(one.trial).status == "interrupted"
    survivor = one._replace(
        trial=one.trial._replace(label="other"), run=point("head", 0.9).row.runs[0]
    )
    assert curve.points([begun(False), survivor], []) == {}
    assert pool.train(one.trial).status == "finished"  # it is resumed
    assert begun(True).status == "finished" and not one.trial.stopped.exists()
    assert "resume      after epoch 1 of 2" in one.trial.output.read_text()
    one_line(script("sweep.py", *arguments, "--stop-worst"), "--stop-worst", "--address")


def test_a_trial_is_resumed_although_its_images_were_moved(tmp_path):
    images, labels = (
        np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), "u1"),
        np.arange(40) % 2,
    )
    paths = [tmp_path / "old.npz", tmp_path / "new.npz"]
    np.savez(paths[0], x_train=images, y_train=labels, x_test=images[:4], y_test=labels[:4])
    flags = (*TINY[2:], "--seed", "3", "--depth", "head", "--logs", str(tmp_path / "logs"))
    asked = asked_for("--data", str(paths[0]), *flags)
    ((one,), _) = sweeping.begin(asked, str(paths[0]), tmp_path / "logs", False)
    assert pool.train(one.trial, hopeless=lambda percent, _: percent >= 50).status == "stopped"
    paths[0].rename(paths[1])
    asked = asked_for("--data", str(paths[1]), *flags)
    ((moved,), _) = sweeping.begin(asked, str(paths[1]), tmp_path / "logs", False)
    assert moved.trial.folder == one.trial.folder
    outcome = pool.train(moved.trial)
    assert outcome.status == "finished", outcome
    assert "resume      after epoch 1 of 2" in one.trial.output.read_text()
    assert json.loads((one.trial.folder / "config.json").read_text())["data"] == str(paths[1])


METRICS = {
    "regime": "frozen", "recipe": "tuned", "validation_loss": 1.0, "validation_accuracy": 0.5,
    "trainable_params": 10, "epochs": 40, "seconds": 1.0, "images_per_second": 1.0,
    "precision": "float32", "history": dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), [0.5])
    | {"epoch": [40]},
    "data": {"source": "shapes", "sha256": "", "description": "shapes", "class_names": ["a"]},
    "config": {"optimizer": "adam", "image_size": 32, "seed": 3},
}  # fmt: skip


def test_a_trial_that_was_extended_is_not_the_one_asked_for(trials, tmp_path):
    one = trials[0]
    metrics = METRICS | {"data": METRICS["data"] | one.images}
    one.trial.folder.mkdir(parents=True)
    for extended, status in (("", "finished"), ("2", "failed")):
        metrics["config"] = METRICS["config"] | {"extended_from": extended}
        (one.trial.folder / "metrics.json").write_text(json.dumps(metrics))
        assert sweeping._state(one).status == status
    assert "extended it to 40 epochs" in sweeping._state(one).reason
    # Where the rate does not decay, an extension is as a run that was planned for as many.
    metrics["config"] = METRICS["config"] | {"epochs": 40}
    (one.trial.folder / "metrics.json").write_text(json.dumps(metrics))
    assert one.epochs == 2 and sweeping._state(one).status == "failed"


def test_another_run_in_a_trials_folder_is_not_the_one_asked_for(trials):
    one, other = trials[:2]
    one.trial.folder.mkdir(parents=True)
    for name, status in ((one.trial.config.name, "finished"), (other.trial.config.name, "failed")):
        found = METRICS | {"data": METRICS["data"] | one.images}
        found["config"] = METRICS["config"] | {"name": name}
        (one.trial.folder / "metrics.json").write_text(json.dumps(found))
        state = sweeping._state(one)
        assert state.status == status
    assert f"holds the run {other.trial.config.name}: move it" in state.reason


def test_what_is_unusual_about_the_images_is_said_once(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name, count in (("left", 12), ("right", 40)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (32, 32, 3), "uint8")
            Image.fromarray(pixels).save(folder / f"{number}.png")
    asked = asked_for("--data", tmp_path / "images", "--weights", "none", "--depth", "head", "all")
    sweeping.begin(asked, str(tmp_path / "images"), tmp_path / "logs", skip_impossible=False)
    out = capsys.readouterr().out
    assert out.count("note        the largest class has 40 images, the smallest 12") == 1
    assert (
        out.count("note        training mirrors images: if left and right are mirror images") == 1
    )


def test_batches_as_large_as_all_images_are_one_run(tmp_path, capsys):
    flags = ("--depth", "head", "--seed", 0, "--images-per-class", 5, "--batch-size", 100, 200)
    asked = asked_for("--data", "shapes", "--weights", "none", *flags)
    ((one,), _) = sweeping.begin(asked, "shapes", tmp_path, skip_impossible=False)
    assert str(one.trial) == "head, batch size 100"
    assert "head, batch size 200 is the same run as head, batch size 100" in capsys.readouterr().out


def test_a_trial_is_named_after_the_content_of_its_weights(tmp_path):
    path = tmp_path / "mine.h5"
    flags = ("--data", "shapes", "--depth", "head", "--seed", "3", "--weights", str(path))
    begun = []
    for number in range(2):
        with h5py.File(path, "w") as file:
            file["number"] = number
        asked = asked_for(*flags, "--logs", str(tmp_path / "logs"))
        ((one,), _) = sweeping.begin(asked, "shapes", tmp_path / "logs", False)
        assert one.weights == files.digest(path)
        begun.append(one.trial.folder)
    assert begun[0] != begun[1]


def test_a_trial_that_began_with_other_weights_is_not_the_one_asked_for(trials):
    one = trials[0]
    one.trial.folder.mkdir(parents=True)
    for sha256, status in (("a", "finished"), ("b", "failed")):
        found = METRICS | {"data": METRICS["data"] | one.images, "weights": {"sha256": sha256}}
        (one.trial.folder / "metrics.json").write_text(json.dumps(found))
        state = sweeping._state(one._replace(weights="a"))
        assert state.status == status
    assert "the weights changed while it was trained" in state.reason


def write_metrics(one, accuracy=0.5):
    """Leaves the figures of a trial; damaged ones if it has no accuracy."""
    found = METRICS | {"data": METRICS["data"] | one.images, "validation_images": 100}
    text = json.dumps(found | {"validation_accuracy": accuracy}) if accuracy else "{"
    one.trial.folder.mkdir(parents=True)
    (one.trial.folder / "metrics.json").write_text(text)


def test_a_run_that_finished_as_its_sweep_was_terminated_is_finished(trials, tmp_path):
    class Finishing(Terminated):
        def interrupt(self):
            super().interrupt()
            write_metrics(next(one for one in trials if one.trial in self.busy))

    with pytest.raises(KeyboardInterrupt):
        sweeping.train(trials, tmp_path, "fingerprint", Finishing())
    assert sorted(one.status for one in trials) == ["finished"] + ["waiting"] * 3


def test_a_trial_that_another_sweep_finished_meanwhile_is_finished(trials, tmp_path):
    class Pool:
        busy, closed = False, False

        def free(self):
            return True

        def start(self, trial):
            self.busy = True

        def finished(self, seconds):
            self.busy = False
            yield trials[0].trial, pool.Outcome("failed", "another process is training it")

        def close(self):
            write_metrics(trials[0])

    found = [trials[0]._replace(status="waiting", run=None)]
    sweeping.train(found, tmp_path / "logs", "sha256", Pool())
    assert found[0].status == "finished" and found[0].reason == ""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no other")
def test_logs_that_can_not_be_made_are_named(script):
    result = script("sweep.py", *GRID, "--logs", "/proc/none")
    assert result.status == 2
    assert result.err == "sweep.py: /proc/none can't be used: No such file or directory\n"


def test_a_file_in_place_of_the_logs_is_refused_before_anything_is_listed(
    script, one_line, tmp_path
):
    (tmp_path / "logs").touch()
    result = script("sweep.py", *TINY, "--depth", "head", "--logs", tmp_path / "logs", "--list")
    one_line(result, "logs can't be made, a file of that name exists: choose another --logs")


@pytest.mark.slow
def test_a_failed_trial_stops_no_other(script, tmp_path):
    arguments = (*TINY, "--seed", "0", "--images-per-class", "5", "--depth", "head", "all")
    found = script("sweep.py", *arguments, "--logs", tmp_path, "--list")
    assert found.status == 0, found.err
    (tmp_path / "frozen").write_text("in the way")
    result = finish(start("sweep.py", *arguments, "--logs", tmp_path))
    assert result.status == 1, result.err
    assert "failed" in result.out and "can't be made" in result.out
    with (tmp_path / "sweep.csv").open() as file:
        assert [line["status"] for line in csv.DictReader(file)] == ["failed", "finished"]


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(tmp_path):
    arguments = [sys.executable, ROOT / "sweep.py", *GRID, "--logs", tmp_path]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "4 to train" in process.stdout.readline()
    assert "1/4 finished" in process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "sweep.py: interrupted: the same command continues the sweep\n"
    assert "runs are missing" in (tmp_path / "sweep.md").read_text()
    result = finish(start("sweep.py", *GRID, "--logs", tmp_path))
    assert result.status == 0, result.err
    # The run that Ctrl-C came into may have finished before it could stop.
    assert re.search("[23] to train", result.out) and "4/4 finished" in result.out


# --- what is said -----------------------------------------------------------------------------


def point(depth, *accuracies, images=400):
    runs = [
        Run(Path(), {
            "validation_accuracy": accuracy, "validation_loss": 1.0, "seconds": 5.0,
            "trainable_params": 100, "validation_images": images, "config": {"fold": 0}, "data": {},
        })
        for accuracy in accuracies
    ]  # fmt: skip
    return curve.Point(10, depth, {}, Row(runs))


def test_the_shallowest_depth_within_one_standard_error_is_taken():
    # 0.80 ± 0.02 of three seeds on 400 images: sqrt(0.02² / 3 + 0.8 * 0.2 / 400) is about 0.0231.
    deepest = point("all", 0.78, 0.80, 0.82)
    assert deepest.error == pytest.approx(0.0231, abs=1e-4)
    said = curve.answer([point("head", 0.77), point("fire8", 0.78, 0.78), deepest])
    assert said.startswith("10 images per class: take fire8: 0.7800")
    assert "gains 0.0200 at most" in said
    said = curve.answer([point("head", 0.70), point("fire8", 0.75), deepest])
    assert "take all: 0.8000" in said and "it is the deepest" in said


def test_a_depth_that_is_missing_may_be_deeper():
    found = [point("head", 0.50), point("fire8", 0.80)]
    assert "it is the deepest that can be judged" in curve.answer(found, complete=False)
    assert "only one depth can be judged" in curve.answer(found[:1], complete=False)


def test_it_says_where_no_difference_is_measurable():
    few = [point("head", 0.80), point("all", 0.81)]
    assert "no difference is measurable with these seeds" in curve.answer(few)
    many = [point("head", 0.80, images=40_000), point("all", 0.81, images=40_000)]
    assert "take all: 0.8100" in curve.answer(many)


def test_gains_are_over_the_same_depth_for_all_numbers_of_images():
    lines = {
        "10": [point("fire8", 0.5), point("all", 0.6)],
        "100": [point("head", 0.6), point("fire8", 0.65), point("all", 0.75)],
    }
    *_, axes = plots.sweep("title", ["head", "fire8", "all"], lines).axes
    assert axes.get_title() == "gain over fire8, in points"
    assert [text.get_text() for text in axes.texts] == ["+0.0", "+10.0", "-5.0", "+0.0", "+10.0"]


def test_of_other_settings_the_best_are_shown():
    def finished(rate, accuracy):
        config = settings.Config(regime="frozen", learning_rate=rate)
        (run,) = point("head", accuracy).row.runs
        return curve.Result(grid.Trial("head", config, "head"), "finished", run=run)

    found = [finished(1e-3, 0.7), finished(1e-4, 0.8), finished(1e-5, 0.6)]
    ((best,),) = curve.points(found, ["learning_rate"]).values()
    assert (best.settings, best.accuracy) == ({"learning_rate": 1e-4}, 0.8)
    assert "head, learning rate 0.0001: 0.8000" in curve.answer([best])


def test_names_in_the_report_are_no_markup():
    def result(weights, depth, run=None, reason=""):
        trial = grid.Trial(depth, settings.Config("frozen", weights=weights), f"{depth}, {weights}")
        return curve.Result(trial, "finished" if run else "failed", reason, run)

    (run,) = point("head", 0.7).row.runs
    found = [result("_a_<b>.h5", "head", run), result("*c*.h5", "all", reason="`d` is #1")]
    text = curve.markdown(found, ["weights"])
    assert r"weights \_a\_\<b\>.h5: 0.7000" in text
    assert r"| head | \_a\_\<b\>.h5 |" in text
    assert r"- all, \*c\*.h5: failed, \`d\` is \#1" in text


def test_what_is_missing_is_said():
    config = settings.Config(regime="frozen")
    done = curve.Result(
        grid.Trial("head", config, "head"), "finished", run=point("head", 0.7).row.runs[0]
    )
    failed = curve.Result(grid.Trial("all", config, "all"), "failed", "memory ran out")
    (line,) = curve.answers([done, failed], [])
    assert line.endswith("; 1 of 2 runs are missing")
    assert "memory ran out" in curve.markdown([done, failed], [])


def test_an_only_run_that_is_missing_is_singular():
    failed = curve.Result(grid.Trial("all", settings.Config("full"), "all"), "failed")
    assert curve.answers([failed], []) == [
        "all images: no depth can be judged yet; its run is missing"
    ]


def test_a_setting_that_failed_may_have_been_the_better_one_of_its_depth():
    def result(depth, rate, accuracy=None):
        trial = grid.Trial(depth, settings.Config(regime=depth, learning_rate=rate), depth)
        if accuracy is None:
            return curve.Result(trial, "failed", "memory ran out")
        return curve.Result(trial, "finished", run=point(depth, accuracy).row.runs[0])

    found = [result("head", 1e-3, 0.7), result("all", 1e-3, 0.9), result("all", 1e-4)]
    (line,) = curve.answers(found, ["learning_rate"])
    assert "it is the deepest that can be judged yet; 1 of 3 runs are missing" in line


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        (
            {"head": (0.95, 0.65), "fire9": (0.9, None)},
            "only one depth can be judged, head: 0.8000",
        ),
        (
            {"head": (0.95, None), "fire9": (None, 0.9)},
            "no depth can be judged yet; 2 of 4 runs are",
        ),
        (
            {"head": (0.9, 0.9), "fire9": (0.5, 0.5), "all": (None, None)},
            "take head: 0.9000 (1 s per run, 10 trainable parameters); nothing deeper that can be judged "
            "yet was more accurate; 2 of 6",
        ),
        (
            {"head": (0.9, 0.9), "fire9": (0.89, 0.89), "all": (0.99, None)},
            "no difference is measurable between the depths that can be judged yet; take the shallowest",
        ),
        (
            {"head": (0.6, 0.6), "fire9": (0.89, 0.89), "fire8": (0.9, 0.9), "all": (None, None)},
            "; a deeper one that can be judged yet gains 0.0100 at most",
        ),
    ],
)
def test_a_depth_of_which_a_run_failed_is_not_judged(script, tmp_path, accuracies, words):
    flags = (*TINY, "--seed", 0, 1, "--depth", *accuracies, "--logs", tmp_path)
    found, _ = sweeping.begin(asked_for(*flags), "shapes", tmp_path, skip_impossible=False)
    for one in found:
        write_metrics(one, accuracies[one.trial.depth][one.trial.config.seed])
    result = script("sweep.py", *flags)
    assert result.status == 1 and words in result.out


def test_a_sweep_whose_runs_were_trained_elsewhere_is_of_its_images_too(script, one_line, tmp_path):
    flags = (*TINY, "--depth", "head", "--logs", tmp_path)
    found, _ = sweeping.begin(asked_for(*flags), "shapes", tmp_path, skip_impossible=False)
    for one in found:
        write_metrics(one, 0.9)
    assert "none to train" in script("sweep.py", *flags).out
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), "uint8")
    np.savez(tmp_path / "other.npz", x_train=images, y_train=np.arange(60) % 2)
    result = script("sweep.py", *flags, "--data", tmp_path / "other.npz")
    one_line(result, f"{tmp_path} holds the sweep of other images")


def test_depths_from_different_machines_are_said_to_be_such():
    found = []
    for depth, precision, version in (("head", "float32", "3.14.0"), ("all", "bfloat16", "3.15.0")):
        (run,) = point(depth, 0.7).row.runs
        run.metrics.update(precision=precision, versions={"keras": version})
        trial = grid.Trial(depth, settings.Config(regime=depth), depth)
        found.append(curve.Result(trial, "finished", run=run))
    by_precision, by_version = curve.answers(found, [])[1:]
    assert by_precision.startswith("runs in bfloat16 and float32 are compared: ")
    assert "between runs with different versions (keras 3.14.0, keras 3.15.0)" in by_version
    (by_version,) = curve.answers(found, ["precision"])[1:]
    assert "keras 3.14.0" in by_version


def test_means_over_several_precisions_are_said_to_be_such():
    config = settings.Config(regime="frozen")
    found = []
    for precision in ("float32", "mixed_bfloat16"):
        (run,) = point("head", 0.7).row.runs
        run.metrics["precision"] = precision
        found.append(curve.Result(grid.Trial("head", config, "head"), "finished", run=run))
    assert curve.answers(found, [])[1:] == [
        "the means are over runs in float32 and mixed_bfloat16; compare.py lists them separately"
    ]
    assert len(curve.answers(found, ["precision"])) == 1
    assert len(curve.answers(found[:1], [])) == 1


def finished(accuracy=0.7, recipe="tuned", **metrics):
    config = settings.Config(regime="frozen", recipe=recipe)
    (run,) = point("head", accuracy).row.runs
    run.metrics.update(metrics)
    return curve.Result(grid.Trial("head", config, "head"), "finished", run=run)


def test_means_that_mix_no_precisions_are_not_said_to_do_so():
    found = [
        finished(recipe="tuned", precision="mixed_bfloat16"),
        finished(recipe="report", precision="float32"),
    ]
    assert len(curve.answers(found, ["recipe"])) == 1


def test_means_over_several_versions_are_said_to_be_such():
    old, new = ({"keras": version, "numpy": "2.0.0"} for version in ("3.14.0", "3.15.0"))
    (_, line) = curve.answers([finished(versions=old), finished(versions=new)], [])
    assert "(keras 3.14.0, keras 3.15.0)" in line
    for alike in ([finished(versions=old), finished()], [finished(versions=old)] * 2):
        assert len(curve.answers(alike, [])) == 1


def test_the_best_run_of_a_point_comes_first():
    ((best,),) = curve.points([finished(0.6), finished(0.8), finished(0.7)], []).values()
    assert [run.metrics["validation_accuracy"] for run in best.row.runs] == [0.8, 0.7, 0.6]


def test_folds_of_several_seeds_are_of_the_same_images():
    runs = [
        Run(Path(), {
            "validation_accuracy": 0.8, "validation_images": 40, "data": {"order": {"validation": f"{seed} {fold}"}},
            "config": {"fold": fold, "seed": seed},
        })
        for seed in range(3) for fold in range(1, 6)
    ]  # fmt: skip
    one, three = (curve.Point(10, "head", {}, Row(some)) for some in (runs[:5], runs))
    assert one.row.validation_images == three.row.validation_images == 200
    assert one.row.interval == three.row.interval and one.error == three.error


def test_seeds_of_folds_draw_no_other_images():
    """Each image is validated three times, so their spread does not show all that is chance in them."""
    accuracies = (0.7, 0.9) * 3
    runs = [
        run._replace(metrics=run.metrics | {"config": {"fold": fold, "folds": 2, "seed": seed}})
        for run, (seed, fold) in zip(
            point("head", *accuracies, images=100).row.runs,
            itertools.product(range(3), (1, 2)), strict=True,
        )
    ]  # fmt: skip
    # Two folds of other seeds have half of their images in common, two of a seed none: 2 of 5 on average.
    by_images, by_seed = 0.16 / 200, statistics.variance(accuracies) - (1 - 2 / 5) * 0.16 / 100
    assert Row(runs).error == pytest.approx((by_images + by_seed / 6) ** 0.5, rel=1e-2)


def test_chance_in_the_images_counts_once():
    """Where runs validate on different images, their spread has it already."""
    same = point("head", 0.7, 0.8, 0.9).row
    orders = [{"data": {"order": {"validation": str(number)}}} for number in range(3)]
    apart = Row([
        run._replace(metrics=run.metrics | order)
        for run, order in zip(same.runs, orders, strict=True)
    ])  # fmt: skip
    by_seed = 0.1**2 / 3
    assert apart.error == pytest.approx(by_seed**0.5)
    assert same.error == pytest.approx((by_seed + 0.16 / 400) ** 0.5, rel=1e-2)
    dropped = Row([
        run._replace(metrics=run.metrics | {"config": run.config | {"near_duplicates": "drop"}})
        for run in apart.runs
    ])  # fmt: skip
    assert (apart.validation_images, dropped.validation_images) == (1200, 400)


def test_splits_that_seeds_draw_are_apart_without_near_duplicates_and_as_single_folds():
    def row(config, *about):
        runs = point("head", 0.85, 0.9, 0.95, images=40).row.runs
        runs = [
            run._replace(metrics=run.metrics | {"data": data, "config": config | {"seed": seed}})
            for seed, (run, data) in enumerate(zip(runs, about, strict=True))
        ]
        return Row(runs)

    seeds = [
        {"order": {"validation": f"left {seed}"}, "validation_pool": f"{seed}"} for seed in range(3)
    ]
    drawn = row({"fold": 0}, *seeds)
    dropped = row({"fold": 0, "near_duplicates": "drop"}, *seeds)
    folded = row({"fold": 1, "folds": 5}, *[{"validation_pool": "all"}] * 3)
    own = row(
        {"fold": 0, "near_duplicates": "drop"}, *[one | {"validation_pool": "own"} for one in seeds]
    )
    assert drawn.validation_images == dropped.validation_images == folded.validation_images == 120
    assert drawn.error == dropped.error == folded.error
    assert own.validation_images == 40 and own.error > drawn.error


def test_splits_that_are_drawn_from_few_images_overlap():
    """Twenty splits of 20 of the same 200 images are not 400 images."""
    runs = point("head", *[0.8] * 20, images=20).row.runs
    about = [{"validation_pool": f"{i}", "validation_drawn_from": 200} for i in range(20)]
    row = Row([
        run._replace(metrics=run.metrics | {"data": each, "config": {"fold": 0, "seed": 0, "folds": 0, "near_duplicates": "keep"}})
        for run, each in zip(runs, about, strict=True)
    ])  # fmt: skip
    assert row.validation_images == 138
    assert Row(row.runs[:1]).validation_images == 20


def test_rows_are_compared_with_the_spread_of_their_seeds():
    steady, spread = (
        point("head", *some, images=10_000).row for some in ((0.55,) * 3, (0.5, 0.55, 0.6))
    )
    other = point("all", 0.53, images=10_000).row
    assert steady.interval == pytest.approx(spread.interval)
    assert (overlapping([steady, other]), overlapping([spread, other])) == (0, 1)


def test_all_right_is_not_certain():
    assert point("head", 1.0, images=20).error == pytest.approx(0.045, abs=0.005)


def test_folds_are_told_apart(script, tmp_path):
    flags = ("--data", "shapes", "--seed", "0", "--folds", "3", "--depth", "head", "--list")
    result = script("sweep.py", *flags, "--logs", tmp_path)
    assert result.status == 0, result.err
    assert [line for line in result.out.splitlines() if "fold 3" in line]
    assert "3 runs" in result.out


def test_a_run_without_its_settings_is_not_removed(tmp_path, capsys):
    """They may still be on their way, as where logs are copied."""
    config = settings.Config("full", logs=str(tmp_path), name="tiny")
    trial = grid.Trial("all", config, "all")
    trial.folder.mkdir(parents=True)
    assert trial.to_run() == config and not trial.folder.exists()
    for name in ("model.keras", "checkpoint-7.json"):
        trial.folder.mkdir(parents=True)
        (trial.folder / name).touch()
        with pytest.raises(SystemExit):
            trial.to_run()
        assert "has no config.json: restore it" in capsys.readouterr().err
        assert (trial.folder / name).exists()
        shutil.rmtree(trial.folder)
