"""The network of a run: its weights, its precision, and which of its layers train."""

import hashlib
import math
from pathlib import Path

import tensorflow as tf

import squeezenet
from transfer.downloads import patiently

# Pretrained by pretraining.py, which `make drawn-weights` runs.
DRAWN_WEIGHTS = Path(__file__).with_name("drawn.h5")


def choose_precision(requested):
    """Resolves the precision `auto`: bfloat16 where the hardware multiplies in it.

    Returns:
        The name of a Keras dtype policy, and the reason for it.
    """
    if requested != "auto":
        return requested, "as asked"

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        # Tensor cores take bfloat16 from compute capability 8.0 (NVIDIA's Ampere).
        if details.get("compute_capability", (0, 0)) >= (8, 0):
            return "mixed_bfloat16", f"{details['device_name']} supports bfloat16"
        return "float32", "the GPU has no bfloat16 arithmetic"
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    found = sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    if found:
        return "mixed_bfloat16", f"the CPU has {found[0]}"
    return "float32", "this CPU is not known to have bfloat16 instructions"


def weights_file(source):
    """Gives the path of the weights that --weights names, or None of random ones.

    Raises:
        ValueError, OSError: The ImageNet weights can't be had.
    """
    if source == "imagenet":
        return squeezenet.imagenet_weights(attempt=patiently)
    return {"none": None, "drawn": DRAWN_WEIGHTS}.get(source, Path(source))


def build(config, classes):
    """Builds the network from pixels to class probabilities.

    Returns:
        The model, and where its weights come from: their source and its sha256.

    Raises:
        ValueError, OSError: The weights can't be had or do not fit.
    """
    path = weights_file(config.weights)
    backbone = squeezenet.SqueezeNet(
        include_top=False,
        weights=path,
        input_tensor=squeezenet.pixels(config.image_size, config.preprocessing),
    )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path else None
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
