"""The network of a run as it is deployed: raw pixels to probabilities, in float32.

Computation that is the same for every image is folded into the weights: the channel means and the
order of the channels into those of conv1, which is not padded; the head's standardisation into the
layer that reads it. What remains are operations that every format has.
"""

import keras
import numpy as np

import squeezenet
from transfer import evaluation, quantization
from transfer.runs import Run

WHOLE = {
    keras.layers.AveragePooling2D: keras.layers.GlobalAveragePooling2D,
    keras.layers.MaxPooling2D: keras.layers.GlobalMaxPooling2D,
}


def network(
    trained: keras.Model,
    run: Run,
    side: int | None = None,
    calibration: np.ndarray | None = None,
    maps: bool = False,
) -> keras.Model:
    """Builds the network of a finished run for another format.

    Args:
        trained, run: The model that the run has saved, and the run.
        side: Of the square images, in pixels, for a format of fixed size; None takes any size.
        calibration: For an int8 converter, uint8 images (n, side, side, 3) that are typical. The
            network then takes float32 images of the same values, which the converter replaces.
        maps: Whether to give class maps too, where the head has them.

    Returns:
        A `keras.Model` from images (n, height, width, 3), RGB, to probabilities float32 (n, classes).
        It gives those that the run was judged by, but for rounding. With maps, its second output is
        that of `evaluation.class_maps`.

    Raises:
        ValueError: The saved model is not what the run's metrics.json says.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        config, classes = run.config, len(run.class_names)
        dtype = "uint8" if calibration is None else "float32"
        images = keras.Input((side, side, 3), dtype=dtype, name="rgb")
        backbone = squeezenet.SqueezeNet(
            include_top=False, weights=None, input_tensor=_floats(images, config["image_size"])
        )
        made = squeezenet.replace_head(backbone, classes, config["head"], dropout=0.0)
        call = _pooled_apart() if calibration is not None else None
        made = keras.models.clone_model(made, clone_function=_simplified, call_function=call)
        _copy_weights(trained, made)
        made = keras.Model(made.inputs[0], made.outputs[0], name=made.name)
        if calibration is not None:
            quantization.equalise(made, calibration.astype("float32"))
        shown = evaluation.class_maps(made) if maps else None
        made = evaluation.classifier(made, run.config["evaluation"])
        if shown:
            image = made.inputs[0]
            made = keras.Model(image, [*made.outputs, shown(image)])
        blank = np.zeros((1, *(side or config["image_size"],) * 2, 3), dtype)
        made(blank)  # a model that was never called has no ONNX export
        return made
    finally:
        keras.config.set_dtype_policy(policy)


def _floats(images, image_size):
    x = images
    if x.dtype != "float32":
        x = keras.layers.Rescaling(1.0, dtype="float32", name="to_float")(x)
    if x.shape[1:3] == (image_size, image_size):
        return x
    resize = keras.layers.Resizing(image_size, image_size, dtype="float32", name="resize")
    return resize(x, training=False)


def _simplified(layer):
    """Makes the layer that takes a layer's place, which may be a simpler one."""
    if isinstance(layer, keras.layers.Normalization):
        return keras.layers.Identity(name=layer.name)
    # The other runtimes have fast kernels for the mean or maximum of a whole map, in int8 too.
    if layer.name.startswith("head_"):
        for windows, whole in WHOLE.items():
            if isinstance(layer, windows) and tuple(layer.pool_size) == layer.input.shape[1:3]:
                return whole(name=layer.name)
        if isinstance(layer, keras.layers.Flatten) and layer.input.shape[1:3] == (1, 1):
            return keras.layers.Identity(name=layer.name)
    return type(layer).from_config(layer.get_config())


def _pooled_apart():
    """Returns the `call_function` of `clone_model` that pools what is concatenated before it is.

    LiteRT's converter leaves a convolution in float32 if it reads a pooled concatenation that other
    layers read too, as the head does.
    """
    parts = {}

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.MaxPooling2D) and id(args[0]) in parts:
            config = layer.get_config()
            pooled = [
                type(layer).from_config(config | {"name": f"{layer.name}_{place}"})(part)
                for place, part in enumerate(parts[id(args[0])])
            ]
            return keras.layers.Concatenate(name=layer.name)(pooled)
        result = layer(*args, **kwargs)
        if isinstance(layer, keras.layers.Concatenate):
            parts[id(result)] = args[0]
        return result

    return call


def _copy_weights(trained, made):
    known = {layer.name: layer for layer in trained.layers}
    centered = "center" in known
    for layer in made.layers:
        if not layer.weights:
            continue
        if layer.name not in known:
            raise ValueError(
                f"model.keras is not the model of its metrics.json: it has no layer {layer.name}"
            )
        kernel, bias = (weights.astype("f8") for weights in known[layer.name].get_weights())
        if layer.name == "conv1" and centered:
            bias = bias - np.einsum("hwcf,c->f", kernel, np.array(squeezenet.BGR_MEANS))
            kernel = kernel[:, :, ::-1]
        if layer.name.endswith("_hidden"):
            norm = known[layer.name.replace("_hidden", "_norm")]
            # As keras.layers.Normalization divides.
            deviation = np.sqrt(np.float64(norm.adapt_variance))
            kernel = kernel / np.maximum(deviation, keras.config.epsilon())[:, np.newaxis]
            bias = bias - np.float64(norm.adapt_mean) @ kernel
        layer.set_weights([np.float32(kernel), np.float32(bias)])
