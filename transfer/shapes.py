"""Drawn images of ten shapes, which need no download."""

import numpy as np

from transfer.splits import Split

SHAPES_SEED = 2018
SIDE = 32  # pixels
SHAPES_COUNTS = (2500, 500)  # training (a fifth of it validates) and test images

# Each shape as a mask over coordinates u, v (radius r, angle a) in which it fills the unit disc.
SHAPES = {
    "disc": lambda u, v, r, a: r < 0.9,
    "ring": lambda u, v, r, a: (r < 0.95) & (r > 0.55),
    "square": lambda u, v, r, a: np.maximum(abs(u), abs(v)) < 0.75,
    "frame": lambda u, v, r, a: abs(np.maximum(abs(u), abs(v)) - 0.6) < 0.2,
    "triangle": lambda u, v, r, a: r * np.cos(a % (2 * np.pi / 3) - np.pi / 3) < 0.5,
    "star": lambda u, v, r, a: r < 0.6 + 0.35 * np.cos(5 * a),
    "cross": lambda u, v, r, a: (np.minimum(abs(u), abs(v)) < 0.22) & (r < 0.95),
    "bar": lambda u, v, r, a: (abs(v) < 0.25) & (abs(u) < 0.95),
    "two bars": lambda u, v, r, a: (abs(abs(v) - 0.5) < 0.2) & (abs(u) < 0.8),
    "checkers": lambda u, v, r, a: (u * v > 0) & (np.maximum(abs(u), abs(v)) < 0.8),
}


def draw():
    """Draws the same images each time.

    Returns:
        2,500 training and 500 test images, uint8 (n, 32, 32, 3), as two `Split`s; the names of their
        classes; a description.
    """
    random = np.random.default_rng(SHAPES_SEED)
    train, test = (_draw_split(count, random) for count in SHAPES_COUNTS)
    return train, test, SHAPES, "shapes (drawn, not photographs)"


def _draw_split(count, random):
    """Draws equally many of each shape, of random place, size, rotation, colours and noise."""
    labels = np.arange(count) % len(SHAPES)
    masks = place(SHAPES, labels, random, SIDE)
    ground, ink = colours(count, 80, random)
    images = np.where(masks, ink, ground) + random.normal(0, 8, (count, SIDE, SIDE, 3))
    order = random.permutation(count)
    return Split(np.clip(images, 0, 255).astype(np.uint8)[order], labels[order])


def place(shapes, labels, random, size):
    """Places a shape in each image, of random position, size and rotation.

    Args:
        shapes: Dict of masks, as `SHAPES`.
        labels: int array (n,), the number of each image's shape.
        random: `numpy.random.Generator`.
        size: Side of the images, in pixels.

    Returns:
        bool array (n, size, size, 1), true inside the shape.
    """
    count = len(labels)
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    radius = random.uniform(0.22, 0.42, (count, 1, 1)) * size
    centre_x, centre_y = random.uniform(0.4, 0.6, (2, count, 1, 1)) * size
    turn = random.uniform(0, 2 * np.pi, (count, 1, 1))
    dx, dy = (x - centre_x) / radius, (y - centre_y) / radius
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    r, a = np.hypot(u, v), np.arctan2(v, u)

    masks = np.empty((count, size, size, 1), bool)
    for label, mask in enumerate(shapes.values()):
        which = labels == label
        masks[which, ..., 0] = mask(u[which], v[which], r[which], a[which])
    return masks


def colours(count, contrast, random):
    """Gives each image a background and an ink that differ by `contrast` to 128 in each channel.

    Returns:
        Two float arrays (count, 1, 1, 3), in 0..255.
    """
    ground = random.uniform(0, 255, (count, 1, 1, 3))
    difference = random.uniform(contrast, 128, (count, 1, 1, 3))
    return ground, np.where(ground < 128, ground + difference, ground - difference)
