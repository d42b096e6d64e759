"""SqueezeNet v1.1 for Keras 3: fire modules, ImageNet weights, and a head to replace.

References:
    Iandola et al. 2016, SqueezeNet (https://arxiv.org/abs/1602.07360)
    v1.1: https://github.com/forresti/SqueezeNet/tree/master/SqueezeNet_v1.1
"""

import functools
import hashlib
import math
import os
import re
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers
from keras.applications import imagenet_utils

WEIGHTS_URL = "https://github.com/DeepCognition/keras-squeezenet/releases/download/v0.4/"
SECOND_URL = "https://github.com/rcmalli/keras-squeezenet/releases/download/v1.0/"
WEIGHTS_NO_TOP = "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
WEIGHTS_TOP = "squeezenet_weights_tf_dim_ordering_tf_kernels.h5"
WEIGHTS_HASHES = {
    WEIGHTS_NO_TOP: "17154246284f555591549ac2c83e127abfbf4307dc4b0060fdaa2931d0fa38da",
    WEIGHTS_TOP: "aa024f186955a4c1661bd2075dc374a8",  # md5: no sha256 of it is published
}
# The second publisher's file has other bytes: `numbers_hash` is that of the numbers in them.
WEIGHTS_NUMBERS = {
    WEIGHTS_NO_TOP: "de6b48953c3a3065ab91ae8811ae66c966999b852581485eccad29d5f16b8d3d",
}

# Three 3x3/2 poolings after a 3x3/2 convolution, none padded: 32 pixels leave a map of 1x1.
MINIMUM_SIZE = 32

# The channel means of ImageNet that Caffe's models expect subtracted, in BGR order
# (keras.applications.imagenet_utils, mode "caffe").
BGR_MEANS = (103.939, 116.779, 123.68)


def SqueezeNet(
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="squeezenet",
):
    """Builds SqueezeNet v1.1, with the arguments of `keras.applications`.

    The network expects float images in BGR order with `BGR_MEANS` subtracted: see
    `preprocess_input`. It is fully convolutional, so any size from 32x32 will do, with or
    without the top. Layers carry the paper's names with `_` for `/`, as Keras 3 refuses `/`:
    `conv1`, `fire2_squeeze1x1`, `fire2_expand1x1`, `fire2_expand3x3`, `fire2_concat`, ...,
    `drop9`, `conv10`.

    Args:
        include_top: Whether to end in the classifier (dropout, `conv10`, average pooling).
        weights: `"imagenet"`, `None` (random) or the path of a weights file: the published
            HDF5 files of Keras 1 and 2, or Keras 3's `.weights.h5`.
        input_tensor: Optional Keras tensor to build upon, of shape (batch, height, width,
            channels), or channels first where that is Keras' image data format.
        input_shape: Optional shape of one image, `(224, 224, 3)` by default with the top and
            `(None, None, 3)` without. Sides are at least 32.
        pooling: Without the top: `None` for the last map (batch, height, width, 512), `"avg"`
            or `"max"` for that map pooled, (batch, 512).
        classes: Number of classes of the top; 1000 with ImageNet's weights.
        classifier_activation: Activation of the top; `None` returns logits.
        name: Name of the model.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: An argument is out of range, or the weights do not fit the network.
    """
    if not (weights in ("imagenet", None) or os.path.isfile(weights)):
        raise ValueError(
            '`weights` should be "imagenet", None (random) or the path of a weights file. '
            f"Received: weights={weights}"
        )
    if weights == "imagenet" and include_top and classes != 1000:
        raise ValueError(
            '`classes` should be 1000 with `weights="imagenet"` and `include_top=True`; for other '
            f"classes build without the top and call replace_head(). Received: classes={classes}"
        )
    if include_top and classes < 1:
        raise ValueError(f"`classes` should be at least 1. Received: classes={classes}")
    if weights == "imagenet" and include_top and classifier_activation not in (None, "softmax"):
        raise ValueError(
            '`classifier_activation` should be None or "softmax" with `weights="imagenet"`. '
            f"Received: classifier_activation={classifier_activation}"
        )
    if pooling not in (None, "avg", "max"):
        raise ValueError(f'`pooling` should be None, "avg" or "max". Received: pooling={pooling}')

    if input_tensor is None:
        size = 224 if include_top else None
        default_shape = (3, size, size) if _channels_first() else (size, size, 3)
        shape = default_shape if input_shape is None else tuple(input_shape)
        _check_shape(shape, "input_shape", weights)
        x = inputs = layers.Input(shape)
    else:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise ValueError(
                "`input_tensor` should be a Keras tensor, such as keras.Input() returns. "
                f"Received: input_tensor={input_tensor}"
            )
        shape = tuple(input_tensor.shape[1:])
        _check_shape(shape, "input_tensor", weights)
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(
                f"`input_shape` should be that of `input_tensor`, {shape}, or be left out. "
                f"Received: input_shape={input_shape}"
            )
        x = input_tensor
        inputs = keras.utils.get_source_inputs(input_tensor)

    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = FireModule(squeeze=16, expand=64, name="fire2")(x)
    x = FireModule(squeeze=16, expand=64, name="fire3")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool3")(x)
    x = FireModule(squeeze=32, expand=128, name="fire4")(x)
    x = FireModule(squeeze=32, expand=128, name="fire5")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool5")(x)
    x = FireModule(squeeze=48, expand=192, name="fire6")(x)
    x = FireModule(squeeze=48, expand=192, name="fire7")(x)
    x = FireModule(squeeze=64, expand=256, name="fire8")(x)
    x = FireModule(squeeze=64, expand=256, name="fire9")(x)

    if include_top:
        x = layers.Dropout(0.5, name="drop9")(x)
        x = layers.Conv2D(classes, 1, activation="relu", name="conv10")(x)
        x = layers.GlobalAveragePooling2D(name="pool10")(x)
        x = layers.Activation(classifier_activation, dtype="float32", name="predictions")(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="max_pool")(x)

    model = keras.Model(inputs, x, name=name)
    if weights is not None:
        load_weights(model, imagenet_weights(include_top) if weights == "imagenet" else weights)
    return model


def FireModule(squeeze, expand, name):
    """Makes the paper's block: 1x1 convolutions squeeze the channels, 1x1 and 3x3 ones expand them.

    Args:
        squeeze: Number of 1x1 filters that squeeze.
        expand: Number of 1x1 filters that expand, and of 3x3 filters.
        name: Prefix of the layers' names.

    Returns:
        A function from a Keras tensor (batch, height, width, channels), or channels first where
        that is Keras' image data format, to one of the same height and width with `2 * expand`
        channels, all non-negative.
    """

    def apply(x):
        x = layers.Conv2D(squeeze, 1, activation="relu", name=f"{name}_squeeze1x1")(x)
        left = layers.Conv2D(expand, 1, activation="relu", name=f"{name}_expand1x1")(x)
        right = layers.Conv2D(
            expand, 3, padding="same", activation="relu", name=f"{name}_expand3x3"
        )(x)
        axis = 1 if _channels_first() else -1
        return layers.Concatenate(axis=axis, name=f"{name}_concat")([left, right])

    return apply


def preprocess_input(x, data_format=None):
    """Turns RGB pixels into what the ImageNet weights were trained on.

    Args:
        x: Array or tensor of RGB pixels in 0..255, 3D or 4D, any dtype. It is not changed.
        data_format: `"channels_last"`, `"channels_first"` or `None` for Keras' setting.

    Returns:
        float32 array or tensor of the same shape in BGR order, `BGR_MEANS` subtracted.
    """
    if keras.ops.is_tensor(x) or keras.backend.is_keras_tensor(x):
        x = keras.ops.cast(x, "float32")
    else:
        x = np.array(x, dtype="float32")
    return imagenet_utils.preprocess_input(x, data_format=data_format, mode="caffe")


def decode_predictions(preds, top=5):
    """Names the likeliest ImageNet classes.

    Args:
        preds: Array (batch, 1000) of class probabilities.
        top: How many classes to name.

    Returns:
        For each image a list of `(wordnet_id, name, probability)`, the likeliest first.

    Raises:
        ValueError: `preds` has another shape.
    """
    return imagenet_utils.decode_predictions(preds, top=top)


def imagenet_weights(include_top=False, attempt=None):
    """Finds the published ImageNet weights in Keras' cache, or downloads them there.

    Args:
        include_top: Whether they are to have the classifier of the 1,000 classes.
        attempt: Optional function that calls the download, a function without arguments, perhaps
            more than once.

    Returns:
        Path of the file, its hash checked.

    Raises:
        ValueError: The file in the cache is not the published one.
        OSError: The file is neither cached nor available; the message says where to put it.
    """
    name = WEIGHTS_TOP if include_top else WEIGHTS_NO_TOP
    url, expected = WEIGHTS_URL + name, WEIGHTS_HASHES[name]
    path = keras_home() / "models" / name
    if path.exists():
        if not _published(path, name):
            raise ValueError(
                f"{path} is not the published file, or is cut short: expected the hash {expected}; "
                f"remove it, or put {url} there"
            )
        return path
    try:
        # Checked here, as get_file goes to /tmp where there is no folder, or none to write to.
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"{path.parent} can't be written to")
        download = functools.partial(_download, name, path)
        attempt(download) if attempt else download()
    except Exception as error:  # get_file raises a bare Exception when a download fails
        raise OSError(
            f"the ImageNet weights can't be downloaded ({error}): put {url} (hash {expected}) "
            f"into {path.parent}"
        ) from error
    return path


def _download(name, path):
    """Downloads weights from the first publisher whose file is the right one."""
    errors = []
    for publisher in (WEIGHTS_URL, SECOND_URL):
        # Under a name of this process, so that a file of the final name is always whole.
        part = path.with_name(f"{name}.{os.getpid()}.part")
        try:
            where = {"cache_dir": path.parent, "cache_subdir": ""}
            keras.utils.get_file(part.name, publisher + name, **where)
            if not _published(part, name):
                raise ValueError(f"{publisher + name} has another hash")
            os.replace(part, path)
            return
        except Exception as error:  # noqa: BLE001  (get_file raises a bare one)
            errors.append(str(error))
        finally:
            part.unlink(missing_ok=True)
    raise OSError("; ".join(errors))


def _published(path, name):
    """Says whether a file is one of the published ones, by the hash of its bytes or numbers."""
    expected = WEIGHTS_HASHES[name]
    content = path.read_bytes()
    if hashlib.new("md5" if len(expected) == 32 else "sha256", content).hexdigest() == expected:
        return True
    try:
        return numbers_hash(path) == WEIGHTS_NUMBERS.get(name)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def numbers_hash(path):
    """Returns the sha256 of the numbers in a weights file of Keras 1 or 2, layer by layer."""
    sha256 = hashlib.sha256()
    with h5py.File(path) as file:
        for layer in sorted(map(_text, file.attrs["layer_names"])):
            for array in file[layer].attrs["weight_names"]:
                sha256.update(f"{layer} {file[layer][array].shape}".encode())
                sha256.update(file[layer][array][()].astype("<f4"))
    return sha256.hexdigest()


def keras_home():
    """Finds the folder in which Keras keeps what it downloads, for which it has no public call."""
    return Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"))


def load_weights(model, path):
    """Loads weights into a SqueezeNet, every layer or none.

    Args:
        model: Model whose layers with weights are all SqueezeNet's.
        path: The published HDF5 files of Keras 1 and 2 or their like (a group a layer,
            `fire2/squeeze1x1` for `fire2_squeeze1x1`, each a kernel and a bias), read by these names;
            or Keras 3's `.weights.h5`, read by the order of its layers.

    Raises:
        ValueError: The file is damaged, or a layer is missing on either side or has another
            shape; the message names the first. The model is then unchanged.
    """
    try:
        with h5py.File(path) as file:
            if "layer_names" not in file.attrs:
                _load_format_of_keras_3(model, path, file)
                return
            saved = {}
            for layer in file.attrs["layer_names"]:
                group = file[layer]
                names = group.attrs["weight_names"]
                arrays = [np.asarray(group[weight][()], "f4") for weight in names]
                if arrays:
                    saved[_text(layer).replace("/", "_")] = arrays
    except ValueError as error:  # Keras names all layers, but not the file
        raise ValueError(
            f"`weights` should be those of SqueezeNet, but these are of another network. "
            f"Received: weights={path}"
        ) from error
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`weights` should be an HDF5 weights file, but this one is damaged or of another kind "
            f"({error}). Received: weights={path}"
        ) from error

    targets = {layer.name: layer for layer in model.layers if layer.weights}
    expected = {
        name: [tuple(weight.shape) for weight in layer.weights] for name, layer in targets.items()
    }
    found = {name: [array.shape for array in arrays] for name, arrays in saved.items()}
    for name in [*expected, *found]:
        if name not in expected:
            problem = "the network has no such layer"
        elif name not in found:
            problem = "the file has no such layer"
        elif found[name] != expected[name]:
            problem = f"expected the shapes {expected[name]}, the file has {found[name]}"
        else:
            continue
        raise ValueError(f"`weights` do not fit at {name}: {problem}. Received: weights={path}")
    for name, layer in targets.items():
        layer.set_weights(saved[name])


def _load_format_of_keras_3(model, path, file):
    """Loads a `.weights.h5`, in which layers have no names of their own, only their order."""
    groups = []
    file["layers"].visit(groups.append)
    if not str(path).endswith(".weights.h5"):
        raise OSError("rename it, as Keras 3 reads only what ends in .weights.h5")
    # Of more layers, Keras would load the first ones.
    stored = [name for name in groups if re.fullmatch("[^/]+/vars/0", name)]
    expected = [layer for layer in model.layers if layer.weights]
    if len(stored) != len(expected):
        raise ValueError(f"{len(stored)} layers")
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they say what the error says
            model.load_weights(path)
    except Exception:
        model.set_weights(before)  # Keras loads what fits before it raises
        raise


def pixels(size, preprocessing="caffe"):
    """Starts a model that takes raw images: resizing, channel order and means are its layers.

    Args:
        size: Side in pixels to which the images are resized (bilinear).
        preprocessing: `"caffe"`, what the ImageNet weights expect, or `"none"`.

    Returns:
        Keras tensor (batch, size, size, 3), float32, of an input that takes uint8 RGB images
        (batch, height, width, 3) of any height and width.

    Raises:
        ValueError: Keras' image data format is `channels_first`.
    """
    if _channels_first():
        raise ValueError(
            "`pixels` needs `channels_last`, but Keras' image data format is `channels_first`: call "
            'keras.config.set_image_data_format("channels_last") first'
        )
    x = layers.Input((None, None, 3), dtype="uint8", name="rgb")
    # Both before resizing: an enlarged image has more pixels, and Resizing would round integers.
    if preprocessing == "caffe":
        x = keras.ops.flip(x, axis=-1)
        offset = [-mean for mean in BGR_MEANS]
        x = layers.Rescaling(1.0, offset, dtype="float32", name="center")(x)
    else:
        x = layers.Rescaling(1.0, dtype="float32", name="to_float")(x)
    resize = layers.Resizing(
        size, size, data_format="channels_last", dtype="float32", name="resize"
    )
    # Its default, training=True, would spread to all later layers in a call without `training`.
    return resize(x, training=False)


def replace_head(backbone, classes, head="conv", dropout=0.5):
    """Puts a new classifier on SqueezeNet's fire modules.

    Args:
        backbone: A model from `SqueezeNet()`, with or without its top.
        classes: Number of classes, at least 2.
        head: A name in `HEADS`.
        dropout: Fraction of the classifier's inputs that is dropped in training, from 0 to below 1.

    Returns:
        A `keras.Model` that shares the backbone's layers and ends in class probabilities
        (batch, classes), float32. The names of its new layers start with `head_`.

    Raises:
        ValueError: `classes` is below 2, `head` unknown, or it needs the size of the images and
            the backbone takes any.
    """
    if classes < 2:
        raise ValueError(f"`classes` should be at least 2. Received: classes={classes}")
    if head not in HEADS:
        raise ValueError(f"`head` should be one of {', '.join(HEADS)}. Received: head={head}")
    logits = HEADS[head](backbone, classes, dropout)
    outputs = layers.Activation("softmax", dtype="float32", name="head_softmax")(logits)
    return keras.Model(backbone.input, outputs, name=backbone.name)


def conv_head(backbone, classes, dropout, activation=None):
    """SqueezeNet's own classifier: dropout, 1x1 convolution to class maps, their average."""
    x = backbone.get_layer("fire9_concat").output
    x = layers.Dropout(dropout, name="head_drop9")(x)
    x = layers.Conv2D(classes, 1, activation=activation, name="head_conv10")(x)
    return layers.GlobalAveragePooling2D(name="head_pool10")(x)


def conv_relu_head(backbone, classes, dropout):
    """The same with a ReLU on the class maps, as the 2018 report and the paper have it.

    A class whose map is zero everywhere gets no gradient and never comes back.
    """
    return conv_head(backbone, classes, dropout, activation="relu")


def average_head(backbone, classes, dropout):
    """A linear classifier on the last map's average.

    It is equivalent to `conv`, except that dropout drops whole channels, not single cells.
    """
    x = backbone.get_layer("fire9_concat").output
    x = layers.GlobalAveragePooling2D(name="head_pool9")(x)
    x = layers.Dropout(dropout, name="head_drop9")(x)
    return layers.Dense(classes, dtype="float32", name="head_logits")(x)


# Units that the head `pooled` gives each of fire3 to fire9.
UNITS = (48, 48, 48, 64, 48, 64, 48)


def pooled_head(backbone, classes, dropout):
    """A classifier on what all of fire3 to fire9 see, through a small hidden layer for each.

    Early fire modules keep what the later ones, trained on ImageNet, have discarded. Of each map it
    reads the average and the maximum, and of fire5, fire7 and fire9 the averages of the map's
    quarters too. They are standardised, as their scales differ by orders of magnitude: the layers
    `head_fire3_norm` to `head_fire9_norm` change nothing until they are given the mean and variance
    of training images.
    """
    hidden = []
    for fire, units in enumerate(UNITS, 3):
        x = backbone.get_layer(f"fire{fire}_concat").output
        # A window as large as the map: on a processor many times faster than the global layers.
        size = x.shape[2:] if _channels_first() else x.shape[1:3]
        if None in size:
            raise ValueError(
                '`head="pooled"` needs a backbone of known image size. '
                f"Received: backbone of input shape {backbone.input_shape}"
            )
        kinds = {"avg": layers.AveragePooling2D, "max": layers.MaxPooling2D}
        if fire in (5, 7, 9):
            kinds["quarters"] = layers.AveragePooling2D
        features = []
        for kind, pooling in kinds.items():
            name = f"head_fire{fire}_{kind}"
            pooled = pooling(*_window(name, size), name=name)(x)
            features.append(layers.Flatten(name=f"head_fire{fire}_{kind}_flat")(pooled))
        x = layers.Concatenate(name=f"head_fire{fire}_features")(features)
        x = layers.Normalization(dtype="float32", name=f"head_fire{fire}_norm")(x)
        hidden.append(layers.Dense(units, activation="relu", name=f"head_fire{fire}_hidden")(x))
    x = layers.Concatenate(name="head_hidden")(hidden)
    x = layers.Dropout(dropout, name="head_drop")(x)
    return layers.Dense(classes, dtype="float32", name="head_logits")(x)


def _window(name, size):
    """Returns window and strides of a pooling of the head, by its name and the size of the map."""
    if not name.endswith("_quarters"):
        return size, size
    # The quarters of a map of odd side share its middle.
    return [math.ceil(side / 2) for side in size], [max(side // 2, 1) for side in size]


def resized(model, size, inputs=None):
    """Builds a network again, of the same layers and weights, for another size of its images.

    Args:
        model: A model from `replace_head` that begins with `pixels`, or a part of it.
        size: Side in pixels to which it resizes the images.
        inputs: Keras tensors in place of the model's inputs, if images of that size make these larger
            or smaller.

    Returns:
        A `keras.Model` like `model`, which trains as `model` does and the other way round.
    """

    def call(layer, x, **options):
        if layer.name == "resize":
            layer = _changed(layer, height=size, width=size)
        # As large as the map, whole or a quarter.
        elif hasattr(layer, "pool_size") and layer.name.startswith("head_"):
            window, strides = _window(layer.name, x.shape[1:3])
            layer = _changed(layer, pool_size=window, strides=strides)
        return layer(x, **options)

    return keras.models.clone_model(
        model, inputs, clone_function=lambda layer: layer, call_function=call
    )


def _changed(layer, **settings):
    return type(layer).from_config(layer.get_config() | settings)


HEADS = {
    "conv": conv_head,
    "conv_relu": conv_relu_head,
    "average": average_head,
    "pooled": pooled_head,
}


def _check_shape(shape, argument, weights):
    if len(shape) != 3:
        raise ValueError(
            f"`{argument}` should have three dimensions for an image. Received: {argument}={shape}"
        )
    channels, *sides = shape if _channels_first() else (shape[-1], *shape[:-1])
    if any(side is not None and side < MINIMUM_SIZE for side in sides):
        raise ValueError(
            f"`{argument}` should be at least {MINIMUM_SIZE}x{MINIMUM_SIZE} pixels. "
            f"Received: {argument}={shape}"
        )
    if weights == "imagenet" and channels != 3:
        raise ValueError(
            f'`{argument}` should have 3 channels with `weights="imagenet"`. '
            f"Received: {argument}={shape}"
        )


def _channels_first():
    return keras.config.image_data_format() == "channels_first"


def _text(name):
    return name.decode() if isinstance(name, bytes) else name
