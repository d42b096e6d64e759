"""Training the tail on kept features is training the whole model, only faster."""

import dataclasses
import os
import re
import shutil

import keras
import numpy as np
import pytest
from conftest import ROOT, TINY, finish, start

import data
from transfer import evaluation, features, network, precision, run
from transfer.batches import Batches
from transfer.precision import choose_precision


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty Keras cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A Keras cache after a run of the frozen regime, and what that run printed."""
    folder = tmp_path_factory.mktemp("filled")
    arguments = (*TINY, "--logs", folder / "logs")
    result = finish(start("train_frozen.py", *arguments, KERAS_HOME=str(folder / "keras")))
    assert result.status == 0, result.err
    return folder / "keras", result


@pytest.fixture
def first(filled, home):
    """What the first run printed, with its features in `home`."""
    shutil.copytree(filled[0], home)
    return filled[1]


def rule(regime):
    namespace = {}
    source = (ROOT / f"train_{regime}.py").read_text().split("if __name__")[0]
    exec(source, namespace)  # noqa: S102  (the script is ours)
    return namespace["trainable"], namespace["DEFAULTS"]


def built(regime, **changes):
    trainable, defaults = rule(regime)
    config = dataclasses.replace(defaults, weights="none", image_size=32, dropout=0.5, **changes)
    model, _ = network.build(config, classes=10)
    network.set_trainable(model, trainable)
    return model


def test_the_boundary_follows_from_the_regime():
    prefix, tail = features.split(built("frozen"))
    # At 32 px, where fire6 to fire9 see one cell, of which the quarters are the whole.
    widths = [2 * 128, 2 * 256, 6 * 256, 2 * 384, 3 * 384, 2 * 512, 3 * 512]
    assert [output.shape[1] for output in prefix.outputs] == widths
    names = {layer.name for layer in tail.layers if layer.weights}
    fires = range(3, 10)
    assert names == {f"head_fire{fire}_{kind}" for fire in fires for kind in ("norm", "hidden")} | {
        "head_logits"
    }

    prefix, tail = features.split(built("last_fire", head="average"))
    assert [output.shape[1:] for output in prefix.outputs] == [(1, 1, 384)]
    assert "fire7_concat" in {layer.name for layer in prefix.layers}
    assert tail.layers[1].name == "fire8_squeeze1x1"

    model = built("full")
    assert features.split(model) == (None, model)


def test_a_boundary_of_several_outputs():
    model = built("last_fire", head="pooled")
    prefix, tail = features.split(model)
    assert len(prefix.outputs) == 1 + 5  # fire7's map; what the head reads of fire3 to fire7
    images = data.load("shapes").test.images[:5]
    whole = model.predict(images, verbose=0)
    np.testing.assert_allclose(tail.predict(prefix.predict(images, verbose=0), verbose=0), whole)


@pytest.mark.parametrize(
    "views",
    [
        {"mirror": False, "zoom": 0.0},
        {"mirror": True, "zoom": 0.5, "views": 4},
        {"mirror": True, "zoom": 0.5, "views": 4, "image_size": 96},  # trained at 72
    ],
)
@pytest.mark.parametrize("regime", ["frozen", "last_fire"])
@pytest.mark.slow
def test_the_tail_on_features_trains_as_the_whole_model_on_pixels(home, tmp_path, regime, views):
    """No dropout, no views that are new each epoch, float32: the same losses but for rounding.

    With SGD, since Adam divides by the gradient's size and so amplifies rounding where it is small.
    """
    trainable, defaults = rule(regime)
    results = {}
    for kept in ("cache", "none"):
        config = dataclasses.replace(
            defaults, data="shapes", weights="none", epochs=2, images_per_class=20,
            precision="float32", optimizer="sgd", learning_rate=1e-4, shift=0.0, dropout=0.0,
            head_epochs=0, features=kept, logs=str(tmp_path), name=kept, **{"image_size": 32} | views,
        )  # fmt: skip
        metrics = run.run("title", trainable, config)
        model = keras.models.load_model(tmp_path / regime / kept / "model.keras")
        predictions = model.predict(data.load("shapes").validation.images, verbose=0)
        results[kept] = metrics["history"], predictions
    assert list(home.rglob("*.bin"))
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(results["cache"][0][key], results["none"][0][key], rtol=1e-5)
    np.testing.assert_allclose(results["cache"][1], results["none"][1], atol=1e-5)


@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.slow
def test_a_head_alone_learns_the_same_from_what_it_reads(home, tmp_path, capfd, side):
    """Where it takes more epochs than there are views, each view passes once through what is below it."""
    trainable, defaults = rule("last_fire")
    accuracies = {}
    for kept in ("cache", "none"):
        config = dataclasses.replace(
            defaults, data="shapes", weights="drawn", image_size=side, epochs=1, images_per_class=20,
            precision="float32", dropout=0.0, head_epochs=8, features=kept, logs=str(tmp_path), name=kept,
            mirror=True, zoom=0.5, views=4,
        )  # fmt: skip
        losses = run.run("title", trainable, config)["history"]["val_loss"]
        accuracies[kept] = re.search(r"trained alone: .*", capfd.readouterr().out)[0], losses
    (alone, losses), (alone_live, live) = accuracies.values()
    assert alone == alone_live
    np.testing.assert_allclose(losses, live, rtol=1e-3)


def run_frozen(script, logs, *arguments):
    result = script("train_frozen.py", *TINY, "--logs", logs, *arguments)
    assert result.status == 0, result.err
    return result


def test_a_second_run_finds_the_features(home, first, script, tmp_path):
    """And removes what a run that was killed had begun to write of the same."""
    assert "to compute" in first.out
    written = {path: path.stat().st_mtime_ns for path in home.rglob("*.bin")}
    # Of each fire module: training images with their mirrored copies, validation images.
    assert len(written) == 2 * 7
    for path in written:
        path.with_name(f".123.part.{path.name}").touch()
    second = run_frozen(script, tmp_path)
    assert "already computed" in second.out
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*.bin")} == written
    assert second.out.splitlines()[-3:] == first.out.splitlines()[-3:]


@pytest.mark.parametrize("other", [("--image-size", 33), ("--precision", None), ("--seed", 1)])
@pytest.mark.slow
def test_other_features_have_another_key(first, script, tmp_path, other):
    if other[1] is None:  # that which `auto` does not take on this CPU
        chosen, _ = choose_precision("auto")
        other = ("--precision", "mixed_bfloat16" if chosen == "float32" else "float32")
    assert "to compute" in run_frozen(script, tmp_path, *other).out


def test_images_of_another_side_have_features_of_their_own(home):
    """As those of a folder do, when a larger one joins it."""
    dataset = data.load("shapes")
    pixels = keras.Input((None, None, 3))
    cache = features.Cache(
        keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels)), dataset
    )
    large = dataset.train._replace(images=dataset.train.images.repeat(2, axis=1).repeat(2, axis=2))
    markers = [cache._marker(("train", Batches(split, 10)))[0] for split in (dataset.train, large)]
    assert markers[0] != markers[1]


SLOW = [pytest.param(damage, marks=pytest.mark.slow) for damage in ("cut", "swapped")]


@pytest.mark.parametrize("damage", ["flipped", "marker", *SLOW])
def test_a_damaged_cache_is_computed_again(home, first, script, tmp_path, damage):
    paths = sorted(home.rglob("*.bin"), key=lambda path: path.stat().st_size)
    whole = paths[-1].read_bytes()
    if damage == "cut":
        paths[-1].write_bytes(whole[:-100])
    elif damage == "flipped":
        paths[-1].write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    elif damage == "swapped":
        paths[-1].write_bytes(paths[-2].read_bytes())
    else:
        paths[-1].with_suffix("").with_suffix(".json").write_text('{"sha256": ')
    second = run_frozen(script, tmp_path)
    assert "to compute" in second.out
    assert second.out.splitlines()[-3:] == first.out.splitlines()[-3:]
    assert paths[-1].read_bytes() == whole


@pytest.mark.slow
def test_two_runs_at_the_same_time(home, tmp_path):
    arguments = (*TINY, "--logs", tmp_path)
    processes = [start("train_frozen.py", *arguments, KERAS_HOME=str(home)) for _ in range(2)]
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0].splitlines()[-3:] == outputs[1][0].splitlines()[-3:]
    # The second one waits for those of the first.
    assert sorted("already computed" in out for out, _ in outputs) == [False, True]
    assert not [path for path in home.rglob(".*") if path.is_file()]


def test_no_room_for_the_features(home, script, one_line, tmp_path, monkeypatch):
    arguments = ("train_frozen.py", *TINY, "--logs", tmp_path / "logs", "--name", "run")
    with monkeypatch.context() as full:
        usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
        full.setattr(shutil, "disk_usage", lambda _: usage)
        one_line(script(*arguments), "has 2 MB free", "--features none")
    with monkeypatch.context() as locked:
        locked.setattr(os, "access", lambda *_: False)
        one_line(script(*arguments), "features can't be written to", "--features none")
    assert not list(home.rglob("*.bin")) and not (tmp_path / "logs").exists()
    result = script(*arguments, "--features", "none")  # which the name does not stand in the way of
    assert result.status == 0, result.err


@pytest.mark.slow
def test_features_can_be_left_out(first, script, tmp_path):
    live = run_frozen(script, tmp_path, "--features", "none")
    assert "features " not in live.out
    assert live.out.splitlines()[0] == first.out.splitlines()[0]


def test_an_image_alone_has_the_features_that_it_has_among_others(home):
    prefix, _ = features.split(built("frozen"))
    dataset = data.load("shapes")

    def found(count):
        few = dataset._replace(digests={"train": dataset.digests["train"][:count]})
        part = dataset.train._replace(images=dataset.train.images[:count])
        (seen,) = features.Cache(prefix, few).load([("train", Batches(part, 10))])
        return [np.array(tensor[0]) for tensor in seen.tensors]

    sizes, predict = [], prefix.predict_on_batch
    prefix.predict_on_batch = lambda batch: sizes.append(len(batch)) or predict(batch)
    alone = found(1)
    shutil.rmtree(home / "features")
    for one, other in zip(alone, found(3), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert sizes == [2, 4]


def test_features_that_overflow_are_one_line(home):
    model = built("frozen")
    model.get_layer("fire9_expand1x1").bias.assign(np.full(256, np.inf))
    with pytest.raises(ValueError, match="the features overflow in float32"):
        features.standardise(model, model.inputs, Batches(data.load("shapes").train, 10))


@pytest.mark.parametrize("emulated", [True, False])
def test_a_model_of_16_bits_computes_in_32_where_they_are_emulated(tmp_path, monkeypatch, emulated):
    """In bfloat16, some processors take the average of many equal numbers for another one."""
    monkeypatch.setattr(precision, "emulates", lambda: emulated)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = built("full")
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    loaded = evaluation.load(tmp_path / "model.keras")
    policies = {layer.dtype_policy.name for layer in loaded.layers}
    assert policies == {"float32"} if emulated else "mixed_bfloat16" in policies
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_of_a_gpu_are_others(monkeypatch):
    prefix, _ = features.split(built("frozen"))
    dataset = data.load("shapes")
    before = features.Cache(prefix, dataset).facts
    monkeypatch.setattr(features.tf.config, "list_physical_devices", lambda kind: [kind])
    assert features.Cache(prefix, dataset).facts == before | {"device": "GPU"}


def test_a_run_is_judged_from_the_features_that_it_kept(filled, first):
    path = next(filled[0].parent.glob("logs/frozen/*/model.keras"))
    model = evaluation.load(path)
    dataset = data.load("shapes")
    probabilities, loss, _ = evaluation.evaluate(path, dataset, "validation")
    assert f"Validation loss: {loss}" in first.out
    # Its pixels are not looked at again.
    images, labels = dataset.validation
    black = dataset._replace(validation=data.Split(np.zeros_like(images), labels))
    same, _, _ = evaluation.evaluate(path, black, "validation")
    np.testing.assert_array_equal(same, probabilities)
    np.testing.assert_allclose(model.predict(images, verbose=0), probabilities, atol=1e-5)
    for given in (dataset, black):
        few = features.predict(model, given, "validation", slice(None, None, 3))
        np.testing.assert_allclose(few, probabilities[::3], atol=1e-5)
