"""What a run is judged by: its saved model, evaluated on images."""

from pathlib import Path

import keras
import numpy as np

from transfer import features
from transfer.batches import Batches, evaluation_batch
from transfer.precision import emulated
from transfer.runs import check_model


def load(path):
    """Loads a model, in Keras' safe mode, that takes images as a training script's does.

    It computes in the precision that it was trained in, but in float32 where a processor emulates that.

    Raises:
        OSError, ValueError: It is missing, damaged, would run code, or is another kind of model.
    """
    path = Path(path)
    check_model(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        model.get_layer("resize").height  # noqa: B018  (which a layer of another kind lacks)
        model.get_layer("head_softmax")
    except Exception as error:  # of many kinds, as the file may hold anything
        raise ValueError(f"{path} can't be loaded as a model of this project: {error}") from error
    return in_float32(model) if emulated(model) else model


def in_float32(trained: keras.Model) -> keras.Model:
    """Copies a model that was trained in another precision: the same layers, computing in float32."""

    def clone(layer):
        if not isinstance(layer, keras.Layer):  # an operation, such as a flip
            return layer
        config = layer.get_config()
        if layer.dtype_policy.name.startswith("mixed"):
            config["dtype"] = "float32"
        return type(layer).from_config(config)

    made = keras.models.clone_model(trained, clone_function=clone)
    for old, new in zip(trained.layers, made.layers, strict=True):
        if old.weights:
            new.set_weights(old.get_weights())
        if isinstance(new, keras.layers.Normalization):
            new.finalize_state()
    return made


def classifier(model, evaluation):
    """Turns a saved model into the one that its run is judged by and predict.py asks.

    Args:
        model: `keras.Model` from images uint8 (n, height, width, 3) to probabilities (n, classes).
        evaluation: `plain`, or `mirrored`: the mean of the probabilities of an image and of its
            mirrored copy.

    Returns:
        A `keras.Model` of the same inputs and outputs.
    """
    if evaluation != "mirrored":
        return model
    # Not in bfloat16, whatever the policy.
    return keras.Model(model.inputs[0], keras.layers.Average(dtype="float32")(_of_both(model)))


def _of_both(model):
    """Returns what a model makes of its input and of the mirrored copy."""
    image = model.inputs[0]
    return [model(image), model(keras.ops.flip(image, axis=2))]


def class_maps(model):
    """Returns the class maps in which a network ends: how much each position counts towards each class.

    Args:
        model: `keras.Model` from images to probabilities, of any head.

    Returns:
        A `keras.Model` from the same images to maps float32 (n, rows, columns, classes), whose average
        over the positions is a class's logit but for a bias; or None for the head `pooled`.
    """
    names = {layer.name for layer in model.layers}
    if "head_conv10" in names:
        maps = model.get_layer("head_conv10").output
    elif "head_pool9" in names:
        maps = keras.ops.matmul(
            model.get_layer("fire9_concat").output,
            np.asarray(model.get_layer("head_logits").kernel),
        )
    else:
        return None
    return keras.Model(model.inputs[0], keras.ops.cast(maps, "float32"))


def evaluate(path, dataset, name, evaluation="plain"):
    """Loads the saved model of a path and judges it: see `judge`.

    Raises:
        ValueError, OSError: As `load` does.
    """
    return judge(load(path), dataset, name, evaluation)


def judge(model, dataset, name, evaluation="plain"):
    """Evaluates a saved model, from the features of its frozen layers where a run has kept them.

    Args:
        model: As `load` gives it.
        dataset: `data.Dataset`.
        name: The split to evaluate it on, such as `validation`.
        evaluation: As `classifier` takes it.

    Returns:
        The probabilities, float32 (n, classes); their loss (mean categorical cross-entropy in
        nats) and accuracy (0..1), float.
    """
    images, classes = getattr(dataset, name), len(dataset.class_names)
    # From logits, as in fit(): very small probabilities have lost their precision.
    logits = keras.ops.cast(model.get_layer("head_softmax").input, "float32")
    asked = keras.Model(model.inputs, logits)
    if evaluation == "mirrored":
        # The logarithm of the sum of both probabilities.
        both = map(keras.ops.log_softmax, _of_both(asked))
        asked = keras.Model(model.inputs, keras.ops.logaddexp(*both))
        at_once = evaluation_batch(model.get_layer("resize").height)
        found = asked.predict(Batches(images, classes, at_once).dataset(), verbose=0)
    else:
        found = features.predict(asked, dataset, name)
    targets = keras.ops.one_hot(images.labels, classes)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)(targets, found)
    probabilities = np.asarray(keras.ops.softmax(found))
    accuracy = np.mean(probabilities.argmax(axis=1) == images.labels)
    return probabilities, float(loss), float(accuracy)
