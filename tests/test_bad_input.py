"""What a reader may get wrong: one line that helps, exit status 2, nothing left behind."""

import numpy as np
import pytest
from conftest import TINY
from test_squeezenet import write_published

import squeezenet


@pytest.fixture
def no_keras(tmp_path):
    """An environment in which importing Keras or TensorFlow fails: answers may not wait for it."""
    for module in ("keras", "tensorflow"):
        (tmp_path / "poison").mkdir(exist_ok=True)
        (tmp_path / "poison" / f"{module}.py").write_text("raise AssertionError('imported')")
    return {"PYTHONPATH": str(tmp_path / "poison")}


SCRIPTS = ("train_frozen.py", "train_last_fire.py", "train_full.py", "compare.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_does_not_wait_for_keras(command, no_keras, script):
    result = command(script, "--help", **no_keras)
    assert result.status == 0
    assert "--logs" in result.out


def test_help_says_what_is_taken_and_what_switches_are_by_default(script):
    for name in (SCRIPTS[0], "sweep.py"):
        words = " ".join(script(name, "--help").out.split())
        assert "mirrored copies of the images, too [on]" in words
        assert "histograms of the weights to TensorBoard [off]" in words


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_flag(command, no_keras, one_line, script):
    one_line(command(script, "--epoch", "3", **no_keras), script, "--epoch", "--help")


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--recipe", "best", "tuned"),
        ("--optimizer", "adan", "adam"),
        ("--precision", "float8", "mixed_bfloat16"),
        ("--epochs", "0", "1 or more"),
        ("--epochs", "many", "int"),
        ("--batch-size", "-1", "1 or more"),
        ("--image-size", "31", "32 or more"),
        ("--learning-rate", "0", "more than 0"),
        ("--learning-rate", "nan", "more than 0"),
        ("--seed", "-1", "0 or more"),
        ("--images-per-class", "0", "1 or more"),
        ("--images-per-class", "-5", "1 or more"),
        ("--folds", "0", "2 or more"),
        ("--folds", "1", "2 or more"),
        ("--folds", "-3", "2 or more"),
        ("--dropout", "1", "less than 1"),
        ("--weight-decay", "-0.1", "0 or more"),
        ("--zoom", "1", "less than 1"),
        ("--views", "-1", "0 or more"),
        ("--head-epochs", "-1", "0 or more"),
        ("--name", "../elsewhere", "not a path"),
        ("--name", "..", "not a path"),
        ("--seed", str(2**32), "less than 4294967296"),
        ("--weights", "nowhere.h5", "does not exist"),
        ("--weights", "README.md", "HDF5"),
        ("--weights", "docs", "is not a file"),
        ("--data", "cifar11", "cifar10, shapes"),
        ("--data", "nowhere.npz", "does not exist"),
        ("--data", "", "no data given"),
        ("--learning-rate", "inf", "expected a finite number"),
        ("--weights", "", "--weights: expected a value"),
        ("--name", "", "--name: expected a value"),
        ("--resume", "", "--resume: expected a value"),
        ("--views", "1001", "1,000 or less"),
        ("--image-size", "2049", "2,048 or less"),
        ("--epochs", "9" * 30, "1,000,000 or less"),
        ("--learning-rate", "1e+200", "1,000,000 or less"),
        ("--weight-decay", "1e+30", "1,000,000 or less"),
    ],
)
def test_argument_out_of_range(command, no_keras, one_line, tmp_path, flag, value, expected):
    logs = tmp_path / "logs"
    result = command("train_full.py", flag, value, "--logs", logs, **no_keras)
    one_line(result, value, expected)
    assert not logs.exists()


@pytest.mark.parametrize(
    ("flags", "about"),
    [
        (("--folds", 2, "--fold", 3), "argument --fold: expected 1 to 2"),
        (("--fold", 1), "argument --fold: expected --folds as well"),
    ],
)
def test_a_fold_that_there_is_not(script, one_line, flags, about):
    one_line(script("train_full.py", *flags), about, "(--help lists the options)")


def test_npz_that_is_not_one(command, no_keras, one_line, tmp_path):
    (tmp_path / "text.npz").write_text("not one")
    result = command(
        "train_full.py", "--data", tmp_path / "text.npz", "--logs", tmp_path, **no_keras
    )
    one_line(result, "text.npz is not an .npz file")


def test_views_that_would_all_be_the_same_are_refused(script, one_line, tmp_path):
    flags = ("--views", 5, "--shift", 0, "--zoom", 0)
    one_line(script("train_frozen.py", *TINY, *flags, "--logs", tmp_path / "logs"), "--views 5")
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("flags", "about"),
    [
        (("--views", 2, "--zoom", 0.5), "--views 2: expected 3 or more"),
        (("--views", 1, "--no-mirror", "--shift", 0.2), "--views 1: expected 2 or more"),
        (("--shift", 0.01), "less than a pixel"),
        (("--views", 0), "--views 0 has no effect without --shift or --zoom"),
        (("--views", 2, "--no-mirror"), "the image itself is the only view"),
    ],
)
def test_views_that_differ_in_nothing_are_refused(script, one_line, tmp_path, flags, about):
    one_line(script("train_frozen.py", *TINY, *flags, "--logs", tmp_path / "logs"), about)
    assert not (tmp_path / "logs").exists()


def test_pretraining_takes_no_unknown_argument(script, one_line):
    one_line(script("transfer/pretraining.py", "--nonsense"), "--nonsense")


def test_truncated_weights(command, no_keras, one_line, tmp_path):
    path = tmp_path / "short.h5"
    write_published(path, squeezenet.SqueezeNet(weights=None, include_top=False))
    path.write_bytes(path.read_bytes()[:100_000])
    result = command("train_full.py", "--weights", path, "--logs", tmp_path, **no_keras)
    one_line(result, "short.h5", "damaged")


def test_weights_of_another_shape(script, one_line, tmp_path):
    path = tmp_path / "grey.h5"
    grey = squeezenet.SqueezeNet(weights=None, include_top=False, input_shape=(None, None, 1))
    write_published(path, grey)
    result = script("train_full.py", "--data", "shapes", "--weights", path, "--logs", tmp_path)
    one_line(result, "grey.h5", "conv1", "(3, 3, 3, 64)", "(3, 3, 1, 64)")
    assert not (tmp_path / "full").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["CIFAR-10", "cifar-10-python.tar.gz", "~/.keras/datasets"]),
        (("--data", "shapes"), ["ImageNet weights", "notop.h5", "models"]),
    ],
)
def test_no_network_and_nothing_cached(command, one_line, tmp_path, arguments, words):
    nowhere = {"KERAS_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    result = command("train_full.py", *arguments, "--logs", tmp_path / "logs", **nowhere)
    one_line(result, *words, "--data shapes --weights drawn" if not arguments else "", "make demo")
    assert not (tmp_path / "logs").exists()


def test_what_to_do_without_cifar10_is_true_of_any_command(script, one_line, tmp_path, monkeypatch):
    def fail():
        raise Exception("no network")  # as get_file does

    monkeypatch.setattr("keras.datasets.cifar10.load_data", fail)
    monkeypatch.setattr("transfer.downloads.WAITS", ())
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    into = f"into {tmp_path}/datasets (~/.keras/datasets, unless KERAS_HOME is set) as cifar-10"
    words = ("`python data.py shapes`", "training scripts take --data shapes --weights drawn")
    one_line(script("data.py", "cifar10"), "no network", into, *words)


def test_a_folder_for_weights_that_cant_be_made_is_no_failed_download(
    script, one_line, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("keras.utils.get_file", lambda *_, **__: 1 / 0)
    arguments = ("--data", "shapes", "--logs", tmp_path / "logs")
    result = script("train_full.py", *arguments)
    one_line(result, "can't be downloaded", f"{tmp_path / 'file'}")
    assert "retrying" not in result.out


def test_run_folder_that_exists(command, no_keras, one_line, trained):
    before = {path: path.stat().st_mtime for path in trained.full.folder.rglob("*")}
    result = command("train_full.py", *TINY, "--logs", trained.logs, "--name", "tiny", **no_keras)
    one_line(result, "full/tiny exists", "--name")
    assert {path: path.stat().st_mtime for path in trained.full.folder.rglob("*")} == before


def test_logs_folder_that_can_not_be_made(command, no_keras, one_line, tmp_path):
    (tmp_path / "file").touch()
    for logs in (tmp_path / "file", "/proc/logs"):
        result = command("train_full.py", *TINY, "--logs", logs, **no_keras)
        one_line(result, str(logs), "can't be made", "--logs")


def test_pickles_are_refused(command, no_keras, one_line, tmp_path):
    arrays = dict.fromkeys(("y_train", "x_test", "y_test"), np.zeros(3, "uint8"))
    np.savez(tmp_path / "pickle.npz", x_train=np.array([{}] * 3), **arrays)
    arguments = ("--data", tmp_path / "pickle.npz", "--logs", tmp_path)
    one_line(command("train_full.py", *arguments, **no_keras), "x_train", "pickled", "refused")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("data.py", "shapes", "--output", "a" * 300 + ".png"), "more than 220 bytes"),
        (("data.py", "shapes", "--output", "a" * 300 + "/a.png"), "folder that does not exist"),
        (("export.py", "a" * 300, "--format", "litert"), "File name too long"),
        (("predict.py", "http://x/" + "a/" * 2100), "is a URL: download it first"),
    ],
)
def test_a_name_that_the_system_refuses(script, one_line, arguments, words):
    one_line(script(*arguments), words)


def test_a_name_with_wide_spaces_and_joiners_is_shown_as_it_is(script, one_line):
    name = "ネコ\u3000\xa0نمی\u200cخواهم\u200d"
    result = script("compare.py", "--logs", f"{name}\x1b\u202e")
    one_line(result, f"{name}\\x1b\\u202e")
