"""A full disk, a cache that vanishes, a clock that jumps: nothing a reader had is lost."""

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT, TINY, finish, start

import data
from transfer import files, runs


def with_largest_file(size, script, *arguments, **environment):
    """Runs a script that can write no file above so many bytes, as on a disk that is full."""
    return subprocess.run(
        [sys.executable, ROOT / script, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.parametrize("size, what", [(1_000_000, "features"), (5_000_000, "the model")])
@pytest.mark.slow
def test_a_disk_that_fills_up(size, what, tmp_path):
    arguments = (*TINY, "--logs", tmp_path / "logs", "--name", "run")
    features = ("--features", "none") if what == "the model" else ()
    home = tmp_path / "home"
    home.mkdir()
    result = with_largest_file(size, "train_frozen.py", *arguments, *features, KERAS_HOME=str(home))
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert not left and not list((home / "features").glob("*.json"))
    assert not (tmp_path / "logs").exists()  # so that the same command is not refused
    result = finish(start("train_frozen.py", *arguments, KERAS_HOME=str(home)))
    assert result.status == 0, result.err


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    path, left = tmp_path / "a[1].json", tmp_path / ".123.part.a[1].json"
    others = [tmp_path / ".123.part.a1.json", tmp_path / ".123.a[1].json", tmp_path / "a.json"]
    for each in (left, *others):
        each.touch()
    with left.open("w") as file:  # another process writes it
        fcntl.flock(file, fcntl.LOCK_EX)
        files.write_json(path, {})
        assert left.exists()
    files.write_json(path, {})
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])
    (tmp_path / ".123.part.made").mkdir()
    with files.folder_written_whole(tmp_path / "made", lambda _: None) as part:
        assert not (tmp_path / ".123.part.made").exists()
        files.clear_parts(tmp_path)
        assert part.exists() and not others[0].exists()


def test_a_folder_that_cant_be_put_in_place_leaves_the_one_before(tmp_path, monkeypatch):
    made, replace = tmp_path / "made", os.replace
    (made / "mine").mkdir(parents=True)

    def interrupted(source, target):
        replace(source, target)
        if source == made:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        files.folder_written_whole(made, lambda _: None) as part,
    ):
        (part / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert [path.name for path in made.iterdir()] == ["mine"]


def test_two_machines_with_processes_of_one_number_write_apart(tmp_path):
    path = tmp_path / "a.json"
    with files.written_whole(path) as one, files.written_whole(path) as other:
        one.write_text("1")
        other.write_text("2")
    assert path.read_text() == "1" and list(tmp_path.iterdir()) == [path]


def test_memory_that_runs_out_while_images_are_read_is_one_line(
    script, one_line, tmp_path, monkeypatch
):
    def load(*_, **__):
        raise MemoryError("Unable to allocate 70.0 GiB for an array")

    monkeypatch.setattr(data, "load", load)
    for name in ("train_frozen.py", "sweep.py"):
        result = script(name, "--data", "shapes", "--logs", tmp_path / "logs")
        one_line(result, "memory ran out: expected fewer or smaller images")


def test_a_name_that_is_too_long_leaves_nothing(script, one_line, tmp_path):
    arguments = (*TINY, "--logs", tmp_path / "logs", "--name", "x" * 300)
    one_line(script("train_frozen.py", *arguments), "can't be made (File name too long)")
    assert not (tmp_path / "logs").exists()


def test_a_home_that_the_shell_leaves_to_the_script(script, one_line, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    one_line(script("compare.py", "--logs=~/runs"), f"under {tmp_path / 'runs'}")
    result = script("train_frozen.py", *TINY, "--logs=~/runs", "--name", "run")
    assert result.status == 0, result.err
    assert (tmp_path / "runs" / "frozen" / "run" / "metrics.json").exists()


def test_two_runs_of_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda _: runs.create(tmp_path, "full", "tuned")[0], range(20)))
    assert len(set(made)) == 20


@pytest.mark.slow
def test_a_clock_that_jumps_back_neither_overwrites_nor_breaks_a_run(trained, tmp_path, script):
    environment = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nreal, start = time.time, time.time()\n"
        "time.time = lambda: real() - 3600 * (real() > start + 5)\n"
    )
    logs = tmp_path / "logs"
    result = finish(start("train_frozen.py", *TINY, "--logs", logs, "--name", "run", **environment))
    assert result.status == 0, result.err
    metrics = json.loads((logs / "frozen" / "run" / "metrics.json").read_text())
    assert metrics["history"] == trained.frozen.metrics["history"]
    assert metrics["seconds"] > 0


@pytest.mark.slow
def test_a_cache_that_vanishes_during_the_run(trained, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    arguments = (*TINY, "--logs", tmp_path / "logs", "--name", "run")
    process = start("train_last_fire.py", *arguments, KERAS_HOME=str(home))
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            shutil.rmtree(home / "features")
    assert process.wait() == 0
    metrics = json.loads((tmp_path / "logs" / "last_fire" / "run" / "metrics.json").read_text())
    assert metrics["history"] == trained.last_fire.metrics["history"]


def test_a_reader_that_goes_ends_training_with_one_line(tmp_path):
    process = start("train_frozen.py", *TINY, "--logs", tmp_path)
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.wait()
    assert process.returncode == 2
    assert error.count("\n") == 1 and "Broken pipe" in error, error


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("[!s]*.py")))
def test_ctrl_c_while_a_script_imports_is_one_line(script, tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt")
    result = finish(start(script, "shapes", "--logs", tmp_path, PYTHONPATH=str(tmp_path)))
    assert result.err == f"{script}: interrupted\n" and not result.out
    assert result.status in (130, -2)  # of a shell, of Python


@pytest.mark.parametrize(
    "name", ["predict.py", "train_full.py", "compare.py", "sweep.py", "data.py"]
)
def test_a_python_without_the_packages_says_how_to_get_the_right_one(name):
    command = [sys._base_executable, "-S", ROOT / name, "--help"]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{name}: ") and result.stderr.count("\n") == 1
    assert "is not installed: run" in result.stderr


def test_settings_of_keras_for_other_projects_do_not_hold_here(tmp_path):
    (tmp_path / "keras.json").write_text(
        '{"backend": "jax", "image_data_format": "channels_first", "floatx": "float16"}'
    )
    asked = "backend", "image_data_format", "floatx"
    code = f"from transfer import terminal; k = terminal.import_keras().config; print({', '.join(f'k.{name}()' for name in asked)})"
    made = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
    )
    assert made.stdout == "tensorflow channels_last float32\n"


def test_tensorboard_does_not_look_for_the_keras_of_other_projects():
    code = "from transfer import terminal; terminal.import_keras(); import transfer.board"
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)


def test_logs_that_are_not_unicode_are_refused(script, one_line, tmp_path):
    for name in ("train_frozen.py", "sweep.py"):
        result = script(name, "--data", "shapes", "--logs", tmp_path / "L\udcff")
        one_line(result, "is not UTF-8", "choose another --logs")
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_not_unicode_is_written_down(tmp_path):
    files.write_text(tmp_path / "table.md", "logs/\udcff ±")
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == "logs/\\udcff ±"


def test_what_a_run_made_disappears_with_it(tmp_path):
    _, made = runs.create(tmp_path / "a" / "b", "frozen", "tuned")
    with runs.removed_without_model(made):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("name", "what_works", "arguments", "says"),
    [
        ("train_frozen.py", "transfer.run._run", TINY, "no model was saved yet"),
        (
            "predict.py",
            "transfer.images.find",
            ["photo.jpg"],
            "the remaining images were not classified",
        ),
    ],
)
def test_an_interruption_that_became_another_error_is_one(
    script, one_line, tmp_path, monkeypatch, number, name, what_works, arguments, says
):
    """As KeyboardInterrupt does where TensorFlow is tracing."""

    def interrupted(*_):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise AssertionError("Nesting violated") from None

    signal.signal(signal.SIGINT, signal.default_int_handler)  # other tests leave it ignored
    monkeypatch.setattr(what_works, interrupted)
    result = script(name, *arguments, "--logs", tmp_path)
    one_line(result, f"interrupted: {says}", status=130)
    monkeypatch.setattr(what_works, lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        script(name, *arguments, "--logs", tmp_path)
