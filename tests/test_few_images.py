"""What follows from the number of images: settings, standardisation, reports, amounts, folds."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import REGIMES, TINY, finish, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_folders import noise, put

import data
import squeezenet
from transfer import (
    checkpoints,
    cost,
    features,
    fitting,
    network,
    recipes,
    results,
    run,
    settings,
    splits,
    terminal,
)
from transfer import progress as progress_of
from transfer.batches import Batches
from transfer.progress import Progress
from transfer.settings import Config, follow

SETTINGS = ("steps", "batch_size", "learning_rate", "weight_decay", "dropout", "head_steps")


# --- recipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", REGIMES)
def test_one_image_more_makes_no_jump(regime):
    rule = recipes.RULES["tuned"][regime]
    amounts = np.unique([*range(2, 2_000), *np.geomspace(2_000, 200_000, 400).astype(int)])
    chosen = [rule(int(images)) for images in amounts]
    for fewer, more, step in zip(chosen, chosen[1:], amounts[1:] / amounts[:-1], strict=False):
        for name in SETTINGS:
            # Wherever it lies between two of them, a jump is steeper than any of the power laws.
            assert step**-1.5 <= (more[name] or 1) / (fewer[name] or 1) <= step**1.5, (name, step)
    for images in (20, 100, 250, 1_000, 10_000, 40_000):
        for near in (images - 1, images):
            for name in SETTINGS:
                figures = rule(near)[name], rule(near + 1)[name]
                assert figures[1] == pytest.approx(figures[0], rel=0.05), (name, near)


@pytest.mark.parametrize("regime", REGIMES)
def test_settings_are_sound_for_any_amount(regime):
    for images in (1, 2, 7, 20, 100, 999, 5_000, 40_000, 10_000_000):
        chosen = recipes.settings("tuned", regime, images, 32, {})
        assert 1 <= chosen["batch_size"] <= images
        steps = chosen["epochs"] * -(-images // chosen["batch_size"])
        assert steps >= 90
        # The nearest to what the rule says that at most twenty equal parts of whole epochs allow.
        rule, an_epoch = recipes.RULES["tuned"][regime](images), steps // chosen["epochs"]
        part = np.ceil(rule["steps"] / an_epoch / 20)
        assert chosen["epochs"] % part == 0
        nearest = pytest.approx(rule["steps"], abs=part * an_epoch / 2 + 1e-6)
        assert steps == nearest or chosen["epochs"] == 1
        assert 0 <= chosen["dropout"] < 1 and chosen["learning_rate"] > 0


def test_a_few_images_of_few_classes_are_regularised_more():
    for images, classes, factor in ((20, 2, 8), (100, 2, 2), (200, 2, 1), (20, 10, 1), (20, 50, 1)):
        for regime in REGIMES:
            chosen, rule = (
                recipes.settings("tuned", regime, images, 32, {}, count) for count in (classes, 10)
            )
            assert chosen["weight_decay"] == pytest.approx(factor * rule["weight_decay"])
            slower = 1 if regime == "frozen" else factor
            assert chosen["learning_rate"] == pytest.approx(rule["learning_rate"] / slower)
    assert 1 < recipes.caution(30, 4) < recipes.caution(30, 3)
    report = [recipes.settings("report", "full", 20, 32, {}, classes) for classes in (2, 10)]
    assert report[0] == report[1]


@pytest.mark.parametrize("images", [65, 129, 200, 1000, 40_000])
@pytest.mark.parametrize("regime", ["frozen", "last_fire", "full"])
def test_no_step_of_a_short_epoch_is_of_a_few_images(regime, images):
    chosen = recipes.settings("tuned", regime, images, 32, {})
    last = images % chosen["batch_size"] or chosen["batch_size"]
    assert last >= chosen["batch_size"] / 8


def test_the_reports_batches_are_not_made_even():
    assert recipes.settings("report", "full", 97, 32, {})["batch_size"] == 32


def test_an_estimate_counts_the_frozen_part_where_its_features_are_not_kept():
    dataset = data.load("shapes")

    def estimate(regime="frozen", **changes):
        config, _ = follow(Config(regime, precision="float32", **changes), dataset)
        return cost.seconds({"frozen": "head", "last_fire": "fire8"}[regime], config, dataset)

    passes = {"epochs": 50, "image_size": 160}
    head_first = passes | {"regime": "last_fire", "head_epochs": 50}
    assert estimate(**head_first, features="none") > 2 * estimate(**head_first)
    expected = 50 * len(dataset.train.labels) * cost.FORWARD * cost.FLOAT32 / 1000
    for changes in ({"features": "none"}, {"shift": 0.1}):
        assert estimate(**passes, **changes) > estimate(**passes) + 0.9 * expected


def test_what_mirrors_and_what_does_not():
    dataset = data.load("shapes")
    for recipe in ("tuned", "report"):
        config = settings.Config("full", recipe=recipe, **settings.RECIPES[recipe])
        assert settings.follow(config, dataset)[0].given == ""
    config, _ = settings.follow(settings.Config("full", mirror=False, epochs=1), dataset)
    assert config.given == "epochs mirror"
    assert settings.follow(config, dataset) == (config, "")


def test_mirrored_evaluation_of_what_is_not_mirrored_is_refused(script, one_line, tmp_path):
    flags = ("--no-mirror", "--evaluation", "mirrored", "--data", "shapes", "--logs", tmp_path)
    for name in ("train_full.py", "sweep.py"):
        one_line(script(name, *flags), "--evaluation mirrored contradicts --no-mirror")
        assert not list(tmp_path.iterdir())


def test_what_is_given_goes_before_the_rule():
    given = {"epochs": 3, "weight_decay": 0.25, "batch_size": 7}
    chosen = recipes.settings("tuned", "full", 100, 32, given)
    assert chosen | given == chosen
    assert chosen["head_epochs"] == 3
    assert recipes.settings("tuned", "full", 5, 32, {"batch_size": 7})["batch_size"] == 5


def test_photographs_are_enlarged_by_two_sevenths_and_small_images_by_more():
    for side, size, zoom in ((32, 128, 0), (140, 180, None), (224, 288, 0.5), (500, 288, 0.5)):
        chosen = recipes.settings("tuned", "full", 100, side, {})
        assert chosen["image_size"] == size
        assert zoom is None or chosen["zoom"] == pytest.approx(zoom)


def test_views_are_kept_of_few_photographs():
    def chosen(images, side, **given):
        settings = recipes.settings("tuned", "frozen", images, side, given)
        return settings["zoom"], settings["views"]

    assert chosen(100, 500) == (0.5, 20)
    assert chosen(1_000, 500) == (0.5, 12)
    assert chosen(100, 500, views=2) == (0.5, 2)  # of which one is random if nothing is mirrored
    # An image and its mirrored copy are not zoomed, and what is enlarged has no detail to zoom in on.
    assert chosen(40_000, 500) == (0, 0)
    assert chosen(100, 32) == (0, 0)
    # Views that were asked for are as many as there are epochs, but where their number was, too.
    assert chosen(100, 500, zoom=0.3) == (0.3, 0)
    assert chosen(100, 500, zoom=0.3, views=5) == (0.3, 5)
    assert chosen(100, 500, views=5) == (0.5, 5)
    assert chosen(40_000, 500, views=0) == (0.5, 0)
    assert chosen(100, 500, zoom=0.5) == chosen(100, 500, shift=0.0) == (0.5, 20)


def test_the_head_is_first_trained_on_the_views_that_were_asked_for():
    dataset = data.load("shapes", images_per_class=10)
    large = np.zeros((100, 300, 300, 3), "u1")
    dataset = dataset._replace(train=dataset.train._replace(images=large))

    def views(regime, **given):
        whole, _ = follow(Config(regime, **given), dataset)
        head = settings.of_head(whole, dataset)
        return head.shift, head.zoom, head.views

    assert views("last_fire") == views("full") == (0.0, 0.5, 20)
    assert views("full", views=0) == views("full", zoom=0.5) == views("full", shift=0.125)
    assert views("full", zoom=0.5) == views("full")
    assert views("last_fire", zoom=0.0) == (0.0, 0.0, 0)
    assert views("last_fire", zoom=0.2, views=7) == (0.0, 0.2, 7)
    assert views("full", zoom=0.2) == (0.125, 0.2, 20)


def test_all_that_was_given_is_said_to_be_and_what_follows_from_it_is_not():
    dataset = data.load("shapes", images_per_class=10)
    chosen, _ = follow(Config("full"), dataset)
    values = {name: getattr(chosen, name) for name in settings.BY_THE_IMAGES} | {
        "zoom": 0.2,
        "views": 3,
    }
    whole, _ = follow(Config("full", **values), dataset)
    assert whole.given.split() == list(settings.BY_THE_IMAGES)
    assert follow(whole, dataset)[0] == whole and follow(chosen, dataset)[0].given == ""


def test_the_time_of_the_heads_own_views_counts():
    dataset = data.load("shapes", images_per_class=10)
    large = np.zeros((100, 300, 300, 3), "u1")
    dataset = dataset._replace(train=dataset.train._replace(images=large))
    whole, _ = follow(Config("full"), dataset)
    fewer = dataclasses.replace(whole, given="views", views=2)
    assert cost.seconds("all", whole, dataset) > cost.seconds("all", fewer, dataset) + 1


def test_a_model_that_is_always_right_is_not_warned_about(capsys):
    dataset = data.load("shapes")
    right = dataset.validation.labels == 0
    validation = dataset.validation._replace(labels=dataset.validation.labels[right])
    metrics = {"validation_loss": 0.01, "validation_accuracy": 1.0}
    run.warn(metrics, dataset._replace(validation=validation))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("images", [20, 40_000])
def test_the_report_is_no_rule(images):
    protocol = {
        "epochs": 10, "batch_size": min(32, images), "learning_rate": 1e-4, "weight_decay": 0,
        "dropout": 0.5, "shift": 0, "zoom": 0, "views": 0, "head_epochs": 0, "image_size": 32,
        "averaging": 0,
    }  # fmt: skip
    for regime in REGIMES:
        given = {"image_size": 32}  # as RECIPES has it
        assert recipes.settings("report", regime, images, 32, given) == protocol


def test_the_line_of_settings_names_what_was_chosen_and_not_what_was_given():
    dataset = data.load("shapes")
    asked = settings.Config(regime="full", epochs=7, dropout=0.25, optimizer="sgd")
    config, line = settings.follow(asked, dataset)
    assert line.startswith("for 2,000 images of 10 classes: ")
    assert f"learning rate {config.learning_rate:.3g}" in line
    assert f"batch size {config.batch_size}" in line
    assert ", epochs" not in line and ": epochs" not in line and "dropout" not in line
    assert (config.epochs, config.dropout) == (7, 0.25)
    assert None not in dataclasses.asdict(config).values()
    assert settings.follow(config, dataset) == (config, "")
    adam, _ = settings.follow(dataclasses.replace(asked, optimizer="adam"), dataset)
    assert config.learning_rate == pytest.approx(10 * adam.learning_rate)


def test_between_is_a_power_law():
    measured = {10: 1.0, 1_000: 100.0}
    for images, figure in ((1, 1), (10, 1), (100, 10), (1_000, 100), (5_000, 100)):
        assert recipes.between(images, measured) == pytest.approx(figure)


# --- standardisation -------------------------------------------------------------------------


def built(**changes):
    given = {"weights": "none", "image_size": 32, "dropout": 0.0} | changes
    config = settings.Config(regime="any", **given)
    keras.utils.set_random_seed(0)
    model, _ = network.build(config, classes=10)
    return model


def test_mean_and_variance_are_exact_over_images_and_mirrored_copies():
    split = data.load("shapes").validation
    split = data.Split(split.images[:250], split.labels[:250])  # not a whole number of batches
    model = built()
    layers = features.normalizations(model)
    assert len(layers) == 7
    features.standardise(
        model, model.inputs, Batches(split, 10, batch_size=32, seed=0, mirror=True)
    )
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


@pytest.mark.parametrize("size", sorted({32, 224, *recipes.LEAST_SIZE.values()}))
def test_the_default_model_is_no_larger_than_squeezenet_with_its_own_classes(size):
    # Its maps' quarters are features of their own once there are any.
    assert network.count(built(image_size=size).weights) <= 1_235_496


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

    progress = Progress(None)
    dataset = data.load("shapes")._replace(train=split(images), validation=split(held_out))
    progress.plan(epochs, dataset)
    return progress.reported


def test_reports_are_bounded():
    assert reported(5, 1_000, 250) == [1, 2, 3, 4, 5]
    many = reported(300, 1_000, 250)
    assert len(many) == 20 and many[-1] == 300 and many == sorted(set(many))
    assert reported(10, 100, 10_000) == [10]  # validating costs more than all of the training


def test_many_epochs_of_many_images_are_not_drawn_at_once():
    assert progress_of.epochs_at_once(10_000, images=100) == 500
    at_once = progress_of.epochs_at_once(10_000, images=40_000)
    assert 1 < at_once * 40_000 <= progress_of.DRAWN
    assert progress_of.epochs_at_once(10_000, images=progress_of.DRAWN + 1) == 1


@pytest.mark.slow
def test_many_epochs_at_once_are_as_many_one_by_one(script, tmp_path, monkeypatch):
    arguments = (*TINY[:-1], 40, "--images-per-class", 4, "--logs", tmp_path)
    at_once = script("train_frozen.py", *arguments, "--name", "at-once")
    assert at_once.status == 0, at_once.err
    monkeypatch.setattr(progress_of, "REPORTS", 40)
    one_by_one = script("train_frozen.py", *arguments, "--name", "one-by-one")
    found, expected = (
        json.loads((tmp_path / "frozen" / name / "metrics.json").read_text())
        for name in ("at-once", "one-by-one")
    )
    assert found["history"]["epoch"][-1] == expected["history"]["epoch"][-1] == 40
    assert at_once.out.splitlines()[-2:] == one_by_one.out.splitlines()[-2:]


def test_a_patience_has_epochs_to_choose_from():
    split = splits.Split(np.zeros((10, 1, 1, 3), "u1"), np.zeros(10, "i8"))
    many = splits.Split(np.zeros((1000, 1, 1, 3), "u1"), np.zeros(1000, "i8"))
    dataset = type("", (), {"train": split, "validation": many})
    assert Progress.reports(200, dataset, 0) == 2
    assert Progress.reports(200, dataset, 5) == 20


def test_patience_counts_epochs_not_reports(tmp_path):
    class Model:
        stop_training = False

        def save(self, path):
            path.touch()

    progress, model = Progress(tmp_path, patience=5), Model()
    losses = {2: 1.0, 4: 1.5, 6: 1.2, 8: 1.1}
    for epoch in range(1, 9):
        logs = {"loss": 1.0, "accuracy": 0.5}
        if epoch in losses:
            logs |= {"val_loss": losses[epoch], "val_accuracy": 0.5}
        counts = progress.epoch_end(epoch, model, model, logs, report=False)
        assert counts == (epoch in losses)
        # The best is that of epoch 2: six epochs but only three reports later is late enough.
        assert model.stop_training == (epoch == 8)
    assert (progress.kept_epoch, progress.epochs) == (2, 8)
    assert progress.history["epoch"] == [2, 4, 6, 8]


@pytest.mark.slow
def test_a_run_of_many_epochs_prints_few_lines(script, tmp_path, monkeypatch):
    saved, save = [], checkpoints.save

    def noted(folder, epoch, *rest):
        saved.append(epoch)
        save(folder, epoch, *rest)

    monkeypatch.setattr(checkpoints, "save", noted)
    arguments = (*TINY[:-1], 41, "--images-per-class", 5, "--logs", tmp_path, "--name", "run")
    result = script("train_frozen.py", *arguments)
    assert result.status == 0, result.err
    folder = tmp_path / "frozen" / "run"
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = [line for line in result.out.splitlines() if line.startswith("epoch ")]
    assert len(lines) == len(metrics["history"]["epoch"]) == len(metrics["history"]["loss"]) <= 20
    assert metrics["history"]["epoch"][-1] == metrics["epochs"] == 41
    assert saved == metrics["history"]["epoch"]
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    confusions = [event.step + 1 for event in events.Tensors("confusion matrix")]
    assert confusions == metrics["history"]["epoch"]
    assert metrics["config"]["images_per_class"] == 5
    assert metrics["validation_images"] == 500
    assert "50 train, 500 validation" in result.out
    assert "settings    for 50 images of 10 classes: " in result.out
    assert "weight decay 10" in result.out and ", epochs" not in result.out

    # The interval is Wilson's, on the line before the report's three.
    low, high = results.wilson(metrics["validation_accuracy"], 500)
    expected = f"interval    validation accuracy on 500 images, 95 %: {low:.4f} to {high:.4f}"
    assert result.out.splitlines()[-4] == expected


# --- a guard ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss, accuracy, training, changes, words",
    [
        (2.4, 0.3, 0.9, {}, ["above ln(10)", "overfitting"]),
        (2.4, 0.3, 0.3, {}, ["above ln(10)", "too few updates"]),
        (2.3025851, 0.1, 0.1, {}, ["loss of 2.30 is ln(10) = 2.30"]),
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
        "epochs": 4,
        "best_epoch": 2,
        "history": {"epoch": [2, 4], "accuracy": [training, 1 - training]},
        "config": {"recipe": "tuned", "weights": "imagenet"} | changes,
    }
    validation = data.Split(np.zeros((100, 1, 1, 3), "u1"), np.arange(100) % 10)
    run.warn(metrics, data.load("shapes")._replace(validation=validation))
    out = capsys.readouterr().out
    assert out.count("\n") == bool(words)
    assert all(word in out for word in ["warning", *words][: 99 * bool(words)])


def test_a_run_no_better_than_a_guess_says_so_before_its_figures(script, tmp_path):
    arguments = (*TINY[:-1], 1, "--images-per-class", 2, "--logs", tmp_path)
    # At such a rate nothing is learnt in one step.
    result = script("train_frozen.py", *arguments, "--learning-rate", 1e-30, "--seed", 1)
    assert result.status == 0, result.err
    (warning,) = [line for line in result.out.splitlines() if line.startswith("warning")]
    assert "of a random guess" in warning or "largest class" in warning
    assert warning.endswith("random below the head: see --weights imagenet")
    assert result.out.splitlines()[-5] == warning


# --- amounts and folds -----------------------------------------------------------------------


@pytest.mark.slow
def test_folds_are_runs_of_one_row(script, one_line, tmp_path):
    arguments = (*TINY, "--images-per-class", 20, "--logs", tmp_path, "--name", "run")
    result = script("train_frozen.py", *arguments, "--folds", 3)
    assert result.status == 0, result.err
    folders = [tmp_path / "frozen" / f"run-fold-{fold}" for fold in (1, 2, 3)]
    assert sorted((tmp_path / "frozen").iterdir()) == folders
    folds = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert [metrics["config"]["fold"] for metrics in folds] == [1, 2, 3]
    assert sum(metrics["validation_images"] for metrics in folds) == 2_500
    title, loss, accuracy = result.out.splitlines()[-3:]
    assert title == "SqueezeNet with frozen layers"
    means = [
        np.mean([metrics[key] for metrics in folds])
        for key in ("validation_loss", "validation_accuracy")
    ]
    assert float(loss.removeprefix("Validation loss: ")) == pytest.approx(means[0])
    assert float(accuracy.split(": ")[1]) == pytest.approx(means[1])
    assert accuracy.startswith("Validation accuracy (NORMALIZED): ")
    compared = script("compare.py", "--logs", tmp_path)
    assert compared.status == 0, compared.err
    (row,) = [line for line in compared.out.splitlines() if " of 3" in line]
    assert "3 of 3" in row

    # One of them can go on alone.
    one_line(
        script("train_frozen.py", "--resume", folders[1]), "is finished; give a larger --epochs"
    )
    assert script("train_frozen.py", "--resume", folders[1], "--epochs", 3).status == 0
    further = json.loads((folders[1] / "metrics.json").read_text())
    assert (further["epochs"], further["config"]["fold"]) == (3, 2)
    # Two passes over 200 images cost less than one look at 833: there is one report of them.
    assert (folds[1]["history"]["epoch"], further["history"]["epoch"]) == ([2], [2, 3])
    assert further["history"]["loss"][:1] == folds[1]["history"]["loss"]
    assert sorted((tmp_path / "frozen").iterdir()) == folders

    # None begins where one of them is there.
    shutil.rmtree(folders[0])
    one_line(script("train_frozen.py", *arguments, "--folds", 3), f"{folders[1]} exists")
    assert sorted((tmp_path / "frozen").iterdir()) == folders[1:]
    alone = ("--folds", 3, "--fold", 1, "--name", folders[0].name)
    assert script("train_frozen.py", *arguments, *alone).status == 0
    again = json.loads((folders[0] / "metrics.json").read_text())
    assert again["history"] == folds[0]["history"]
    one_line(script("train_frozen.py", *arguments, "--fold", 1), "expected --folds as well")
    one_line(script("train_frozen.py", *arguments, "--folds", 2, "--fold", 3), "expected 1 to 2")


@pytest.mark.parametrize(
    "counts, arguments, words",
    [
        ({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2}, ("--folds", 2), "folder of its own"),
        ({"a": 6, "b": 4}, ("--folds", 4), "the class b has 3 distinct images"),
        ({"a": 6, "b": 1}, (), "the class b has 1 image"),
        (
            {"a": 6, "b": -6},
            ("--on-bad-image", "skip"),
            "the class b has 0 distinct readable images",
        ),
        ({"a": 6, "b": 6}, ("--images-per-class", 5), "has 4 distinct images for training"),
        ({"val/a": 6, "val/b": 6, "test/a": 6, "test/b": 6}, (), "val"),
    ],
)
def test_folders_that_can_not_be_trained_on(
    counts, arguments, words, script, one_line, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    bad = []
    for seed, (name, count) in enumerate(counts.items()):
        put(tmp_path / "images" / name, noise(abs(count), seed))
        if count < 0:
            bad = list((tmp_path / "images" / name).iterdir())
    for path in bad:
        path.write_text("no image")
    flags = ("--data", tmp_path / "images", "--weights", "none", "--logs", tmp_path / "logs")
    result = script("train_frozen.py", *flags, *arguments)
    # Skipped images have a line each, before that of the refusal.
    *skipped, refusal = result.err.splitlines(keepends=True)
    assert len(skipped) == len(bad) and all("is not an image" in line for line in skipped)
    result.err = refusal
    one_line(result, words)
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--images-per-class", 0), "expected 1 or more"),
        (("--images-per-class", -1), "expected 1 or more"),
        (("--images-per-class", 9_999), "distinct images for training: expected 9,999 or more"),
        (("--folds", 1), "expected 2 or more"),
        (("--folds", 9_999), "for training and validation: expected 9999 or more"),
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
    np.testing.assert_array_equal(views(1, shift=0.3, zoom=0.5), views(1, shift=0.3, zoom=0.5))
    assert (views(1, shift=0.3) != views(2, shift=0.3)).any()
    plain = views(1)
    order = np.random.default_rng((0, 1)).permutation(len(split.images))
    np.testing.assert_array_equal(plain, split.images[order])
    np.testing.assert_array_equal(views(1, zoom=0.0, shift=0.0), plain)
    assert views(1, zoom=0.5).dtype == "uint8" and (views(1, zoom=0.5) != plain).any()
    # At hardly any zoom, hardly anything changes: the same images in the same order.
    assert np.abs(views(1, zoom=1e-6).astype(int) - plain).max() <= 1


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"zoom": 0.25}, 56),
        ({"zoom": 0.9}, 48),
        ({"zoom": 0.5, "image_size": 40}, 40),
        ({"zoom": 0.5, "views": 3}, 48),
        ({}, 64),
    ],
)
def test_crops_are_trained_at_the_size_at_which_objects_are_as_large_as_in_whole_images(
    changes, side
):
    dataset = data.load("shapes", images_per_class=2)
    changes = {"image_size": 64} | changes
    config = Config("full", weights="drawn", features="none", **changes)
    config, _ = follow(config, dataset)
    model, _ = network.build(config, classes=10)
    trained, training, _ = fitting.feed(model, dataset, config)
    images, _ = next(iter(training.dataset()))
    smaller = squeezenet.resized(model, side)
    drop = model.get_layer("head_drop")
    drop.rate = 0.0
    np.testing.assert_allclose(trained(images, training=True), smaller(images), rtol=1e-5)
    np.testing.assert_array_equal(trained(images), model(images))
    assert np.array_equal(trained(images), smaller(images)) == (side == config.image_size)
    assert [layer.name for layer in trained.layers] == [layer.name for layer in model.layers]


def test_a_run_on_crops_is_evaluated_on_whole_images_and_goes_on(script, tmp_path, monkeypatch):
    few = ("--data", "shapes", "--weights", "drawn", "--image-size", 64, "--images-per-class", 2)
    few = (*few, "--zoom", 0.5, "--epochs", 4, "--early-stopping", 4, "--logs", tmp_path)
    whole, part = (tmp_path / "full" / name for name in ("whole", "part"))
    result = script("train_full.py", *few, "--name", "whole")
    assert result.status == 0, result.err
    (views,) = EventAccumulator(str(whole)).Reload().Tensors("training views")
    width, height, *_ = views.tensor_proto.string_val
    assert (int(width), int(height)) == (6 * 48, 4 * 48)  # as large as the network sees them
    metrics = results.read_metrics(whole)
    best = min(metrics["history"]["val_loss"])
    assert metrics["validation_loss"] == pytest.approx(best, rel=1e-6)

    save = checkpoints.save

    def killed(folder, epoch, *others):
        save(folder, epoch, *others)
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        assert script("train_full.py", *few, "--name", "part").status == 130
    result = script("train_full.py", "--resume", part)
    assert result.status == 0, result.err
    assert results.read_metrics(part)["history"] == metrics["history"]
    # Of an older version, whose crops were as large as whole images.
    for path in (part / "metrics.json", part / "config.json"):
        known = json.loads(path.read_text())
        assert known.get("config", known).pop("training_size") == 48
        path.write_text(json.dumps(known))
    assert script("compare.py", "--logs", tmp_path).out.count("\nfull ") == 2
    result = script("train_full.py", "--resume", part, "--epochs", 5)
    assert result.status == 2 and "its config.json has 0" in result.err


def test_kept_views_are_the_same_each_epoch():
    split = data.load("shapes").validation
    split = data.Split(split.images[:40], split.labels[:40])
    batches = Batches(split, 10, batch_size=16, seed=0, mirror=True, zoom=0.5, views=3)

    def seen():
        return np.concatenate([images for images, _ in batches.dataset().as_numpy_iterator()])

    kept = []
    for view in range(3):
        batches.draw_view(view)
        kept.append(seen())
    np.testing.assert_array_equal(kept[0], split.images)
    np.testing.assert_array_equal(kept[1], split.images[:, :, ::-1])
    assert (kept[2] != kept[0]).any(axis=(1, 2, 3)).all()
    drawn = set()
    for epoch in range(2):
        batches.draw(epoch)
        image, view = batches.drawn.numpy()[:, :2].T
        assert sorted(image) == list(range(40))
        np.testing.assert_array_equal(seen(), np.stack(kept)[view, image])
        drawn |= set(view)
    assert drawn == {0, 1, 2}
    # The features of two of them are those of any seed; a third is the seed's own.
    same, other = (
        [
            Batches(split, 10, seed=seed, mirror=True, zoom=0.5, views=n).what_views()
            for seed in (0, 1)
        ]
        for n in (2, 3)
    )
    assert same[0] == same[1] and other[0] != other[1]


def test_settings_say_what_they_are_planned_for(script, tmp_path, monkeypatch):
    """All folds have those of the largest; near duplicates that a seed drops count, too."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("transfer.fitting.train", interrupted)
    flags = (*TINY, "--folds", 3, "--fold", 1, "--logs", tmp_path)
    result = script("train_frozen.py", *flags)
    assert "1,666 train, 834 validation" in result.out
    assert "settings    for 1,667 images of 10 classes, as for every fold: " in result.out
    fewer = data.load("shapes")._replace(planned=2003)
    _, line = settings.follow(Config("full"), fewer)
    assert line.startswith("for 2,003 images of 10 classes, near duplicates included: ")


def test_interrupted_folds_say_how_many_are_finished(script, one_line, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("transfer.run._run", interrupted)
    result = script("train_frozen.py", *TINY, "--folds", 3, "--logs", tmp_path)
    one_line(result, "interrupted", status=130)
    assert "folds       0 of 3 finished; --fold trains a single one" in result.out


def test_folds_that_are_refused_are_not_said_to_be_unfinished(script, one_line, tmp_path):
    """--fold would be refused, too."""
    for seed, split in enumerate(("train", "val")):
        for number, name in enumerate("ab"):
            put(tmp_path / "images" / split / name, noise(5, 2 * seed + number))
    flags = ("--data", tmp_path / "images", "--logs", tmp_path / "logs", "--weights", "none")
    result = script("train_frozen.py", *flags, "--folds", 5)
    one_line(result, "images has a validation folder of its own")
    assert "finished" not in result.out


def test_an_interruption_between_two_folds_says_how_many_are_finished(
    script, one_line, tmp_path, monkeypatch
):
    def say(label, text, **_):
        if label == "fold" and text.startswith("2"):
            raise KeyboardInterrupt
        terminal.say(label, text)

    monkeypatch.setattr("transfer.run.say", say)
    monkeypatch.setattr("transfer.run._run_one", lambda *_: {})
    result = script("train_frozen.py", *TINY, "--folds", 3, "--logs", tmp_path)
    one_line(result, "interrupted between two folds", status=130)
    assert "folds       1 of 3 finished; --fold trains a single one" in result.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cant_be_written_ends_folds_in_one_line(one_line, tmp_path):
    flags = ("--data", "nosuch", "--folds", "2", "--logs", tmp_path)
    with open("/dev/full", "w") as full:
        result = finish(start("train_frozen.py", *flags, stdout=full))
    one_line(result, "No space left on device")


def test_settings_that_were_followed_once_are_not_refused_on_resuming():
    """The rule's own shift may be less than a pixel of tiny images."""
    dataset = data.load("shapes", images_per_class=5)
    tiny = dataset._replace(train=dataset.train._replace(images=dataset.train.images[:, :6, :6]))
    whole, _ = settings.follow(settings.Config("full"), tiny)
    again, line = settings.follow(dataclasses.replace(whole, resume="logs/full/run"), tiny)
    assert again.shift == 0.125 and line == ""


@pytest.mark.parametrize("side", [32, 64, 96])
def test_the_shift_that_is_advised_is_taken(side):
    dataset = data.load("shapes", images_per_class=5)
    blank = np.zeros((50, side, side, 3), "u1")
    dataset = dataset._replace(train=dataset.train._replace(images=blank))
    with pytest.raises(ValueError, match="less than a pixel") as refused:
        settings.follow(settings.Config("full", shift=0.001), dataset)
    advised = float(re.search(r"expected ([\d.]+) or more", str(refused.value))[1])
    settings.follow(settings.Config("full", shift=advised), dataset)
