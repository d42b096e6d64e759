"""Pretrains SqueezeNet on synthetic images: the weights `drawn`, which need no download.

    python -m transfer.pretraining     # writes transfer/drawn.h5

The source task has other shapes than the images `shapes`, so that these are new to the network.
"""

from pathlib import Path

import h5py
import keras
import numpy as np

import squeezenet
from transfer.batches import Batches
from transfer.files import written_whole
from transfer.fitting import compile_model
from transfer.network import DRAWN_WEIGHTS
from transfer.shapes import colours, place
from transfer.splits import Split
from transfer.terminal import Parser

SEED = 1
COUNT, VALIDATION_COUNT = 60_000, 1_200
SIZE, ENLARGED_SIZE = 32, 64
EPOCHS, BATCH_SIZE = 8, 64

# As shapes.SHAPES has them, none of them one of those.
SHAPES = {
    "crescent": lambda u, v, r, a: (r < 0.9) & (np.hypot(u - 0.45, v) > 0.65),
    "heart": lambda u, v, r, a: (1.44 * r**2 - 1) ** 3 < 2.49 * u**2 * v**3,
    "ellipse": lambda u, v, r, a: np.hypot(u / 0.95, v / 0.5) < 1,
    "half disc": lambda u, v, r, a: (r < 0.95) & (v > 0),
    "sector": lambda u, v, r, a: (r < 0.95) & (abs(a) < 2.3),
    "quarter": lambda u, v, r, a: (np.hypot(u + 0.6, v + 0.6) < 1.3) & (np.minimum(u, v) > -0.6),
    "hexagon": lambda u, v, r, a: r * np.cos(a % (np.pi / 3) - np.pi / 6) < 0.75,
    "kite": lambda u, v, r, a: abs(v) / 0.5 + np.where(u > 0, u / 0.95, -u / 0.4) < 1,
    "trapezium": lambda u, v, r, a: (abs(v) < 0.5) & (abs(u) < 0.65 - 0.45 * v),
    "parallelogram": lambda u, v, r, a: (abs(v) < 0.45) & (abs(u - 0.6 * v) < 0.65),
    "arrow": lambda u, v, r, a: (abs(v) < np.where(u > 0.1, 0.85 * (0.95 - u), 0.2)) & (u > -0.9),
    "chevron": lambda u, v, r, a: (abs(u - 0.4 + abs(v)) < 0.25) & (abs(v) < 0.85),
    "L": lambda u, v, r, a: (u > -0.7) & (v > -0.7) & (np.minimum(u, v) < -0.25) & (r < 1),
    "T": lambda u, v, r, a: np.where(v > 0.4, abs(u) < 0.8, abs(u) < 0.22) & (abs(v) < 0.8),
    "U": lambda u, v, r, a: (np.maximum(abs(u), abs(v)) < 0.75) & ~((abs(u) < 0.3) & (v > -0.35)),
    "Z": lambda u, v, r, a: np.where(abs(v) > 0.4, abs(u) < 0.7, abs(u - v) < 0.3) & (abs(v) < 0.8),
    "H": lambda u, v, r, a: np.where(abs(u) > 0.35, abs(v) < 0.8, abs(v) < 0.2) & (abs(u) < 0.8),
    "three spokes": lambda u, v, r, a: (
        (abs(r * np.sin((a + np.pi / 3) % (2 * np.pi / 3) - np.pi / 3)) < 0.2) & (r < 0.95)
    ),
    "three petals": lambda u, v, r, a: r < 0.5 + 0.42 * np.cos(3 * a),
    "four petals": lambda u, v, r, a: r < 0.95 * abs(np.cos(2 * a)),
    "spiral": lambda u, v, r, a: (r < 0.95) & ((a / (2 * np.pi) + 1.6 * r) % 1 < 0.45),
    "wave": lambda u, v, r, a: (abs(v - 0.4 * np.sin(4 * u)) < 0.22) & (abs(u) < 0.95),
    "drop": lambda u, v, r, a: (
        (np.hypot(u + 0.3, v) < 0.6) | ((u > 0) & (abs(v) < 0.55 * (0.95 - u)))
    ),
    "target": lambda u, v, r, a: (abs(r - 0.8) < 0.15) | (r < 0.35),
    "two discs": lambda u, v, r, a: np.hypot(abs(u) - 0.5, v) < 0.4,
    "gear": lambda u, v, r, a: r < 0.7 + 0.2 * np.sign(np.cos(8 * a)),
    "two squares": lambda u, v, r, a: (abs(v) < 0.3) & (abs(u) < 0.9) & (abs(u) > 0.25),
    "outline": lambda u, v, r, a: abs(r * np.cos(a % (2 * np.pi / 3) - np.pi / 3) - 0.4) < 0.15,
}
TEXTURES = COLOURS = 3


def draw(count, size):
    """Draws the source task, the same each time: a class is a shape, a texture and a colour.

    Returns:
        `Split` of uint8 images (count, size, size, 3) and labels in 0..classes - 1, and the number
        of classes.
    """
    random = np.random.default_rng(SEED)
    classes = len(SHAPES) * TEXTURES * COLOURS
    labels = random.permutation(np.arange(count) % classes)
    images = np.empty((count, size, size, 3), "uint8")
    for start in range(0, count, 1_000):
        chunk = slice(start, start + 1_000)
        images[chunk] = _draw(labels[chunk], random, size)
    return Split(images, labels), classes


def _draw(labels, random, size):
    shape, kind = np.divmod(labels, TEXTURES * COLOURS)
    texture, colour = np.divmod(kind, COLOURS)
    count = len(labels)
    masks = place(SHAPES, shape, random, size)
    ground, ink = colours(count, 50, random)
    # The colour is the channel in which the shape is darker or brighter than the ground by most.
    strong = np.arange(COLOURS) == colour[:, None]
    other = random.uniform(-40, 40, (count, 1, 1, 3))
    ink = np.where(strong[:, None, None], ink, ground + other)
    # Solid, striped or dotted.
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    turn, phase = random.uniform(0, 2 * np.pi, (2, count, 1, 1))
    waves = [
        np.sin((np.cos(turn + quarter) * x + np.sin(turn + quarter) * y) * 1.6 + phase)
        for quarter in (0, np.pi / 2)
    ]
    patterns = np.stack([np.ones_like(waves[0]), waves[0] > -0.3, waves[0] * waves[1] > -0.1])
    filled = patterns[texture, np.arange(count)].astype(bool)
    images = np.where(masks & filled[..., None], ink, ground)
    return np.clip(images + random.normal(0, 8, images.shape), 0, 255).astype("uint8")


def train():
    """Trains SqueezeNet on the source task, from random weights.

    Each convolution is followed by batch normalization while it trains, without which a network of
    this depth learns nothing for a long time; it then becomes part of the convolution's weights.

    Returns:
        The `keras.Model` of SqueezeNet without a classifier.
    """
    keras.utils.set_random_seed(SEED)
    (images, labels), classes = draw(COUNT, SIZE)
    validation = Split(images[:VALIDATION_COUNT], labels[:VALIDATION_COUNT])
    rest = Split(images[VALIDATION_COUNT:], labels[VALIDATION_COUNT:])
    training = Batches(rest, classes, BATCH_SIZE, seed=SEED, mirror=True, shift=0.1)

    backbone = squeezenet.SqueezeNet(include_top=False, weights=None)
    normalized = keras.models.clone_model(backbone, clone_function=normalize)
    pixels = squeezenet.pixels(ENLARGED_SIZE)
    x = keras.layers.GlobalAveragePooling2D()(normalized(pixels))
    outputs = keras.layers.Dense(classes, activation="softmax")(x)
    model = keras.Model(keras.utils.get_source_inputs(pixels), outputs)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * len(training))
    compile_model(
        model,
        keras.optimizers.AdamW(rate, weight_decay=0.05),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
    )
    model.fit(
        training.dataset(),
        epochs=EPOCHS,
        validation_data=Batches(validation, classes).dataset(),
        shuffle=False,
        verbose=2,
        callbacks=[training.drawn_each_epoch()],
    )
    fold(normalized, backbone)
    return backbone


def normalize(layer):
    """Copies a layer of SqueezeNet; of a convolution, with batch normalization before the ReLU."""
    config = layer.get_config()
    if not isinstance(layer, keras.layers.Conv2D):
        return type(layer).from_config(config)
    convolution = keras.layers.Conv2D.from_config(config | {"activation": "linear"})
    normalization = keras.layers.BatchNormalization(momentum=0.95)
    return keras.Sequential([convolution, normalization, keras.layers.ReLU()], name=layer.name)


def fold(normalized, backbone):
    """Gives SqueezeNet the weights with which it does what its normalized copy does."""
    for layer in normalized.layers:
        if isinstance(layer, keras.Sequential):
            convolution, normalization, _ = layer.layers
            kernel, bias = convolution.get_weights()
            gamma, beta, mean, variance = normalization.get_weights()
            factor = gamma / np.sqrt(variance + normalization.epsilon)
            weights = [kernel * factor, beta + (bias - mean) * factor]
            backbone.get_layer(layer.name).set_weights(weights)


def save(model, path):
    """Saves a model's weights in float16, in the layout of the published ones."""
    with written_whole(path) as part, h5py.File(part, "w", libver="latest", locking=False) as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = ["kernel", "bias"]
            for name, array in zip(("kernel", "bias"), layer.get_weights(), strict=True):
                group[name] = array.astype("float16")


def main(arguments=None):
    parser = Parser(description="Pretrains the drawn weights: 20 minutes.")
    parser.add_argument(
        "--output", type=Path, default=DRAWN_WEIGHTS, help="file of the weights [%(default)s]"
    )
    asked = parser.parse_args(arguments)
    parser.check_output("--output", asked.output)
    save(train(), asked.output)


if __name__ == "__main__":
    main()
