"""The network against keras.applications' own test pattern, and against plain NumPy."""

import math

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import WEIGHTS
from numpy.lib.stride_tricks import sliding_window_view

import squeezenet
from squeezenet import SqueezeNet

FIRES = range(2, 10)


@pytest.fixture(autouse=True)
def image_data_format():
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("channels", [1, 4])
def test_no_top_of_variable_size_and_channels(data_format, channels):
    keras.config.set_image_data_format(data_format)
    last = data_format == "channels_last"
    shape = (None, None, channels) if last else (channels, None, None)
    model = SqueezeNet(weights=None, include_top=False, input_shape=shape)
    assert model.output_shape == ((None, None, None, 512) if last else (None, 512, None, None))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_no_top_of_custom_shape_and_tensor(data_format):
    keras.config.set_image_data_format(data_format)
    axis = -1 if data_format == "channels_last" else 1
    shape = (123, 123, 3) if axis == -1 else (3, 123, 123)
    model = SqueezeNet(weights=None, include_top=False, input_shape=shape)
    assert model.output_shape[axis] == 512

    inputs = keras.Input((200, 200, 4) if axis == -1 else (4, 200, 200))
    custom = keras.layers.Conv2D(3, 2, strides=2)(inputs)
    model = SqueezeNet(weights=None, include_top=False, input_tensor=custom)
    assert model.output_shape[axis] == 512
    assert model.inputs[0] is inputs


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_pooling(pooling):
    model = SqueezeNet(weights=None, include_top=False, pooling=pooling)
    assert model.output_shape == (None, 512)


def test_classifier_activation():
    model = SqueezeNet(weights=None, classifier_activation="softmax")
    assert model.layers[-1].activation.__name__ == "softmax"
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1000)
    logits = SqueezeNet(weights=None, classes=7, classifier_activation=None)
    assert logits.layers[-1].activation.__name__ == "linear"
    assert logits.output_shape == (None, 7)


def test_serialisation():
    model = SqueezeNet(weights=None)
    config = keras.saving.serialize_keras_object(model)
    copy = keras.saving.deserialize_keras_object(config)
    assert len(copy.weights) == len(model.weights)


def test_layer_names_and_parameter_counts():
    model = SqueezeNet(weights=None, classes=1000)
    names = [layer.name for layer in model.layers]
    parts = ("squeeze1x1", "expand1x1", "expand3x3", "concat")
    fires = {f"fire{fire}_{part}" for fire in FIRES for part in parts}
    assert fires | {"conv1", "drop9", "conv10"} <= set(names)
    assert SqueezeNet(weights=None, include_top=False).count_params() == 722_496
    assert model.count_params() == 722_496 + 513_000


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"weights": "nowhere.h5"}, "weights"),
        ({"classes": 10}, "classes"),
        ({"weights": None, "classes": 0}, "classes"),
        ({"weights": None, "input_shape": (31, 64, 3)}, "input_shape"),
        ({"weights": None, "input_shape": (64, 64)}, "input_shape"),
        ({"include_top": False, "input_shape": (64, 64, 1)}, "input_shape"),
        ({"weights": None, "pooling": "sum"}, "pooling"),
        ({"classifier_activation": "relu"}, "classifier_activation"),
        ({"weights": None, "input_tensor": np.zeros((1, 64, 64, 3))}, "input_tensor"),
    ],
)
def test_refuses_an_argument_out_of_range(arguments, argument):
    with pytest.raises(ValueError, match=f"`{argument}`.*Received: {argument}="):
        SqueezeNet(**arguments)


def test_refusals_come_in_the_order_weights_classes_shape():
    with pytest.raises(ValueError, match="`weights`"):
        SqueezeNet(weights="nowhere.h5", classes=10, input_shape=(1, 1, 3))
    with pytest.raises(ValueError, match="`classes`"):
        SqueezeNet(classes=10, input_shape=(1, 1, 3))


def test_preprocess_input_is_caffes_and_changes_nothing_in_place():
    for dtype in ("uint8", "float32"):
        image = np.full((1, 2, 2, 3), (10, 20, 30), dtype)
        result = squeezenet.preprocess_input(image)
        np.testing.assert_allclose(result[0, 0, 0], (30 - 103.939, 20 - 116.779, 10 - 123.68))
        assert (image == np.array((10, 20, 30))).all()
        tensor = squeezenet.preprocess_input(keras.ops.convert_to_tensor(image))
        np.testing.assert_allclose(tensor, result, rtol=1e-5)


def test_pixels_agree_with_preprocess_input():
    inputs = squeezenet.pixels(48)
    model = keras.Model(keras.utils.get_source_inputs(inputs), inputs)
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype="uint8")
    expected = squeezenet.preprocess_input(image)
    np.testing.assert_allclose(model.predict(image, verbose=0), expected, atol=1e-4)


def test_replace_head():
    backbone = SqueezeNet(weights=None, include_top=False, input_shape=(64, 64, 3))
    for model in (backbone, SqueezeNet(weights=None)):
        for head in squeezenet.HEADS:
            new = squeezenet.replace_head(model, 3, head)
            assert new.output_shape == (None, 3)
            assert "conv10" not in [layer.name for layer in new.layers]
            assert new.get_layer("fire2_squeeze1x1") is model.get_layer("fire2_squeeze1x1")
    with pytest.raises(ValueError, match="`classes`"):
        squeezenet.replace_head(model, 1)
    with pytest.raises(ValueError, match="`head`"):
        squeezenet.replace_head(model, 3, "none")


def test_a_plain_call_is_one_of_inference():
    backbone = SqueezeNet(False, weights=None, input_tensor=squeezenet.pixels(48))
    model = squeezenet.replace_head(backbone, 5, head="pooled")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    np.testing.assert_allclose(model(images), model(images, training=False))


@pytest.mark.parametrize("head", squeezenet.HEADS)
def test_a_resized_network_is_the_same_for_other_images(head):
    def built(size):
        backbone = SqueezeNet(False, weights=None, input_tensor=squeezenet.pixels(size))
        return squeezenet.replace_head(backbone, 5, head)

    model, other = built(96), built(72)
    resized = squeezenet.resized(model, 72)
    other.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3)).astype("uint8")
    np.testing.assert_array_equal(resized(images), other(images))
    assert [id(weight) for weight in resized.weights] == [id(weight) for weight in model.weights]
    assert [layer.name for layer in resized.layers] == [layer.name for layer in model.layers]


def test_heads_of_any_image_size():
    backbone = SqueezeNet(weights=None, include_top=False)
    assert squeezenet.replace_head(backbone, 3).output_shape == (None, 3)
    with pytest.raises(ValueError, match="known image size"):
        squeezenet.replace_head(backbone, 3, "pooled")


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_the_pooled_heads_features_are_averages_and_maxima(data_format):
    keras.config.set_image_data_format(data_format)
    first = data_format == "channels_first"
    shape = (3, 64, 80) if first else (64, 80, 3)
    model = SqueezeNet(weights=None, include_top=False, input_shape=shape)
    new = squeezenet.replace_head(model, 3, "pooled")
    maps = [model.get_layer(f"fire{fire}_concat").output for fire in range(3, 10)]
    read = [new.get_layer(f"head_fire{fire}_features").output for fire in range(3, 10)]
    images = np.random.default_rng(0).random((2, *shape), "float32")
    try:
        outputs = keras.Model(model.input, [*maps, *read]).predict(images, verbose=0)
    except tf.errors.UnimplementedError:
        pytest.skip("TensorFlow has no channels_first convolution on this CPU")
    maps, features = outputs[:7], np.concatenate(outputs[7:], axis=1)
    expected = []
    for fire, each in enumerate(maps, start=3):
        each = np.moveaxis(each, 1, -1) if first else each
        expected += [each.mean(axis=(1, 2)), each.max(axis=(1, 2))]
        if fire in (5, 7, 9):
            rows, columns = (math.ceil(side / 2) for side in each.shape[1:3])
            quarters = [
                part.mean(axis=(1, 2))
                for half in (each[:, :rows], each[:, -rows:])
                for part in (half[:, :, :columns], half[:, :, -columns:])
            ]
            expected.append(np.concatenate(quarters, axis=1))
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-6)


# --- weights ---------------------------------------------------------------------------------


def write_published(path, model, change=lambda name, arrays: arrays):
    """Writes a model's weights as the published files have them; `change` may spoil a layer."""
    with h5py.File(path, "w") as file:
        layers = []
        for layer in model.layers:
            name = layer.name.replace("_", "/")
            arrays = change(layer.name, layer.get_weights())
            if arrays is None:
                continue
            group = file.create_group(name)
            layers.append(name.encode())
            group.attrs["weight_names"] = [f"{name}_{i}".encode() for i in range(len(arrays))]
            for i, array in enumerate(arrays):
                group[f"{name}_{i}"] = array
        file.attrs["layer_names"] = layers


@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_weights_from_a_path(tmp_path, include_top, suffix):
    size = {"input_shape": (32, 32, 3), "include_top": include_top}
    model = SqueezeNet(weights=None, **size)
    path = tmp_path / f"squeezenet{suffix}"
    write_published(path, model) if suffix == ".h5" else model.save_weights(path)
    copy = SqueezeNet(weights=str(path), **size)
    for weight, expected in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda name, arrays: None if name == "fire5_expand3x3" else arrays, "fire5_expand3x3"),
        (lambda name, arrays: [a[..., :8] for a in arrays] if name == "conv1" else arrays, "conv1"),
        (lambda name, arrays: arrays[:1] if name == "conv1" else arrays, "conv1"),
    ],
)
def test_weights_that_do_not_fit_leave_the_model_unchanged(tmp_path, change, name):
    model = SqueezeNet(weights=None, include_top=False)
    path = tmp_path / "other.h5"
    write_published(path, model, change)
    other = SqueezeNet(weights=None, include_top=False)
    before = other.get_weights()
    with pytest.raises(ValueError, match=f"`weights` do not fit at {name}"):
        squeezenet.load_weights(other, path)
    for weight, expected in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_weights_with_a_layer_too_many(tmp_path):
    write_published(tmp_path / "top.h5", SqueezeNet(weights=None))
    with pytest.raises(ValueError, match="conv10: the network has no such layer"):
        SqueezeNet(weights=str(tmp_path / "top.h5"), include_top=False)


def test_weights_with_a_layer_too_many_in_the_format_of_keras(tmp_path):
    path = tmp_path / "top.weights.h5"
    SqueezeNet(weights=None).save_weights(path)
    with pytest.raises(ValueError, match="of another network.*top.weights.h5"):
        SqueezeNet(weights=str(path), include_top=False)


def test_weights_in_the_format_of_keras_need_its_suffix(tmp_path):
    model = SqueezeNet(weights=None, include_top=False)
    model.save_weights(tmp_path / "mine.weights.h5")
    path = (tmp_path / "mine.weights.h5").rename(tmp_path / "mine.h5")
    with pytest.raises(ValueError, match="rename it, as Keras 3 reads only .*mine.h5"):
        SqueezeNet(weights=str(path), include_top=False)


def test_weights_of_another_network_in_the_format_of_keras(tmp_path, recwarn):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    model = SqueezeNet(weights=None, include_top=False)
    recwarn.clear()
    with pytest.raises(ValueError, match="of another network.*other.weights.h5"):
        squeezenet.load_weights(model, path)
    assert not recwarn.list


def test_weights_in_the_format_of_keras_that_fit_in_part_leave_the_model_unchanged(tmp_path):
    path = tmp_path / "other.weights.h5"
    SqueezeNet(weights=None, include_top=False).save_weights(path)
    with h5py.File(path, "a") as file:
        biases = []
        file.visititems(
            lambda _, found: biases.append(found) if getattr(found, "shape", 0) == (256,) else None
        )
        name = biases[-1].name
        del file[name]
        file[name] = np.zeros(3, "f4")
    model = SqueezeNet(weights=None, include_top=False)
    before = model.get_weights()
    with pytest.raises(ValueError, match="of another network"):
        squeezenet.load_weights(model, path)
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_weights_that_are_no_numbers_leave_the_model_unchanged(tmp_path):
    model = SqueezeNet(weights=None, include_top=False)
    before = model.get_weights()
    write_published(
        tmp_path / "words.h5",
        SqueezeNet(weights=None, include_top=False),
        lambda name, arrays: (
            [np.full(a.shape, b"a") for a in arrays] if name == "fire9_expand3x3" else arrays
        ),
    )
    with pytest.raises(ValueError, match="words.h5"):
        squeezenet.load_weights(model, tmp_path / "words.h5")
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_file_whose_layers_are_an_array_is_no_weights_file(tmp_path):
    with h5py.File(tmp_path / "array.weights.h5", "w") as file:
        file["layers"] = [1, 2]
    with pytest.raises(ValueError, match="damaged or of another kind.*array.weights.h5"):
        SqueezeNet(weights=str(tmp_path / "array.weights.h5"), include_top=False)


def test_damaged_weights(tmp_path):
    model = SqueezeNet(weights=None, include_top=False)
    path = tmp_path / "whole.h5"
    write_published(path, model)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="`weights`.*damaged"):
        squeezenet.load_weights(model, path)


# --- an independent forward pass --------------------------------------------------------------


def convolve(x, kernel, bias, stride=1, pad=0):
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel) + bias, 0)


def pool(x):
    return sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2].max((-1, -2))


def numpy_squeezenet(x, weights):
    """SqueezeNet v1.1 without its top, written from the paper: (h, w, 3) to (h', w', 512)."""
    x = pool(convolve(x, *weights["conv1"], stride=2))
    for fire in FIRES:
        squeezed = convolve(x, *weights[f"fire{fire}_squeeze1x1"])
        x = np.concatenate(
            [
                convolve(squeezed, *weights[f"fire{fire}_expand1x1"]),
                convolve(squeezed, *weights[f"fire{fire}_expand3x3"], pad=1),
            ],
            axis=-1,
        )
        if fire in (3, 5):
            x = pool(x)
    return x


def check_against_numpy(model, weights):
    image = np.random.default_rng(1).integers(0, 256, (1, 75, 67, 3), dtype="uint8")
    x = squeezenet.preprocess_input(image)
    expected = numpy_squeezenet(x[0].astype("float64"), weights)
    found = model.predict(x, verbose=0)[0]
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_forward_pass_equals_numpys_with_random_weights():
    keras.utils.set_random_seed(0)
    model = SqueezeNet(weights=None, include_top=False)
    check_against_numpy(model, {layer.name: layer.get_weights() for layer in model.layers})


@pytest.mark.real
def test_forward_pass_equals_numpys_with_imagenet_weights():
    weights = {}
    with h5py.File(WEIGHTS) as file:
        for name in file.attrs["layer_names"]:
            arrays = [file[name][array][()] for array in file[name].attrs["weight_names"]]
            weights[name.decode().replace("/", "_")] = arrays
    check_against_numpy(SqueezeNet(include_top=False), weights)


@pytest.mark.real
def test_damaged_cache_is_refused_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    cached = tmp_path / "models" / WEIGHTS.name
    cached.parent.mkdir()
    cached.write_bytes(WEIGHTS.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        SqueezeNet(include_top=False)
    assert cached.exists()
