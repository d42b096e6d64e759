"""The weights `drawn`: pretrained without a download, on other shapes than those of the demo."""

import keras
import numpy as np
import pytest

import squeezenet
from transfer import network, pretraining, shapes


@pytest.mark.slow
def test_they_transfer_to_shapes_that_they_have_not_seen(script, tmp_path):
    def accuracy(weights):
        result = script(
            "train_frozen.py", "--data", "shapes", "--weights", weights, "--images-per-class", 5,
            "--image-size", 64, "--epochs", 15, "--logs", tmp_path, "--name", weights,
        )  # fmt: skip
        return float(result.out.rsplit(maxsplit=1)[-1])

    assert accuracy("drawn") >= accuracy("none") + 0.3
    assert network.DRAWN_WEIGHTS.stat().st_size <= 1_500_000


def test_the_source_task_is_the_same_each_time_and_has_other_shapes():
    (images, labels), classes = pretraining.draw(300, 16)
    again, _ = pretraining.draw(300, 16)
    np.testing.assert_array_equal(images, again.images)
    assert set(labels) == set(range(classes))
    assert not pretraining.SHAPES.keys() & shapes.SHAPES.keys()


def test_normalization_becomes_part_of_the_convolutions():
    backbone = squeezenet.SqueezeNet(include_top=False, weights=None)
    normalized = keras.models.clone_model(backbone, clone_function=pretraining.normalize)
    random = np.random.default_rng(0)
    for layer in normalized.layers:
        if isinstance(layer, keras.Sequential):
            layer.set_weights([w + random.uniform(0, 0.5, w.shape) for w in layer.get_weights()])
    images = random.normal(size=(2, 64, 64, 3)).astype("float32")
    expected = normalized.predict(images, verbose=0)
    pretraining.fold(normalized, backbone)
    np.testing.assert_allclose(
        backbone.predict(images, verbose=0), expected, rtol=1e-3, atol=expected.max() * 1e-5
    )


def test_what_is_saved_loads(tmp_path):
    backbone = squeezenet.SqueezeNet(include_top=False, weights=None)
    pretraining.save(backbone, tmp_path / "weights.h5")
    loaded = squeezenet.SqueezeNet(include_top=False, weights=str(tmp_path / "weights.h5"))
    for mine, its in zip(backbone.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(its, mine, atol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]
