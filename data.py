"""Where images come from: every source becomes the same three splits of uint8 RGB images.

    python data.py cifar10   # a first look: counts, and a grid of images of each class

    load("cifar10")          CIFAR-10, downloaded once by keras.datasets, verified by sha256
    load("FILE.npz")         x_train, y_train, x_test, y_test, as Keras' own mnist.npz
    load("shapes")           ten shapes drawn here from a seed; needs no network
    load("DIR")              your own images, a folder a class: see folders.py
"""

import hashlib
import itertools
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cli import Parser, import_keras, one_line_errors
from downloads import patiently
from images import digest

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

SHAPES_SEED = 2018
SHAPES_COUNTS = (2500, 500)  # training (a fifth of it validates) and test images


class Split(NamedTuple):
    """Images uint8 (n, height, width, 3) RGB, and their labels int64 (n,), class numbers from 0."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """Three disjoint splits of one source.

    `class_names[i]` names label i, `fingerprint` is the sha256 of all pixels and labels in whatever
    order, `order` that of the same in theirs, and `description` says in a few words what the images
    are. Of a folder, `files` names each split's files, and `notes` are lines about them for the reader.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple
    fingerprint: str
    order: str
    description: str
    files: dict | None = None
    notes: tuple = ()


def load(source, image_size=224, seed=0, on_bad_image="stop"):
    """Loads a source of images.

    Args:
        source: `"cifar10"`, `"shapes"`, or the path of an `.npz` file or of a folder.
        image_size, seed, on_bad_image: Of a folder: see `folders.load`.

    Returns:
        A `Dataset`. Of the training images, in the order of the source, the last fifth validates:
        for CIFAR-10 that is 40,000 / 10,000 / 10,000, as in the 2018 report. Of a folder's images
        a tenth validates and a tenth tests.

    Raises:
        ValueError: The source is unknown, or its content is not what it should be.
        OSError: The source can't be read or downloaded.
    """
    if source in SOURCES:
        return _split(*SOURCES[source]())
    if Path(source).suffix == ".npz":
        return _split(*_load_npz(Path(source).expanduser()))
    if Path(source).expanduser().is_dir():
        return _load_folder(Path(source).expanduser(), image_size, seed, on_bad_image)
    raise ValueError(
        f"unknown data {source!r}: expected {', '.join(SOURCES)} or the path of an .npz file or of a "
        "folder with a folder of images for each class"
    )


def _load_folder(root, image_size, seed, on_bad_image):
    import_keras()
    import folders

    folder = folders.load(root, image_size, seed, on_bad_image)
    splits = [Split(*pair) for pair in zip(folder.images, folder.labels, strict=True)]
    for name, split in zip(folders.SPLITS, splits, strict=True):
        if not len(split.images):
            raise ValueError(f"{root} leaves no image to {name}: expected ten or more of a class")
    description = f"{root.resolve().name}/"
    names = tuple(folder.class_names)
    labelled = [
        [_labelled(bytes.fromhex(row["sha256"]), names.index(row["class"])) for row in folder.files[name]]
        for name in folders.SPLITS
    ]
    # A split by the seed is no property of the images: runs under several seeds are comparable.
    together = labelled if folder.divided else [itertools.chain(*labelled)]
    return Dataset(
        *splits,
        names,
        _sha256(map(sorted, together)),
        _sha256(labelled),
        description,
        folder.files,
        tuple(folder.notes),
    )


def _split(train, test, class_names, description):
    held_out = len(train.images) // 5
    first, last = train.images[:-held_out], train.images[-held_out:]
    splits = (
        Split(first, train.labels[:-held_out]),
        Split(last, train.labels[-held_out:]),
        test,
    )
    labelled = [
        [_labelled(digest(image).digest(), label) for image, label in zip(*split, strict=True)]
        for split in splits
    ]
    fingerprint, order = _sha256(map(sorted, labelled)), _sha256(labelled)
    return Dataset(*splits, tuple(class_names), fingerprint, order, description)


def _labelled(pixels, label):
    return pixels + int(label).to_bytes(8, "little")


def _sha256(splits):
    """Gives the sha256 of each split's images, of which there are the digest and the label."""
    sha256 = hashlib.sha256()
    for labelled in splits:
        labelled = list(labelled)
        sha256.update(len(labelled).to_bytes(8, "little"))
        sha256.update(b"".join(labelled))
    return sha256.hexdigest()


def _load_cifar10():
    keras = import_keras()
    try:
        (x_train, y_train), (x_test, y_test) = patiently(keras.datasets.cifar10.load_data)
    except Exception as error:  # get_file raises a bare Exception when a download fails
        raise OSError(
            f"CIFAR-10 can't be downloaded ({error}): put that file into ~/.keras/datasets (or "
            "$KERAS_HOME/datasets) as cifar-10-batches-py-target_archive, or take drawn images by "
            "--data shapes --weights none (`make demo` needs no network at all)"
        ) from error
    train = Split(x_train, y_train[:, 0].astype("i8"))
    test = Split(x_test, y_test[:, 0].astype("i8"))
    return train, test, CIFAR10_CLASSES, "CIFAR-10"


def _load_npz(path):
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected an .npz file")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not an .npz file, or was cut short: expected what numpy.savez writes"
        )
    arrays = {}
    try:
        _refuse_bomb(path)
        with np.load(path, allow_pickle=False) as file:
            for name in ("x_train", "y_train", "x_test", "y_test"):
                if name not in file.files:
                    raise ValueError(
                        f"{path} has no array {name}: expected x_train, y_train, x_test, y_test"
                    )
                arrays[name] = _read_array(file, name, path)
            names = _read_array(file, "class_names", path) if "class_names" in file.files else None
    except (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): write or download it again") from error

    train = _checked_split(arrays["x_train"], arrays["y_train"], "train", path)
    test = _checked_split(arrays["x_test"], arrays["y_test"], "test", path)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{path}: x_train has images of {train.images.shape[1:]}, x_test of "
            f"{test.images.shape[1:]}: expected the same size and channels"
        )
    if len(train.images) < 5:
        raise ValueError(
            f"{path}: x_train has {len(train.images)} images: expected 5 or more, as a fifth of "
            "them validates"
        )
    classes = int(train.labels.max()) + 1
    missing = np.setdiff1d(np.arange(classes), train.labels)
    if classes < 2 or len(missing):
        problem = f"no image of class {missing[0]}" if len(missing) else "one class only"
        raise ValueError(
            f"{path}: y_train has {problem}: expected class numbers 0, 1, 2, ... with at least two "
            "classes and an image of each"
        )
    if test.labels.max() >= classes:
        raise ValueError(
            f"{path}: y_test has class {test.labels.max()}: expected 0..{classes - 1}, as in y_train"
        )
    if names is None:
        names = [str(label) for label in range(classes)]
    elif names.dtype.kind != "U" or names.shape != (classes,):
        raise ValueError(
            f"{path}: class_names should be {classes} strings, one a class. "
            f"Received: {names.dtype} {names.shape}"
        )
    return train, test, [str(name) for name in names], path.name


def _refuse_bomb(path):
    """Refuses a file whose arrays would take far more memory than it takes on disk."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > 1e9 and size > 100 * path.stat().st_size:
        raise ValueError(f"{path} would grow a hundredfold, to {size / 1e9:.0f} GB: it is refused")


def _read_array(file, name, path):
    try:
        return file[name]
    except (ValueError, TypeError, SyntaxError, MemoryError, OverflowError) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: {name} is a pickled object, which can run code and is refused: expected "
                "a plain array"
            ) from error
        raise ValueError(f"{path}: {name} is damaged ({error}): write the file again") from error


def _checked_split(images, labels, name, path):
    """Checks one pair of arrays; grey images (n, height, width[, 1]) become RGB."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{path}: x_{name} should be uint8 images of shape (n, height, width), with 3 channels "
            f"(RGB) or none (grey). Received: {images.dtype} {images.shape}"
        )
    if not images.size:
        raise ValueError(f"{path}: x_{name} has no images or no pixels. Received: {images.shape}")
    if images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ValueError(
            f"{path}: y_{name} should be {len(images)} whole numbers, one an image. "
            f"Received: {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= len(images):
        raise ValueError(
            f"{path}: y_{name} should be class numbers from 0 up. "
            f"Received: {labels.min()}..{labels.max()}"
        )
    return Split(images, labels.astype("i8"))


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


def _draw_shapes():
    random = np.random.default_rng(SHAPES_SEED)
    train, test = (_draw(count, random) for count in SHAPES_COUNTS)
    return train, test, SHAPES, "shapes (drawn, not photographs)"


def _draw(count, random, size=32):
    """Draws shapes of random place, size, turn and colours on a noisy ground, classes in turn."""
    labels = np.arange(count) % len(SHAPES)
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    radius = random.uniform(0.22, 0.42, (count, 1, 1)) * size
    centre_x, centre_y = random.uniform(0.4, 0.6, (2, count, 1, 1)) * size
    turn = random.uniform(0, 2 * np.pi, (count, 1, 1))
    dx, dy = (x - centre_x) / radius, (y - centre_y) / radius
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    r, a = np.hypot(u, v), np.arctan2(v, u)

    masks = np.empty((count, size, size, 1), bool)
    for label, mask in enumerate(SHAPES.values()):
        which = labels == label
        masks[which, ..., 0] = mask(u[which], v[which], r[which], a[which])
    ground = random.uniform(0, 255, (count, 1, 1, 3))
    contrast = random.uniform(80, 128, (count, 1, 1, 3))
    ink = np.where(ground < 128, ground + contrast, ground - contrast)
    images = np.where(masks, ink, ground) + random.normal(0, 8, (count, size, size, 3))
    order = random.permutation(count)
    return Split(np.clip(images, 0, 255).astype(np.uint8)[order], labels[order])


SOURCES = {"cifar10": _load_cifar10, "shapes": _draw_shapes}


def main(arguments=None):
    parser = Parser(description="Draws a first look at a source of images.", allow_abbrev=False)
    parser.add_argument("source", help=f"{', '.join(SOURCES)}, FILE.npz or a folder")
    parser.add_argument("--output", type=Path, default="preview.png", help="picture [preview.png]")
    asked = parser.parse_args(arguments)
    with one_line_errors():
        dataset = load(asked.source)
        import pictures

        pictures.save(pictures.preview(dataset), asked.output)
    for name, split in zip(dataset._fields, dataset[:3], strict=False):
        print(f"{name:12}{len(split.images):,} images")
    print(f"{'classes':12}{len(dataset.class_names)}: {', '.join(dataset.class_names)}")
    print(f"{'picture':12}{asked.output}")


if __name__ == "__main__":
    main()
