"""The network of a run: its weights, and which of its layers train."""

import math
from pathlib import Path

import squeezenet
from transfer import files
from transfer.downloads import patiently

# Pretrained by pretraining.py, which `make drawn-weights` runs.
DRAWN_WEIGHTS = Path(__file__).with_name("drawn.h5")


def weights_file(source):
    """Returns the path of the weights that --weights names, or None for random ones.

    Raises:
        ValueError, OSError: The ImageNet weights can't be had.
    """
    if source == "imagenet":
        try:
            return squeezenet.imagenet_weights(attempt=patiently)
        except OSError as error:
            raise OSError(
                f"{error}, or use --weights drawn, which needs no internet access (see `make demo`)"
            ) from error
    return {"none": None, "drawn": DRAWN_WEIGHTS}.get(source, Path(source))


def build(config, classes):
    """Builds the network from pixels to class probabilities.

    Returns:
        The model, and where its weights come from: their source and its sha256.

    Raises:
        ValueError, OSError: The weights can't be had, change meanwhile or do not fit.
    """
    path = weights_file(config.weights)
    sha256 = files.digest(path) if path else None
    backbone = squeezenet.SqueezeNet(
        include_top=False,
        weights=path,
        input_tensor=squeezenet.pixels(config.image_size, config.preprocessing),
    )
    if path and files.digest(path) != sha256:
        raise ValueError(f"{path} changed while it was read: try again")
    return (
        squeezenet.replace_head(backbone, classes, config.head, config.dropout),
        {"source": config.weights, "sha256": sha256},
    )


def set_trainable(model, trainable):
    """Applies a regime's rule to every layer; to be called before compile().

    Raises:
        ValueError: The rule leaves nothing to train.
    """
    for layer in model.layers:
        layer.trainable = bool(trainable(layer))
    if not model.trainable_weights:
        raise ValueError("the regime's rule matches no layer with weights: nothing would train")


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)
