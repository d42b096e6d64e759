"""Adjusts a network's float32 weights so that less is lost in int8."""

import keras
import numpy as np

# A channel that is hardly ever active counts as if it reached this fraction of the most active one's maximum.
LEAST = 0.01
BATCH = 50


def equalise(model: keras.Model, images: np.ndarray) -> None:
    """Brings the channels of each map closer to the same range, as int8 has one scale for a whole map.

    Cross-layer equalization (Nagel et al. 2019, https://arxiv.org/abs/1906.04721), by the range of the
    activations: a channel is divided by the square root of its maximum over the images, and what reads
    it multiplies by the same. ReLU and pooling let positive factors through, so that the network
    computes what it did before, but for rounding.

    Args:
        model: The network of `deployment.network` before it is wrapped; its weights are changed.
        images: float32 (n, side, side, 3), as it takes them.
    """
    links = [*_links(model)]
    outputs = [[model.get_layer(name).output for name in read] for read, _ in links]
    probe = keras.Model(model.inputs[0], outputs)
    most: list[np.ndarray] = []
    for start in range(0, len(images), BATCH):
        found = [
            np.concatenate([np.max(part, axis=tuple(range(part.ndim - 1))) for part in parts])
            for parts in probe(images[start : start + BATCH], training=False)
        ]
        most = [*map(np.maximum, most, found)] if most else found
    weights: dict[str, list[np.ndarray]] = {
        layer.name: [array.astype("float64") for array in layer.get_weights()]
        for layer in model.layers
        if layer.weights
    }
    for (read, readers), reached in zip(links, most, strict=True):
        if not reached.max() > 0:
            continue
        factors = np.sqrt(np.maximum(reached / reached.max(), LEAST))
        ends = np.cumsum([weights[name][1].size for name in read])[:-1]
        for name, own in zip(read, np.split(factors, ends), strict=True):
            weights[name] = [array / own for array in weights[name]]
        for name in readers:
            kernel, bias = weights[name]
            # A head's layer reads several features of each channel, kind by kind.
            repeated = np.tile(factors, kernel.shape[-2] // len(factors))
            weights[name] = [kernel * repeated[:, np.newaxis], bias]
    for name, arrays in weights.items():
        model.get_layer(name).set_weights([array.astype("float32") for array in arrays])


def _links(model):
    """Returns pairs of layers' names: those whose channels, side by side, are read, and their readers."""
    names = {layer.name for layer in model.layers}
    hidden = [f"head_fire{fire}_hidden" for fire in range(3, 10)]
    yield ["conv1"], ["fire2_squeeze1x1"]
    for fire in range(2, 10):
        squeeze, *expands = (
            f"fire{fire}_{part}" for part in ("squeeze1x1", "expand1x1", "expand3x3")
        )
        yield [squeeze], expands
        readers = [f"fire{fire + 1}_squeeze1x1", f"head_fire{fire}_hidden"]
        if fire == 9:
            readers += ["head_conv10", *(["head_logits"] if "head_pool9" in names else [])]
        yield expands, [name for name in readers if name in names]
    if hidden[0] in names:
        yield hidden, ["head_logits"]
