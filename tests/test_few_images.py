"""What follows from the number of images: settings, standardisation, reports, amounts, folds."""

import json

import keras
import numpy as np
import pytest
from conftest import REGIMES, TINY

import data
import experiment
import features
import recipes
import runs
from pipeline import Batches

SETTINGS = ("steps", "batch_size", "learning_rate", "weight_decay", "dropout", "head_steps")


# --- recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", REGIMES)
def test_one_image_more_makes_no_jump(regime):
    rule = recipes.RULES["tuned"][regime]
    amounts = np.unique(np.geomspace(20, 100_000, 300).astype(int))
    for images in [*map(int, amounts), *(step - 1 for step in (100, 250, 1_000, 10_000, 40_000))]:
        fewer, more = rule(images, 10), rule(images + 1, 10)
        for name in SETTINGS:
            assert more[name] == pytest.approx(fewer[name], rel=0.05), (name, images)


@pytest.mark.parametrize("regime", REGIMES)
def test_settings_are_sound_for_any_amount(regime):
    for images in (1, 2, 7, 20, 100, 999, 5_000, 40_000, 10_000_000):
        chosen = recipes.settings("tuned", regime, images, 2, 32, {})
        assert 1 <= chosen["batch_size"] <= images
        steps = chosen["epochs"] * -(-images // chosen["batch_size"])
        assert steps >= 90
        assert 0 <= chosen["dropout"] < 1 and chosen["learning_rate"] > 0


def test_what_is_given_goes_before_the_rule():
    given = {"epochs": 3, "weight_decay": 0.25, "batch_size": 7}
    chosen = recipes.settings("tuned", "full", 100, 10, 32, given)
    assert chosen | given == chosen
    assert chosen["head_epochs"] == 3
    assert recipes.settings("tuned", "full", 5, 2, 32, {"batch_size": 7})["batch_size"] == 5


def test_photographs_are_seen_at_their_size_and_small_images_enlarged():
    for side, size, zoom in ((32, 128, 0), (150, 150, None), (224, 224, 0.4), (500, 224, 0.4)):
        chosen = recipes.settings("tuned", "full", 100, 10, side, {})
        assert chosen["image_size"] == size
        assert zoom is None or chosen["zoom"] == pytest.approx(zoom)


def test_between_is_a_power_law():
    measured = {10: 1.0, 1_000: 100.0}
    for images, figure in ((1, 1), (10, 1), (100, 10), (1_000, 100), (5_000, 100)):
        assert recipes.between(images, measured) == pytest.approx(figure)


# --- standardisation -------------------------------------------------------------------------


def built(**changes):
    config = experiment.Config(
        regime="any", weights="none", image_size=32, dropout=0.0, **changes
    )
    keras.utils.set_random_seed(0)
    model, _ = experiment.build(config, classes=10)
    return model


def test_mean_and_variance_are_exact_over_images_and_mirrored_copies():
    split = data.load("shapes").validation
    split = data.Split(split.images[:250], split.labels[:250])  # not a whole number of batches
    model = built()
    layers = features.normalizations(model)
    assert len(layers) == 7
    features.standardise(model, model.inputs, Batches(split, 10, batch_size=32, seed=0, mirror=True))
    both = np.concatenate([split.images, split.images[:, :, ::-1]])
    for layer in (layers[0], layers[-1]):
        read = keras.Model(model.inputs, layer.input).predict(both, verbose=0).astype("f8")
        variance = read.var(axis=0)
        expected = (500 * variance + 10 * variance.mean()) / 510
        np.testing.assert_allclose(layer.adapt_mean, read.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.adapt_variance, expected, rtol=1e-3, atol=1e-9)


def test_features_that_are_constant_do_no_harm():
    model = built()
    images = np.full((6, 32, 32, 3), 128, "u1")
    split = data.Split(images, np.arange(6) % 2)
    features.standardise(model, model.inputs, Batches(split, 10, seed=0, mirror=True))
    assert np.isfinite(model.predict(images, verbose=0)).all()
    for layer in features.normalizations(model):
        seen = keras.Model(model.inputs, layer.output).predict(images, verbose=0)
        np.testing.assert_allclose(seen, 0, atol=0.05)


def test_training_and_evaluation_see_the_same_function():
    model = built()
    split = data.load("shapes").validation
    features.standardise(model, model.inputs, Batches(split, 10, seed=0))
    images = split.images[:8]
    np.testing.assert_allclose(
        model(images, training=True), model(images, training=False), atol=1e-6
    )
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


def test_the_default_model_is_no_larger_than_squeezenet_with_its_own_classes():
    assert experiment.count(built().weights) <= 1_235_496


def test_the_saved_model_is_standardised(trained):
    for regime in REGIMES:
        model = keras.models.load_model(getattr(trained, regime).folder / "model.keras")
        for layer in features.normalizations(model):
            assert int(layer.count) == 2 * 2_000
            assert float(np.abs(layer.adapt_mean).max()) > 0


# --- what is reported ------------------------------------------------------------------------


def reported(epochs, images, held_out):
    def split(count):
        return data.Split(np.zeros((count, 1, 1, 3), "u1"), np.zeros(count, "i8"))

    progress = experiment.Progress(None)
    dataset = data.load("shapes")._replace(train=split(images), validation=split(held_out))
    progress.plan(epochs, dataset)
    return progress.reported


def test_reports_are_bounded():
    assert reported(5, 1_000, 250) == [1, 2, 3, 4, 5]
    many = reported(300, 1_000, 250)
    assert len(many) == 20 and many[-1] == 300 and many == sorted(set(many))
    assert reported(10, 100, 10_000) == [10]  # validating costs more than all of the training


def test_a_run_of_many_epochs_prints_few_lines(script, tmp_path):
    arguments = (*TINY[:-1], 41, "--images-per-class", 5, "--logs", tmp_path, "--name", "run")
    result = script("train_frozen.py", *arguments)
    assert result.status == 0, result.err
    folder = tmp_path / "frozen" / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = [line for line in result.out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == len(metrics["history"]["epoch"]) == len(metrics["history"]["loss"]) <= 20
    assert metrics["history"]["epoch"][-1] == metrics["epochs"] == 41
    assert metrics["config"]["images_per_class"] == 5
    assert "50 train, 500 validation" in result.out
    assert "settings    for 50 images of 10 classes: " in result.out
    assert "weight decay 10" in result.out and ", epochs" not in result.out

    # The interval is Wilson's, on the line before the report's three.
    low, high = runs.wilson(metrics["validation_accuracy"], 500)
    expected = f"interval    95 % of validation accuracy on 500 images: {low:.4f} to {high:.4f}"
    assert result.out.splitlines()[-4] == expected


# --- a guard ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss, accuracy, training, changes, words",
    [
        (2.4, 0.3, 0.9, {}, ["above ln(10)", "overfitting"]),
        (2.4, 0.3, 0.3, {}, ["above ln(10)", "too few updates"]),
        (1.0, 0.1, 0.1, {}, ["not above 0.1", "largest class"]),
        (2.4, 0.3, 0.3, {"recipe": "report"}, ["--recipe tuned"]),
        (2.4, 0.3, 0.3, {"weights": "none"}, ["--weights imagenet"]),
        (1.0, 0.3, 0.9, {}, []),
    ],
)
def test_a_model_no_better_than_a_guess_is_named(loss, accuracy, training, changes, words, capsys):
    metrics = {
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "history": {"accuracy": [training]},
        "config": {"recipe": "tuned", "weights": "imagenet"} | changes,
    }
    validation = data.Split(np.zeros((100, 1, 1, 3), "u1"), np.arange(100) % 10)
    experiment.warn(metrics, data.load("shapes")._replace(validation=validation))
    out = capsys.readouterr().out
    assert out.count("\n") == bool(words)
    assert all(word in out for word in ["warning", *words][: 99 * bool(words)])


# --- amounts and folds -----------------------------------------------------------------------


def test_folds_are_runs_of_one_row(script, tmp_path):
    arguments = (*TINY, "--images-per-class", 20, "--logs", tmp_path, "--name", "run")
    result = script("train_frozen.py", *arguments, "--folds", 2)
    assert result.status == 0, result.err
    folds = [
        json.loads((tmp_path / "frozen" / f"run-fold-{fold}" / "metrics.json").read_text())
        for fold in (1, 2)
    ]
    assert [metrics["config"]["fold"] for metrics in folds] == [1, 2]
    mean = np.mean([metrics["validation_accuracy"] for metrics in folds])
    assert result.out.splitlines()[-1] == f"Validation accuracy (NORMALIZED): {mean}"
    compared = script("compare.py", "--logs", tmp_path)
    assert compared.status == 0, compared.err
    assert "2 of 2" in compared.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--images-per-class", 0), "expected 1 or more"),
        (("--images-per-class", -1), "expected 1 or more"),
        (("--images-per-class", 9_999), "training images: expected 9,999 or more"),
        (("--folds", 1), "expected 2 or more"),
        (("--folds", 9_999), "to train and validate: expected 9999 or more"),
    ],
)
def test_amounts_and_folds_that_there_are_not(arguments, words, script, one_line, tmp_path):
    logs = tmp_path / "logs"
    one_line(script("train_frozen.py", *TINY, "--logs", logs, *arguments), words)
    assert not logs.exists()


# --- views -----------------------------------------------------------------------------------


def test_zoomed_views_follow_from_seed_and_epoch():
    split = data.load("shapes").validation
    split = data.Split(split.images[:40], split.labels[:40])

    def views(epoch, **changes):
        batches = Batches(split, 10, batch_size=16, seed=0, **changes)
        batches.draw(epoch)
        return np.concatenate([images for images, _ in batches.dataset().as_numpy_iterator()])

    np.testing.assert_array_equal(views(1, zoom=0.5), views(1, zoom=0.5))
    assert (views(1, zoom=0.5) != views(2, zoom=0.5)).any()
    plain = views(1)
    assert views(1, zoom=0.5).dtype == "uint8" and (views(1, zoom=0.5) != plain).any()
    # At hardly any zoom, hardly anything changes: the same images in the same order.
    assert np.abs(views(1, zoom=1e-6).astype(int) - plain).max() <= 1
