"""The three scripts, run as a reader runs them."""

import functools
import json
import os
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import IMAGES, REGIMES, ROOT, TINY, WEIGHTS, start
from PIL import Image

import data
from transfer import batches as batches_of
from transfer import (
    command_line,
    evaluation,
    fitting,
    network,
    plots,
    precision,
    recipes,
    settings,
    terminal,
)
from transfer.batches import Batches

TITLES = {
    "frozen": "SqueezeNet with frozen layers",
    "last_fire": "Training last 2 Fire Modules + classification layers",
    "full": "Fine-tuning all layers",
}
HEAD = r"head_.*"
TRAINABLE = {"frozen": HEAD, "last_fire": rf"fire[89]_.*|{HEAD}", "full": ".*"}


@pytest.mark.parametrize("regime", REGIMES)
def test_prints_the_reports_three_lines_last(trained, regime):
    result = getattr(trained, regime)
    title, loss, accuracy = result.out.splitlines()[-3:]
    assert title == TITLES[regime]
    assert loss == f"Validation loss: {result.metrics['validation_loss']}"
    expected = result.metrics["validation_accuracy"]
    assert accuracy == f"Validation accuracy (NORMALIZED): {expected}"
    assert result.err == ""


def test_a_model_is_loaded_by_its_name_as_keras_does(trained):
    path = str(trained.frozen.folder / "model.keras")
    assert evaluation.load(path).output_shape == (None, 10)
    with pytest.raises(FileNotFoundError, match="no.keras does not exist"):
        evaluation.load("no.keras")


@pytest.mark.parametrize("asked, expected", [(None, "1"), ("0", "0")])
def test_turns_onednns_kernels_on_unless_the_user_has_decided(monkeypatch, asked, expected):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if asked:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", asked)
    terminal.import_keras()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == expected


@pytest.mark.parametrize("regime", REGIMES)
def test_says_first_what_it_does(trained, regime):
    result = getattr(trained, regime)
    lines = result.out.splitlines()
    metrics = result.metrics
    params = f"{metrics['trainable_params']:,} of {metrics['total_params']:,} parameters"
    for line, words in zip(
        lines,
        ([regime, params], ["tuned"], ["drawn", metrics["data"]["sha256"][:12]]),
        strict=False,
    ):
        assert all(word in line for word in words)
    assert any("precision" in line and metrics["precision"] in line for line in lines)
    assert any("run folder" in line and str(result.folder) in line for line in lines)
    assert any(re.fullmatch(r"time +about \d+ s on (one core|two cores)", line) for line in lines)
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == [
        "epoch 1/2",
        "epoch 2/2",
    ]


@pytest.mark.parametrize("regime", REGIMES)
def test_metrics(trained, regime):
    metrics = getattr(trained, regime).metrics
    assert set(metrics) >= {
        *("regime", "recipe", "validation_loss", "validation_accuracy", "trainable_params"),
        *("total_params", "epochs", "seconds", "images_per_second", "history", "data", "weights"),
        *("versions", "config"),
    }
    assert metrics["data"]["sha256"] == data.load("shapes").fingerprint
    assert metrics["config"]["image_size"] == 32
    assert metrics["config"]["given"] == "image_size epochs"
    assert metrics["images_per_second"] == pytest.approx(2 * 2000 / metrics["seconds"])
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert len(metrics["history"][key]) == 2
    assert metrics["history"]["val_loss"][-1] == pytest.approx(metrics["validation_loss"], rel=1e-6)
    config = json.loads((getattr(trained, regime).folder / "config.json").read_text())
    assert config == metrics["config"]


def test_fewer_large_images_are_evaluated_at_once(script, tmp_path, monkeypatch):
    """As they take memory by their area; the figures are the same."""
    assert batches_of.evaluation_batch(288) == 128 and batches_of.evaluation_batch(1024) == 8
    few = ("train_frozen.py", *TINY, "--images-per-class", 2, "--precision", "float32")
    whole = script(*few, "--logs", tmp_path / "whole")
    monkeypatch.setattr(batches_of, "LARGEST_SIZE", 8)
    assert batches_of.evaluation_batch(32) == 8
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    parts = script(*few, "--logs", tmp_path / "parts")
    assert [result.status for result in (whole, parts)] == [0, 0]
    losses, accuracies = zip(
        *(result.out.splitlines()[-2:] for result in (whole, parts)), strict=True
    )
    assert accuracies[0] == accuracies[1]
    numbers = [float(line.split(": ")[1]) for line in losses]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)


@pytest.mark.parametrize("regime", REGIMES)
def test_trains_what_the_regime_says_and_nothing_else(trained, regime):
    result = getattr(trained, regime)
    config = settings.Config(**result.metrics["config"])
    keras.utils.set_random_seed(config.seed)
    before, _ = network.build(config, classes=10)
    after = keras.models.load_model(result.folder / "model.keras")
    for old, new in zip(before.layers, after.layers, strict=True):
        changed = [
            not np.array_equal(a, b)
            for a, b in zip(old.get_weights(), new.get_weights(), strict=True)
        ]
        if re.fullmatch(TRAINABLE[regime], old.name):
            assert all(changed), old.name
        else:
            assert not any(changed), old.name


@pytest.mark.slow
def test_the_saved_model_gives_the_printed_loss_in_a_new_process(trained):
    code = """
import sys, keras, data
model = keras.models.load_model(sys.argv[1])
images, labels = data.load("shapes").validation
print(model.evaluate(images, keras.utils.to_categorical(labels), verbose=0)[0])
"""
    for regime in REGIMES:
        result = getattr(trained, regime)
        process = subprocess.run(
            [sys.executable, "-c", code, result.folder / "model.keras"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert float(process.stdout) == pytest.approx(result.metrics["validation_loss"], rel=1e-6)


def test_the_saved_model_takes_raw_images_of_any_size(trained):
    model = keras.models.load_model(trained.full.folder / "model.keras")
    assert model.inputs[0].dtype == "uint8"
    for shape in ((1, 32, 32, 3), (2, 100, 50, 3)):
        probabilities = model.predict(np.zeros(shape, "uint8"), verbose=0)
        assert probabilities.dtype == "float32"
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_metrics(trained, script, tmp_path):
    again = script("train_full.py", *TINY, "--logs", tmp_path)
    assert again.status == 0, again.err
    assert again.out.splitlines()[-3:] == trained.full.out.splitlines()[-3:]
    other = script("train_full.py", *TINY, "--logs", tmp_path, "--seed", 1)
    assert other.out.splitlines()[-2:] != trained.full.out.splitlines()[-2:]


def test_report_recipe_is_the_protocol_of_2018(script, tmp_path):
    arguments = ("--data", "shapes", "--weights", "none", "--recipe", "report", "--epochs", 1)
    result = script("train_frozen.py", *arguments, "--logs", tmp_path, "--name", "report")
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "frozen" / "report" / "metrics.json").read_text())
    assert (metrics["trainable_params"], metrics["total_params"]) == (5_130, 727_626)
    config = metrics["config"]
    assert (config["learning_rate"], config["batch_size"], config["image_size"]) == (1e-4, 32, 32)
    assert metrics["precision"] == "float32"

    model = keras.models.load_model(tmp_path / "frozen" / "report" / "model.keras")
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert model.get_layer("fire9_concat").output.shape[1:] == (1, 1, 512)
    assert model.get_layer("head_conv10").activation.__name__ == "relu"
    assert model.get_layer("head_drop9").rate == 0.5
    assert not any(layer.name == "center" for layer in model.layers)
    for images in (20, 40_000):
        assert recipes.settings("report", "frozen", images, 32, {})["epochs"] == 10


def test_early_stopping_keeps_the_best_epoch(script, tmp_path):
    arguments = (*TINY[:-1], 20, "--early-stopping", 3, "--learning-rate", 0.05)
    result = script("train_frozen.py", *arguments, "--logs", tmp_path, "--name", "early")
    assert result.status == 0, result.err
    folder = tmp_path / "frozen" / "early"
    metrics = json.loads((folder / "metrics.json").read_text())
    losses = metrics["history"]["val_loss"]
    best = 1 + losses.index(min(losses))
    assert (metrics["best_epoch"], metrics["epochs"]) == (best, best + 3)
    assert metrics["epochs"] == len(losses) < 20
    assert metrics["validation_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert f"best epoch  {best} of {best + 3}, by validation loss" in result.out
    # TensorBoard's projector shows the features of the model that is kept.
    model = keras.models.load_model(folder / "model.keras")
    read = [layer for layer in model.layers if layer.weights][-1].input
    images = data.load("shapes").validation.images
    expected = keras.Model(model.inputs, read).predict(images, verbose=0)
    shown = np.loadtxt(folder / "projector" / "features.tsv", delimiter="\t")
    np.testing.assert_allclose(shown, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_a_head_is_trained_alone_before_the_layers_it_would_distort(trained, script, tmp_path):
    assert "head        trained alone: validation accuracy 0." in trained.full.out
    assert trained.full.metrics["config"]["head_epochs"] > 0
    # At a rate of nothing all else stays as it was: what has changed is what is trained before.
    arguments = (*TINY, "--logs", tmp_path, "--name", "still", "--learning-rate", 1e-30)
    result = script("train_full.py", *arguments)
    assert result.status == 0, result.err
    config = settings.Config(
        **json.loads((tmp_path / "full" / "still" / "config.json").read_text())
    )
    keras.utils.set_random_seed(config.seed)
    before, _ = network.build(config, classes=10)
    after = keras.models.load_model(tmp_path / "full" / "still" / "model.keras")
    for old, new in zip(before.layers, after.layers, strict=True):
        for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
            assert np.allclose(a, b, atol=1e-20) != old.name.startswith("head_"), old.name


def test_weights_are_averaged_for_the_file_and_train_on_as_they_are(script, tmp_path):
    arguments = (*TINY, "--precision", "float32", "--head-epochs", 0, "--logs", tmp_path)
    kernels, losses, trained_on = {}, {}, {}
    for averaging in (0, 1, 10):
        name = f"over-{averaging}"
        result = script("train_full.py", *arguments, "--averaging", averaging, "--name", name)
        assert result.status == 0, result.err
        folder = tmp_path / "full" / name
        model = keras.models.load_model(folder / "model.keras")
        kernels[averaging] = model.get_layer("fire9_squeeze1x1").kernel.numpy()
        metrics = json.loads((folder / "metrics.json").read_text())
        losses[averaging] = metrics["history"]["loss"]
        assert metrics["validation_loss"] == pytest.approx(metrics["history"]["val_loss"][-1], 1e-6)
        with np.load(folder / "checkpoint-2.npz") as arrays:
            shape = kernels[averaging].shape
            trained_on[averaging] = next(a for a in arrays.values() if a.shape == shape)
    assert losses[0] == losses[1] == losses[10]
    for averaging in (0, 1, 10):
        assert np.array_equal(trained_on[averaging], kernels[0])
    keras.utils.set_random_seed(0)
    config = settings.Config(**json.loads((folder / "config.json").read_text()))
    before, _ = network.build(config, classes=10)
    start = before.get_layer("fire9_squeeze1x1").kernel.numpy()
    far, half, near = (np.abs(kernels[each] - start).mean() for each in (0, 1, 10))
    assert near < 0.2 * far and near < half < 0.9 * far


@pytest.mark.parametrize("how", ["plain", "mirrored"])
def test_a_loss_counts_mistakes_of_any_confidence(how):
    dataset = data.load("shapes", images_per_class=1)
    config = settings.Config("frozen", weights="drawn", image_size=32, dropout=0.0)
    model, _ = network.build(config, classes=10)
    logits = model.get_layer("head_logits")
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel, bias - 40 * np.eye(10)[3]])  # a class of almost no probability
    probabilities, loss, _ = evaluation.judge(model, dataset, "validation", how)
    images, labels = dataset.validation
    views = (images, images[:, :, ::-1]) if how == "mirrored" else (images,)
    expected = np.mean([model.predict(view, verbose=0) for view in views], axis=0)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3)
    of_label = expected[np.arange(len(labels)), labels]
    assert of_label.min() < 1e-15
    assert loss == pytest.approx(-np.log(of_label).mean(), rel=1e-4)


@pytest.mark.slow
def test_evaluation_with_mirrored_copies_averages_both(trained, script, tmp_path):
    arguments = (*TINY, "--logs", tmp_path, "--name", "both", "--evaluation", "mirrored")
    result = script("train_last_fire.py", *arguments)
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "last_fire" / "both" / "metrics.json").read_text())
    assert metrics["history"] == trained.last_fire.metrics["history"]
    model = keras.models.load_model(trained.last_fire.folder / "model.keras")
    images, labels = data.load("shapes").validation
    both = [model.predict(view, verbose=0) for view in (images, images[:, :, ::-1])]
    probabilities = np.mean(both, axis=0)
    assert metrics["validation_accuracy"] == pytest.approx(
        np.mean(probabilities.argmax(axis=1) == labels), abs=2 / len(labels)
    )
    expected = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert metrics["validation_loss"] == pytest.approx(expected, rel=1e-2)


@pytest.mark.slow
def test_left_and_right_are_told_apart_where_nothing_is_mirrored(script, tmp_path):
    random = np.random.default_rng(0)
    for name, half in (("Turn left", slice(16)), ("turn right", slice(16, 32))):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 100, (32, 32, 3), "uint8")
            pixels[:, half] += 150
            Image.fromarray(pixels).save(folder / f"{number}.png")
    flags = (*TINY[2:6], "--data", tmp_path / "images", "--logs", tmp_path / "logs")
    losses = []
    for option in ("--mirror", "--no-mirror"):
        result = script("train_full.py", *flags, "--name", option.strip("-"), option)
        assert result.status == 0, result.err
        noted = "if Turn left and turn right are mirror images" in result.out
        assert noted == (option == "--mirror")
        losses.append(float(re.search(r"Validation loss: (.*)", result.out)[1]))
    assert losses[0] > 0.6 > 0.3 > losses[1], losses


def test_the_plot_of_the_losses(trained):
    for regime in REGIMES:
        plot = (getattr(trained, regime).folder / "losses.png").read_bytes()
        assert plot.startswith(b"\x89PNG") and len(plot) > 10_000


def test_the_plot_says_that_classes_are_weighted():
    plot = plots.losses({"epoch": [1], "loss": [1.0], "val_loss": [1.0]}, 1, weighted=True)
    _, labels = plot.axes[0].get_legend_handles_labels()
    assert labels[0] == "training, classes weighted"


def test_without_early_stopping_the_last_epoch_is_kept(trained):
    assert trained.frozen.metrics["best_epoch"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", (signal.SIGINT, signal.SIGTERM))
def test_an_interrupted_run_keeps_its_last_epoch(tmp_path, ended_by):
    arguments = (*TINY[:-1], "500", "--logs", tmp_path, "--name", "cut")
    process = start("train_frozen.py", *arguments)
    for line in process.stdout:
        if line.startswith("epoch 25/"):
            process.send_signal(ended_by)
            break
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.count("\n") == 1
    folder = tmp_path / "frozen" / "cut"
    found = re.search(rf"{folder}/model.keras is the model after epoch (\d+) of 500", err)
    assert found, err
    assert int(found[1]) >= 25
    assert not list(folder.glob(".*")) and not (folder / "metrics.json").exists()
    keras.models.load_model(folder / "model.keras")


def test_a_loss_that_becomes_no_number_stops_the_run(script, one_line, tmp_path, monkeypatch):
    draw, dataset = Batches.draw, Batches.dataset
    epochs = {}

    def noted(self, epoch, at_once=1):
        epochs[self.seed] = epoch
        draw(self, epoch, at_once)

    def spoilt(self, at_once=1):
        def factor():
            return np.float32(np.nan if self.seed is not None and epochs[self.seed] == 1 else 1)

        def spoil(images, targets):
            return images, targets * tf.ensure_shape(tf.numpy_function(factor, [], tf.float32), ())

        return dataset(self, at_once).map(spoil)

    monkeypatch.setattr(Batches, "draw", noted)
    monkeypatch.setattr(Batches, "dataset", spoilt)
    arguments = (*TINY[:-1], 3, "--logs", tmp_path, "--name", "nan")
    result = script("train_frozen.py", *arguments)
    one_line(result, "NaN", "after epoch 1 of 3", "--learning-rate")
    folder = tmp_path / "frozen" / "nan"
    assert not (folder / "metrics.json").exists()
    for weights in keras.models.load_model(folder / "model.keras").get_weights():
        assert np.isfinite(weights).all()


@pytest.mark.slow
def test_a_rate_far_too_high_stops_the_run(script, one_line, tmp_path):
    result = script("train_full.py", *TINY, "--logs", tmp_path, "--learning-rate", "1e6")
    one_line(result, "NaN", "--learning-rate")


def test_a_rule_that_matches_no_layer_is_an_error():
    config = settings.Config(regime="none", weights="none", image_size=32, dropout=0.5)
    model, _ = network.build(config, classes=2)
    with pytest.raises(ValueError, match="matches no layer"):
        network.set_trainable(model, lambda layer: layer.name.startswith("fire1_"))


@pytest.mark.parametrize("optimizer", settings.OPTIMIZERS)
def test_without_weight_decay_weights_stay_as_they_are(optimizer):
    config = settings.Config(
        regime="any",
        optimizer=optimizer,
        learning_rate=0.1,
        weight_decay=0.0,
        schedule="constant",
    )
    weight = keras.Variable([1.0])
    fitting.make_optimizer(config, steps=1).apply([keras.ops.zeros(1)], [weight])
    assert float(weight[0]) == 1


@pytest.mark.parametrize("optimizer", settings.OPTIMIZERS)
def test_optimizers(optimizer):
    config = settings.Config(
        regime="full", optimizer=optimizer, learning_rate=1e-3, weight_decay=0.0
    )
    made = fitting.make_optimizer(config, steps=100)
    assert type(made).__name__.lower() == optimizer


def test_an_optimizer_has_a_rate_of_its_own():
    dataset = data.load("shapes")

    def rate(*given):
        config = command_line.parse_config(settings.Config(regime="any"), ["--optimizer", *given])
        return settings.follow(config, dataset)[0].learning_rate

    assert rate("sgd") == pytest.approx(10 * rate("adam"))
    assert rate("lion") == pytest.approx(0.1 * rate("adam"))
    assert rate("sgd", "--learning-rate", "0.5") == 0.5


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_weight_decay_is_worth_the_same_for_each_optimizer(optimizer):
    multiple, _ = settings.OPTIMIZERS[optimizer]
    config = settings.Config(
        regime="any",
        optimizer=optimizer,
        learning_rate=0.01 * multiple,
        weight_decay=0.5,
        schedule="constant",
    )
    weight = keras.Variable([1.0])
    fitting.make_optimizer(config, steps=1).apply([keras.ops.zeros(1)], [weight])
    assert float(weight[0]) == pytest.approx(1 - 0.01 * 0.5)


def step_of(optimizer, variables):
    return tf.function(lambda rows: optimizer.apply(list(tf.unstack(rows)), variables))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_lean_optimizer_takes_the_steps_of_keras_own(optimizer):
    config = settings.Config(
        regime="full", optimizer=optimizer, learning_rate=0.1, weight_decay=0.5, averaging=1.0
    )
    random = np.random.default_rng(0)
    gradients = [random.normal(size=(2, 3)).astype("f4") for _ in range(5)]
    weights, averages, operations = [], [], []
    for change in (lambda optimizer: optimizer, fitting.lean):
        made = change(fitting.make_optimizer(config, steps=20))
        variables = [keras.Variable(np.ones(3, "f4")), keras.Variable(np.zeros(3, "f4"))]
        made.build(variables)

        step = step_of(made, variables)
        for rows in gradients:
            step(tf.constant(rows))
        weights.append(np.array(variables))
        averages.append(np.array(made._model_variables_moving_average))
        graph = step.get_concrete_function(tf.constant(rows)).graph
        operations.append(len(graph.get_operations()))
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(*averages, rtol=1e-5, atol=1e-7)
    assert not np.allclose(weights[0], averages[0])
    assert operations[1] < operations[0]


def test_learning_rate_rises_then_falls_to_nothing():
    config = settings.Config(regime="full", learning_rate=0.5, weight_decay=0.0)
    rate = fitting.make_optimizer(config, steps=100)._learning_rate
    rates = [float(rate(step)) for step in range(101)]
    assert np.argmax(rates) == 10
    assert rates[10] == pytest.approx(0.5)
    assert rates[0] == pytest.approx(0)
    assert rates[100] == pytest.approx(0, abs=1e-6)


def test_precision_follows_the_processors_flags(monkeypatch):
    class Cpuinfo:
        text = ""

        def __init__(self, path):
            assert path == "/proc/cpuinfo"

        def exists(self):
            return self.text is not None

        def read_text(self):
            return self.text

    monkeypatch.setattr(precision, "Path", Cpuinfo)
    for text, expected in (
        ("flags : fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags : fpu amx_tile amx_bf16", "mixed_bfloat16"),
        ("Features : fp asimd bf16", "mixed_bfloat16"),
        ("flags : fpu avx512f", "float32"),
        (None, "float32"),
    ):
        Cpuinfo.text = text
        assert precision.choose_precision("auto")[0] == expected
    assert precision.choose_precision("mixed_float16")[0] == "mixed_float16"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--recipe", "report"), "float32 (as the recipe report has it)"),
        (("--precision", "float32"), "float32 (as asked)"),
    ],
)
def test_who_has_chosen_the_precision_is_said(flags, reason, script, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "train", interrupted)
    result = script("train_frozen.py", *TINY, *flags, "--logs", tmp_path)
    assert f"precision   {reason}\n" in result.out


def test_what_a_cpu_makes_of_float16_is_said(script, tmp_path, monkeypatch):
    """A CPU's float16 is inexact, and a short run may end before the loss scale fits."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])
    monkeypatch.setattr(precision, "bfloat16_instructions", lambda: "avx512_bf16")
    scaled = keras.optimizers.LossScaleOptimizer
    too_large = functools.partialmethod(scaled.__init__, initial_scale=2.0**127)
    monkeypatch.setattr(scaled, "__init__", too_large)
    few = ("--data", "shapes", "--weights", "none", "--image-size", 32, "--images-per-class", 2)
    flags = ("--precision", "mixed_float16", "--epochs", 1, "--logs", tmp_path)
    result = script("train_frozen.py", *few, *flags)
    assert "as asked; this CPU is not known to compute in it" in result.out
    assert "1 of 1 training steps skipped, as they overflowed in float16" in result.out
    model = evaluation.load(next(tmp_path.glob("frozen/*/model.keras")))
    assert model.get_layer("conv1").dtype_policy.name == "float32"


# --- batches ---------------------------------------------------------------------------------


def numbered(count=10, size=8):
    """Images whose first pixel is their number and whose columns differ."""
    images = np.zeros((count, size, size, 3), "uint8")
    images[...] = np.arange(size)[:, None] * 10
    images[..., 0] = np.arange(count)[:, None, None]
    return data.Split(images, np.arange(count))


def epoch(batches):
    images, targets = zip(*batches.dataset().as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(targets).argmax(axis=1)


def test_batches_of_an_epoch_are_all_images_once_with_their_labels():
    batches = Batches(numbered(), 10, batch_size=4, seed=0, mirror=True, shift=0.25)
    first, labels = epoch(batches)
    assert first.dtype == "uint8"
    assert sorted(labels) == list(range(10))
    np.testing.assert_array_equal(first[:, 0, 0, 0], labels)
    batches.draw(epoch=1)
    _, other = epoch(batches)
    assert list(other) != list(labels)
    again, same = epoch(Batches(numbered(), 10, batch_size=4, seed=0, mirror=True, shift=0.25))
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(same, labels)


def test_batches_for_evaluation_keep_images_and_order():
    images, labels = epoch(Batches(numbered(), 10, batch_size=4))
    np.testing.assert_array_equal(images, numbered().images)
    np.testing.assert_array_equal(labels, np.arange(10))


def test_mirror_and_shift():
    split = numbered(200)
    images, labels = epoch(Batches(split, 200, batch_size=50, seed=0, mirror=True))
    mirrored = images[:, 0, 0, 1] == 70
    assert 70 < mirrored.sum() < 130
    np.testing.assert_array_equal(images[mirrored], split.images[labels[mirrored], :, ::-1])
    np.testing.assert_array_equal(images[~mirrored], split.images[labels[~mirrored]])

    images, _ = epoch(Batches(split, 200, batch_size=50, seed=0, shift=0.25))
    assert set(images[:, 0, 3, 1].tolist()) == {10, 20, 30, 40, 50}
    assert set(images[:, 0, 0, 1].tolist()) == {0, 10, 20}


# --- on real weights and images --------------------------------------------------------------


@pytest.mark.real
@pytest.mark.slow
def test_frozen_features_are_worth_something(script, tmp_path):
    """2,000 real images on real weights: a spoilt ingredient does not get this far."""
    with np.load(IMAGES) as file:
        arrays = {name: file[name][: 2500 if "train" in name else 500] for name in file.files}
    np.savez(tmp_path / "few.npz", **arrays)
    arguments = ("--data", tmp_path / "few.npz", "--logs", tmp_path, "--name", "few")
    result = script("train_frozen.py", *arguments)
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "frozen" / "few" / "metrics.json").read_text())
    assert metrics["weights"]["sha256"].startswith("17154246284f5555")
    assert metrics["validation_accuracy"] > 0.70


@pytest.mark.real
@pytest.mark.slow
def test_weights_from_a_path_are_those_of_the_cache(script, tmp_path):
    for weights in ("imagenet", WEIGHTS):
        arguments = ("--data", "shapes", "--image-size", 32, "--epochs", 1, "--weights", weights)
        name = f"from-{'path' if weights is WEIGHTS else 'cache'}"
        result = script("train_last_fire.py", *arguments, "--logs", tmp_path, "--name", name)
        assert result.status == 0, result.err
    first, second = (
        json.loads((tmp_path / "last_fire" / name / "metrics.json").read_text())
        for name in ("from-cache", "from-path")
    )
    assert first["weights"]["sha256"] == second["weights"]["sha256"]
    assert first["history"] == second["history"]
