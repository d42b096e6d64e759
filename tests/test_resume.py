"""A run that was cut off goes on as if it had not been."""

import dataclasses
import errno
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import REGIMES, TINY, finish, start
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import data
from transfer import checkpoints, command_line, files, grid, progress, settings

EPOCHS = ("--epochs", "4")


def figures(folder):
    """What a run came to, without what the clock says."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: metrics[key] for key in metrics if "second" not in key} | {
        "config": metrics["config"] | {"logs": "", "name": ""}
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Returns a regime's run of four epochs that nothing interrupts."""
    logs = tmp_path_factory.mktemp("whole")
    arguments = (*TINY, *EPOCHS, "--precision", "float32", "--logs", logs, "--name", "run")

    @functools.cache
    def of(regime):
        result = finish(start(f"train_{regime}.py", *arguments))
        assert result.status == 0, result.err
        return logs / regime / "run"

    return of


def cut_off(regime, logs, done):
    """Starts a run and kills it as soon as `done(folder)` says so; returns its folder."""
    arguments = (*TINY, *EPOCHS, "--precision", "float32", "--logs", logs, "--name", "run")
    process = start(f"train_{regime}.py", *arguments)
    folder = logs / regime / "run"
    while process.poll() is None and not done(folder):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return folder


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.slow
def test_goes_on_as_if_nothing_had_been(regime, whole, command, tmp_path):
    folder = cut_off(regime, tmp_path, lambda folder: (folder / "checkpoint-2.json").exists())
    assert not (folder / "metrics.json").exists()
    result = command(f"train_{regime}.py", "--resume", folder)
    assert result.status == 0, result.err
    assert "resume      after epoch " in result.out
    assert figures(folder) == figures(whole(regime))


def test_the_script_that_resumes_a_run_is_named(trained, script, one_line, tmp_path):
    result = script("train_frozen.py", "--resume", trained.full.folder, "--epochs", 9)
    one_line(result, "has regime full, not frozen; resume it with train_full.py")
    deep = shutil.copytree(trained.full.folder, tmp_path / "fire6" / "run")
    config = json.loads((deep / "config.json").read_text())
    (deep / "config.json").write_text(json.dumps(config | {"regime": "fire6"}))
    result = script("train_frozen.py", "--resume", deep, "--epochs", 9)
    one_line(result, "has regime fire6, not frozen; resume it with the same sweep")


@pytest.mark.slow
def test_killed_before_the_first_epoch_it_begins_anew(whole, command, tmp_path):
    folder = cut_off("last_fire", tmp_path, lambda folder: (folder / "config.json").exists())
    result = command("train_last_fire.py", "--resume", folder)
    assert result.status == 0, result.err
    assert figures(folder) == figures(whole("last_fire"))


@pytest.mark.slow
@pytest.mark.ci
def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, command, tmp_path):
    folder = cut_off("frozen", tmp_path, lambda folder: (folder / "checkpoint-3.json").exists())
    last = max(folder.glob("checkpoint-*.npz"))
    last.write_bytes(last.read_bytes()[:-1000])
    result = command("train_frozen.py", "--resume", folder)
    assert result.status == 0, result.err
    assert f"{last} is damaged" in result.out
    assert figures(folder) == figures(whole("frozen"))


def test_epochs_may_grow(whole, command, tmp_path):
    folder = shutil.copytree(whole("frozen"), tmp_path / "frozen" / "run")
    (folder / "test.json").write_text("{}")
    result = command("train_frozen.py", "--resume", folder, "--epochs", 5)
    assert result.status == 0, result.err
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 5 and len(metrics["history"]["loss"]) == 5
    assert metrics["config"]["extended_from"] == "4"
    before = json.loads((whole("frozen") / "metrics.json").read_text())["history"]["loss"]
    assert metrics["history"]["loss"][:4] == before
    assert not (folder / "test.json").exists()
    events = EventAccumulator(str(folder)).Reload()
    shown = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    known = HParamsPluginData.FromString(shown).session_start_info.hparams
    assert known["epochs"].number_value == 5 and known["extended_from"].string_value == "4"


@pytest.mark.slow
def test_an_extension_that_is_cut_off_is_no_finished_run(whole, command, tmp_path):
    folder = shutil.copytree(whole("frozen"), tmp_path / "frozen" / "run")
    finished = figures(folder)
    process = start("train_frozen.py", "--resume", folder, "--epochs", 40)
    for line in process.stdout:
        if line.startswith("run folder"):
            process.send_signal(signal.SIGINT)
    process.wait()
    assert process.returncode == 130
    assert f"{folder} is unchanged; the same command continues the run" in process.stderr.read()
    assert figures(folder) == finished
    assert json.loads((folder / "config.json").read_text())["epochs"] == 4

    process = start("train_frozen.py", "--resume", folder, "--epochs", 40)
    while '"epochs": 4,' in (folder / "config.json").read_text() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert not (folder / "metrics.json").exists() and not (folder / "validation.npz").exists()
    assert f"skipped {folder}: not finished" in command("compare.py", "--logs", tmp_path).out
    result = command("train_frozen.py", "--resume", folder)
    assert result.status == 0, result.err
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 40


def test_an_extension_that_saves_no_model_leaves_the_run_finished(
    whole, script, one_line, tmp_path, monkeypatch
):
    folder = shutil.copytree(whole("frozen"), tmp_path / "frozen" / "run")
    before = {path: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    result = script("train_frozen.py", "--resume", folder, "--epochs", 5)
    one_line(result, "No space left on device", f"{folder} is unchanged")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_patience_goes_on(command, tmp_path):
    arguments = (*TINY, "--epochs", 9, "--early-stopping", 2, "--precision", "float32")
    arguments += ("--logs", tmp_path, "--learning-rate", 0.03)
    expected = command("train_frozen.py", *arguments, "--name", "whole")
    assert expected.status == 0, expected.err
    process = start("train_frozen.py", *arguments, "--name", "cut")
    folder = tmp_path / "frozen" / "cut"
    while not list(folder.glob("checkpoint-[2-9].json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert command("train_frozen.py", "--resume", folder).status == 0
    assert figures(folder) == figures(tmp_path / "frozen" / "whole")


def test_a_finished_run_without_a_checkpoint_does_not_begin_anew(
    whole, command, one_line, tmp_path
):
    folder = shutil.copytree(whole("frozen"), tmp_path / "frozen" / "run")
    for checkpoint in folder.glob("checkpoint-*.npz"):
        checkpoint.write_bytes(b"")
    kept = [folder / name for name in ("model.keras", "metrics.json", "validation.npz")]
    before = [path.read_bytes() for path in kept]
    resume = ("train_frozen.py", "--resume", folder, "--epochs", 5)
    result = command(*resume)
    one_line(result, f"{folder} can't be resumed: it has no intact checkpoint")
    assert "checkpoint-4.npz is damaged" in result.out
    (folder / "checkpoint-4.npz").unlink()
    result = command(*resume)
    one_line(result, f"{folder} can't be resumed: it has no intact checkpoint")
    assert "checkpoint-4.npz is missing" in result.out
    assert [path.read_bytes() for path in kept] == before


def test_a_run_that_has_lost_its_model_is_not_resumed(trained, script, one_line, tmp_path):
    folder = shutil.copytree(trained.frozen.folder, tmp_path / "frozen" / "run")
    for name in ("model.keras", "metrics.json"):
        (folder / name).unlink()
    before = sorted(folder.rglob("*"))
    result = script("train_frozen.py", "--resume", folder)
    one_line(result, f"{folder} can't be resumed: its model.keras is gone; start a new run")
    assert sorted(folder.rglob("*")) == before


def test_refuses_what_differs(whole, command, one_line, tmp_path):
    folder = shutil.copytree(whole("frozen"), tmp_path / "frozen" / "run")

    def refused(*arguments, script="train_frozen.py", words):
        one_line(command(script, "--resume", folder, *arguments), *words)

    refused(words=["is finished; give a larger --epochs"])
    refused("--epochs", 3, words=["epochs 4, not 3"])
    refused("--learning-rate", 0.5, "--epochs", 5, words=["learning_rate", "not 0.5"])
    refused("--epochs", 5, script="train_full.py", words=["regime frozen, not full"])
    one_line(command("train_frozen.py", "--resume", tmp_path / "no"), "can't be resumed")
    (checkpoint,) = folder.glob("checkpoint-*.json")
    kept = json.loads(checkpoint.read_text())
    kept["facts"]["data"] = "0" * 64
    checkpoint.write_text(json.dumps(kept))
    refused("--epochs", 5, words=["can't be resumed: its images, or their splits, have changed"])
    config = json.loads((folder / "config.json").read_text())
    assert config["epochs"] == 4
    metrics = json.loads((folder / "metrics.json").read_text())
    for last, best in ((9, 3), (4, 3)):  # by patience that ran out before the last epoch, and in it
        (folder / "config.json").write_text(
            json.dumps(config | {"epochs": last, "early_stopping": 1})
        )
        (folder / "metrics.json").write_text(json.dumps(metrics | {"best_epoch": best}))
        refused("--epochs", 20, words=[f"stopped early, after epoch 4 of {last}"])


def test_images_may_move_but_not_change(script, one_line, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    images, moved = tmp_path / "images", tmp_path / "moved"
    for name in "ab":
        (images / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.random.default_rng((ord(name), number)).integers(0, 256, (32, 32, 3), "u1")
            Image.fromarray(pixels).save(images / name / f"{number}.png")
    arguments = (*TINY, "--data", images, "--logs", tmp_path / "logs", "--name", "run")
    result = script("train_frozen.py", *arguments)
    assert result.status == 0, result.err
    images.rename(moved)
    folder = tmp_path / "logs" / "frozen" / "run"
    resume = ("train_frozen.py", "--resume", folder, "--epochs", "3")
    one_line(script(*resume), f"{images}, with the images of {folder}, no longer", "--data")
    result = script(*resume, "--data", moved)
    assert result.status == 0, result.err
    assert json.loads((folder / "config.json").read_text())["data"] == str(moved)
    (moved / "b" / "3.png").unlink()
    resume = (*resume[:-1], "4")
    one_line(script(*resume), "its images have changed: b/3.png is gone")
    shutil.copy(moved / "b" / "2.png", moved / "b" / "3.png")
    one_line(script(*resume), f"b/3.png is left out now; python data.py {moved} says why")
    monkeypatch.setattr(os, "access", lambda *_: False)
    one_line(script(*resume), f"{folder} can't be resumed: it can't be written to")


@pytest.mark.slow
def test_killed_at_random_moments(whole, tmp_path):
    """During features, training, checkpoint or the last write: every run resumes to the same.

    KILLS sets how often.
    """
    kills = int(os.environ.get("KILLS", "30"))
    draw = random.Random(2018)
    lasts = {}  # seconds from config.json to the end of a run that nothing interrupts
    interrupted = 0
    for number in range(-3, kills):
        regime = REGIMES[number % 3]
        logs, home = tmp_path / str(number), {"KERAS_HOME": str(tmp_path / f"home{number}")}
        os.mkdir(home["KERAS_HOME"])  # without features, so that these are computed too
        arguments = (*TINY, *EPOCHS, "--precision", "float32", "--logs", logs, "--name", "run")
        process = start(f"train_{regime}.py", *arguments, **home)
        folder = logs / regime / "run"
        while not (folder / "config.json").exists():
            time.sleep(0.01)
        begun = time.monotonic()
        if number < 0:
            process.communicate()
            lasts[regime] = time.monotonic() - begun
            continue
        time.sleep(draw.uniform(0, lasts[regime]))
        process.kill()
        process.communicate()
        if not (folder / "metrics.json").exists():
            interrupted += 1
            result = finish(start(f"train_{regime}.py", "--resume", folder, **home))
            assert result.status == 0, result.err
        assert figures(folder) == figures(whole(regime)), f"kill {number}"
        assert not list(folder.glob(".*")), "a part of a file was left"
        np.load(folder / "validation.npz")
    assert interrupted > kills // 2


@pytest.fixture
def unfinished(trained, tmp_path):
    """A run of which all but the figures is there."""
    folder = shutil.copytree(trained.frozen.folder, tmp_path / "logs" / "frozen" / "tiny")
    (folder / "metrics.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("regime", "words"),
    [
        ("full", "; --resume {} continues"),
        ("fire6", "; the same sweep continues"),
        ("one_of_the_readers_own", "; --resume {} continues"),
    ],
)
def test_what_is_kept_says_how_to_go_on(regime, words, tmp_path):
    """Only depths that have a script can be resumed by it."""
    reached = progress.Progress(tmp_path / regime / "run")
    reached.kept_epoch = 1
    assert words.format(tmp_path / regime / "run") in reached.kept()
    reached.folder.mkdir(parents=True)
    (reached.folder / "metrics.json").touch()
    assert reached.kept() == f"{reached.folder} is finished"


@pytest.mark.parametrize(("passed", "extended"), [(0, ""), (4, "15 at 4"), (15, "15")])
def test_where_a_run_was_extended_is_kept(passed, extended, tmp_path):
    """The learning rate of a run that had not ended its plan fell by the longer plan from there on."""
    folder = tmp_path / "logs" / "full" / "run"
    folder.mkdir(parents=True)
    config = settings.Config("full", data="shapes", epochs=15)
    files.write_json(folder / "config.json", dataclasses.asdict(config))
    if passed:
        checkpoints.save(folder, passed, [], {"settings": settings.learnt(config)}, {})
    longer = command_line.resumed(folder, "full", {"epochs": 30})
    assert (longer.epochs, longer.extended_from) == (30, extended)
    assert settings.learnt(longer)["planned epochs"] == (15 if passed else 30)


@pytest.mark.parametrize("value", ["20", None])
def test_epochs_that_are_no_number_are_damage(script, one_line, tmp_path, value):
    folder = tmp_path / "logs" / "frozen" / "run"
    folder.mkdir(parents=True)
    known = dataclasses.asdict(settings.Config("frozen", data="shapes", epochs=20, shift=0))
    for each in (known | {"epochs": value}, known):
        files.write_json(folder / "config.json", each)
        result = script("train_frozen.py", "--resume", folder, "--epochs", 5)
        damaged = f"can't be resumed (its config.json is damaged: epochs is {value!r})"
        one_line(result, damaged if each != known else "has epochs 20, not 5")


def test_where_an_extension_that_improved_nothing_was_interrupted_is_kept(tmp_path):
    folder = tmp_path / "logs" / "full" / "run"
    folder.mkdir(parents=True)
    config = settings.Config("full", data="shapes", epochs=20)
    files.write_json(folder / "config.json", dataclasses.asdict(config))
    learnt = {"settings": settings.learnt(dataclasses.replace(config, extended_from="20"))}
    checkpoints.save(folder, 24, [], learnt, {"total": 30})
    for epochs, extended in ((30, "20"), (40, "20, 30 at 24")):
        assert command_line.resumed(folder, "full", {"epochs": epochs}).extended_from == extended
    checkpoints.save(folder, 24, [], learnt, {"total": 15})  # the next plan was just begun
    assert command_line.resumed(folder, "full", {"epochs": 40}).extended_from == "20"
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"can't be resumed \(its config.json is damaged"):
        command_line.resumed(folder, "full", {})


def test_a_damaged_checkpoint_is_not_the_last(tmp_path):
    for epoch in (4, 8):
        checkpoints.save(tmp_path, epoch, [], {"settings": {}}, {"total": 10})
    assert checkpoints.last(tmp_path) == ({}, 8, 10)
    (tmp_path / "checkpoint-8.npz").write_bytes(b"")
    assert checkpoints.last(tmp_path) == ({}, 4, 10)
    checkpoints.save(tmp_path, 9, [], {}, {})  # as older versions did
    assert checkpoints.last(tmp_path) == ({}, 9, 0)


def test_what_a_kill_left_of_a_checkpoint_is_removed(tmp_path):
    (tmp_path / "checkpoint-2.npz").touch()
    for epoch in (4, 6, 8):
        checkpoints.save(tmp_path, epoch, [], {}, {})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"checkpoint-{epoch}.{kind}" for epoch in (6, 8) for kind in ("json", "npz")]


def test_an_epoch_is_said_to_be_done_once_it_can_be_resumed(script, tmp_path, monkeypatch):
    save = checkpoints.save

    def said(folder, epoch, *others):
        save(folder, epoch, *others)
        print(f"saved {epoch}")

    monkeypatch.setattr(checkpoints, "save", said)
    result = script("train_frozen.py", *TINY, "--images-per-class", 50, "--logs", tmp_path)
    lines = [line for line in result.out.splitlines() if line.startswith(("saved", "epoch"))]
    assert [line.split("/")[0] for line in lines] == ["saved 1", "epoch 1", "saved 2", "epoch 2"]


@pytest.mark.parametrize("optimizer", ["adam", "nadam"])
def test_float16_goes_on_as_if_nothing_had_been(script, tmp_path, monkeypatch, optimizer):
    """Its optimizer is wrapped in one that scales the loss."""
    few = ("--data", "shapes", "--weights", "none", "--image-size", 32, "--images-per-class", 2)
    flags = ("--optimizer", optimizer, "--precision", "mixed_float16", "--epochs", 4)
    few = (*few, *flags, "--early-stopping", 4)
    assert script("train_frozen.py", *few, "--logs", tmp_path, "--name", "whole").status == 0
    save = checkpoints.save

    def killed(folder, epoch, *others):
        save(folder, epoch, *others)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", killed)
    assert script("train_frozen.py", *few, "--logs", tmp_path, "--name", "part").status == 130
    monkeypatch.undo()
    result = script("train_frozen.py", "--resume", tmp_path / "frozen" / "part")
    assert result.status == 0, result.err
    whole, part = (figures(tmp_path / "frozen" / name) for name in ("whole", "part"))
    assert part["history"] == whole["history"]


def test_an_extension_that_was_interrupted_validates_after_the_same_epochs(tmp_path):
    dataset = data.load("shapes")

    def planned(reached):
        reached.plan(60, dataset)
        return [epoch for epoch in reached.reported if epoch > 12]

    extended, again = progress.Progress(tmp_path, 5), progress.Progress(tmp_path, 5)
    extended.epochs = 10
    expected = planned(extended)
    extended.epochs = 12
    again.restore(extended.state())
    assert planned(again) == expected


HOLD = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_was_being_replaced_is_put_back(tmp_path):
    """As where export.py was killed after it had moved an earlier export out of the way."""
    (tmp_path / ".123.old.export").mkdir()
    (tmp_path / ".123.old.export" / "model").touch()
    with (
        pytest.raises(ValueError, match="refused"),
        files.folder_written_whole(tmp_path / "export", lambda _: None),
    ):
        assert (tmp_path / "export" / "model").exists()
        raise ValueError("refused")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    (tmp_path / ".123.old.export").mkdir()
    with files.folder_written_whole(tmp_path / "export", lambda _: None):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_who_waits_for_a_lock_says_so_and_gets_it(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.touch()
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with files.held(path) as alone:
            assert alone is False
        said = []

        def release(text, **_):
            said.append(text)
            process.stdin.close()

        monkeypatch.setattr("builtins.print", release)
        with files.held(path, "waiting") as alone:
            assert alone is True
    assert said == ["waiting"]


def test_a_run_is_trained_by_one_process_at_a_time(unfinished, script, one_line):
    with files.held(unfinished) as alone:
        assert alone
        result = script("train_frozen.py", "--resume", unfinished)
    one_line(result, "can't be resumed", "another process is training it")


def test_a_run_is_held_while_it_is_trained(unfinished, script, monkeypatch):
    seen = []

    def trained(*arguments):
        with files.held(arguments[-1].folder) as alone:
            seen.append(alone)

    monkeypatch.setattr("transfer.run._run", trained)
    logs = unfinished.parents[2] / "logs"
    for arguments in (("--resume", unfinished), (*TINY, "--logs", logs)):
        assert script("train_frozen.py", *arguments).status == 0
    assert seen == [False, False]


def test_an_extension_that_was_interrupted_before_it_improved(trained, script, tmp_path):
    """Its checkpoint is ahead of its settings, which change with its model."""
    folder = shutil.copytree(trained.frozen.folder, tmp_path / "logs" / "frozen" / "tiny")
    for checkpoint in folder.glob("checkpoint-2.*"):
        checkpoint.rename(checkpoint.with_stem("checkpoint-3"))
    state = json.loads((folder / "checkpoint-3.json").read_text())
    state["state"]["epochs"] = 3
    (folder / "checkpoint-3.json").write_text(json.dumps(state))
    result = script("train_frozen.py", "--resume", folder, "--epochs", "4")
    assert result.status == 0 and "resume      after epoch 3 of 4" in result.out, result.err
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 4


def test_histograms_may_be_asked_for_and_features_can_not(
    unfinished, script, one_line, monkeypatch
):
    resume = ("train_frozen.py", "--resume", unfinished)
    one_line(script(*resume, "--features", "none"), "has features cache, not none")
    one_line(script(*resume, "--seed", "1"), "--epochs may be increased and --histograms switched")
    where = {"logs": str(unfinished.parents[1]), "data": "shapes", "weights": "none"}
    wanted = settings.Config("frozen", name="tiny", histograms=True, **where)
    assert grid.Trial("head", wanted, "head").to_run().histograms
    with monkeypatch.context() as full:
        full.setenv("KERAS_HOME", str(unfinished.parents[1]))
        usage = shutil.disk_usage(unfinished)._replace(free=0)
        full.setattr(shutil, "disk_usage", lambda _: usage)
        one_line(script(*resume), "start a new run with --features none")
    result = script(*resume, "--histograms")
    assert result.status == 0, result.err
    assert json.loads((unfinished / "config.json").read_text())["histograms"]


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"learning_rate": 0.01},
            "was trained with learning_rate 0.001, but its config.json has 0.01",
        ),
        ({"optimizer": "adamx"}, "was trained with optimizer adam"),
        ({"image_size": "32"}, "was trained with image_size 32"),
        ({"epochs": 7}, "was trained with planned epochs 2, but its config.json has 7"),
        ({"epochs": 1, "extended_from": "2"}, "has done 2 epochs: expected --epochs of 2 or more"),
    ],
)
def test_settings_that_were_edited_are_refused(changes, words, unfinished, script, one_line):
    path = unfinished / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    one_line(script("train_frozen.py", "--resume", unfinished), words)
