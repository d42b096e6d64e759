"""Where images come from: every source becomes the same three splits of uint8 RGB images.

python data.py cifar10   # a preview: counts, notes, and a grid of images of each class

load("cifar10")          CIFAR-10, downloaded once by keras.datasets, verified by sha256
load("FILE.npz")         x_train, y_train and, if there are any, x_test, y_test, as in Keras' mnist.npz
load("shapes")           ten shapes drawn here from a seed; needs no download
load("DIR")              your own images, a folder for each class: see layouts.py
"""

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import transfer  # noqa: F401  (from here on, Ctrl-C is one line)

# isort: split
import numpy as np

from transfer import arrays, folders, layouts, shapes, splits
from transfer.downloads import patiently
from transfer.files import keras_home
from transfer.hints import SPLITS
from transfer.images import digest
from transfer.recipes import LARGEST_SIZE
from transfer.splits import Split
from transfer.terminal import (
    Parser,
    counted,
    ends_quietly,
    import_keras,
    one_line_errors,
    printable,
    say,
    shown,
)

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# Settings of a run that `load` takes.
SETTINGS = (
    "image_size", "seed", "on_bad_image", "images_per_class", "folds", "fold", "near_duplicates",
)  # fmt: skip


class Dataset(NamedTuple):
    """Three disjoint splits of one source.

    `class_names[i]` names label i. `fingerprint` is the sha256 of the pixels and labels of all
    images found, regardless of order and before the seed splits them: runs with different seeds,
    folds or subsets share it. `order` has, by the split's name, the sha256 of all its images and
    labels in their order, and `digests` that of each image, hexadecimal. `description` says in a few
    words what the images are. For a folder, `files` names each split's files. `notes` are lines for
    the user. `planned` is the number of training images from which a recipe's settings follow: the
    same for each seed and fold, though without near duplicates some of them have fewer.
    `validation_pool` is the sha256 of what validation is taken from: all images that folds divide,
    in their order, or else the split with its near duplicates. `validation_drawn_from` is the number
    of images from which the seed draws it, or 0.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    fingerprint: str
    order: dict[str, str]
    description: str
    files: dict[str, list[dict[str, str]]] | None = None
    notes: tuple[str, ...] = ()
    digests: dict[str, list[str]] = {}
    planned: int = 0
    validation_pool: str = ""
    validation_drawn_from: int = 0

    @property
    def side(self) -> int:
        """Side of the square images, in pixels."""
        return self.train.images.shape[1]

    @property
    def identity(self) -> dict[str, Any]:
        """Distinguishes it from other images, classes and splits; a run's metrics contain it."""
        names = list(self.class_names)
        return {"sha256": self.fingerprint, "class_names": names, "order": self.order}


class _Source(NamedTuple):
    """A source, before the seed divides it.

    `found` has what is known of each image. `take` returns some of them, by their numbers, ascending:
    uint8 (n, side, side, 3). `description`, `notes` and `files` are those of the `Dataset`.
    """

    found: splits.Found
    take: Callable[[np.ndarray], np.ndarray]
    description: str
    notes: list[str]
    files: list[dict[str, str]] | None = None


def load(
    source: str,
    image_size: int | None = None,
    seed: int = 0,
    on_bad_image: str = "stop",
    images_per_class: int = 0,
    folds: int = 0,
    fold: int = 0,
    near_duplicates: str = "keep",
) -> Dataset:
    """Loads a source of images.

    Args:
        source: `"cifar10"`, `"shapes"`, or the path of an `.npz` file or of a folder.
        image_size, on_bad_image: For a folder: see `folders.load`; without a size, `LARGEST_SIZE`.
        seed: Seed of all that is drawn: splits that the user did not make, folds, subsets.
        images_per_class: Trains on so many images of each class, 0 for all; a smaller subset is
            contained in a larger one. Validation and test stay whole.
        folds: Divides the training and validation images together into so many stratified folds,
            0 for none; one is for validation, the others for training.
        fold: The number of the validation fold, from 1.
        near_duplicates: "keep", or "drop" those of a folder: see `splits.divide`.

    Returns:
        A `Dataset` of square images: of others, the largest central square. The last fifth of the
        training images, in the order of the source, is held out for validation: for CIFAR-10 that
        gives 40,000 / 10,000 / 10,000, as in the 2018 report. If that fifth or the rest lacks a
        class, or the fifth has far more or fewer of one than a fifth, a fifth of each class is held
        out. Of a folder's images a tenth is for validation and a tenth for test, if it has no
        folders for them; and so of an `.npz` file's without images for test.

    Raises:
        ValueError: The source is unknown, its content is not what it should be, or it has too few
            images for what is asked.
        OSError: The source can't be read or downloaded.
    """
    splits.check(images_per_class, folds, fold)
    if not source:
        raise ValueError(f"no data given: expected {', '.join(SOURCES)}, FILE.npz or a folder")
    path = Path(os.path.expanduser(source))  # Path.expanduser() has a RuntimeError for ~nobody
    also = []
    if source in SOURCES:
        loaded = _arrays(source)
        if path.is_dir():
            also = [f"{source} is also a folder here: --data ./{source} takes that"]
    elif path.is_dir():
        loaded = _load_folder(path, image_size or LARGEST_SIZE, on_bad_image, folds)
    elif path.suffix.lower() == ".npz":
        stat = path.stat() if path.is_file() else None
        loaded = _arrays(source, (stat.st_size, stat.st_mtime_ns) if stat else None)
    else:
        raise ValueError(
            f"unknown data {printable(source)!r}: expected {', '.join(SOURCES)} or the path of an .npz "
            "file or of a folder with a folder of images for each class"
        )
    found, files = loaded.found, loaded.files
    if near_duplicates == "drop" and found.hashes is None:
        raise ValueError(
            f"{source} is no folder of images, and near duplicates are only looked for in one: leave "
            "--near-duplicates drop out"
        )
    rows, pool, drawn_from, planned, notes = splits.divide(
        found, seed, images_per_class, folds, fold, near_duplicates
    )
    labelled = [
        pixels + int(label).to_bytes(8, "little")
        for pixels, label in zip(found.digests, found.labels, strict=True)
    ]
    train, validation, test = (
        Split(loaded.take(rows[name]), found.labels[rows[name]]) for name in SPLITS
    )
    return Dataset(
        train,
        validation,
        test,
        class_names=found.class_names,
        fingerprint=_fingerprint(found.given, labelled),
        order={name: _sha256([[labelled[i] for i in rows[name]]]) for name in SPLITS},
        description=loaded.description,
        files=files and {name: [files[i] for i in rows[name]] for name in SPLITS},
        notes=(*loaded.notes, *also, *notes),
        digests={name: [found.digests[i].hex() for i in rows[name]] for name in SPLITS},
        planned=planned,
        validation_pool=_sha256([[labelled[i] for i in pool]]),
        validation_drawn_from=drawn_from,
    )


def exists(source: str) -> bool:
    """Says whether a source is there to be loaded."""
    return source in SOURCES or os.path.exists(os.path.expanduser(source))


def _load_folder(root, image_size, on_bad_image, folds):
    layout = layouts.find(root)
    name, drawn = printable(root), [split for split in SPLITS[1:] if split not in layout.own]
    if folds and "validation" in layout.own:
        raise ValueError(
            f"{name} has a validation folder of its own: expected none for {folds} folds, which divide "
            "training and validation images again; move its images into the training folder"
            f"{layouts.RENAMED}"
        )
    class_names = sorted({entry.class_name for entry in layout.entries})
    number = {class_name: label for label, class_name in enumerate(class_names)}
    fractions = dict.fromkeys(drawn, 0.1)
    counts = Counter(entry.class_name for entry in layout.entries if entry.split in (None, "train"))
    images = np.array([counts[class_name] for class_name in class_names])
    splits.enough(name, images, class_names, fractions)

    decoded = folders.load(root, layout, image_size, on_bad_image)
    files = [
        {"file": str(entry.path), "class": entry.class_name, "sha256": sha256}
        for entry, sha256 in zip(decoded.entries, decoded.digests, strict=True)
    ]
    found = splits.Found(
        name=name,
        labels=np.array([number[entry.class_name] for entry in decoded.entries], "i8"),
        digests=[bytes.fromhex(sha256) for sha256 in decoded.digests],
        hashes=np.array(decoded.hashes, "u8"),
        colours=np.array(decoded.colours, "f8"),
        given=[entry.split for entry in decoded.entries],
        class_names=tuple(class_names),
        fractions=fractions,
        in_order=False,
        title=lambda i: files[i]["file"],
    )
    notes = layout.notes + decoded.notes
    if layout.own:
        for split in drawn:
            if not (folds and split == "validation"):
                notes.append(
                    f"there is no {split} folder: a tenth of the training images, drawn by the "
                    f"seed, is held out for {split}"
                )
    return _Source(found, decoded.take, f"{printable(root.resolve().name)}/", notes, files)


@functools.lru_cache(maxsize=1)  # the runs of a sweep are on the same images
def _arrays(source, changed=None):
    """Loads a source that is not a folder; by `changed`, the cache reads a changed file again."""
    if source in SOURCES:
        return _of_arrays(source, *SOURCES[source]())
    return _of_arrays(source, *arrays.load(Path(os.path.expanduser(source))))


def _of_arrays(source, train, test, class_names, description, notes=()):
    count, notes = len(train.images), list(notes)
    tests = len(test.images) > 0
    if not tests:
        notes.append(
            "there is no x_test: a tenth of the images, drawn by the seed, is held out for test"
        )
    height, width = train.images.shape[1:3]
    if height != width:  # as of a folder's images, and as predict.py sees an image
        train, test = (Split(_middle(images), labels) for images, labels in (train, test))
        notes.append(f"images are {width} x {height}: only the largest central square is used")
    found = splits.Found(
        name=printable(source),
        labels=np.concatenate([train.labels, test.labels]),
        digests=[digest(image) for split in (train, test) for image in split.images],
        hashes=None,
        colours=None,
        given=[None] * count + ["test"] * len(test.images),
        class_names=tuple(class_names),
        fractions={"validation": 0.2} if tests else {"validation": 0.1, "test": 0.1},
        in_order=tests,
        title=lambda i: f"x_train[{i}]" if i < count else f"x_test[{i - count}]",
    )

    def take(rows):
        images, first = (train.images, 0) if rows[0] < count else (test.images, count)
        if len(rows) == rows[-1] - rows[0] + 1:  # no copy of what is in one piece
            return images[rows[0] - first : rows[-1] - first + 1]
        return images[rows - first]

    return _Source(found, take, description, notes)


def _middle(images):
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def _fingerprint(given, labelled):
    """Returns the sha256 of all images, by the splits that the user gave them, whatever their order."""
    parts = {}
    for split, image in zip(given, labelled, strict=True):
        parts.setdefault(split, []).append(image)
    if "validation" in parts:
        parts.setdefault("test", [])  # one folder held out for validation is not one for test
    return _sha256(sorted(parts[split]) for split in (None, *SPLITS) if split in parts)


def _sha256(parts):
    """Returns one sha256 over all parts, from each image's digest and label."""
    sha256 = hashlib.sha256()
    for labelled in parts:
        sha256.update(len(labelled).to_bytes(8, "little"))
        sha256.update(b"".join(labelled))
    return sha256.hexdigest()


def _load_cifar10():
    keras = import_keras()
    try:
        (x_train, y_train), (x_test, y_test) = patiently(keras.datasets.cifar10.load_data)
    except Exception as error:  # get_file raises a bare Exception when a download fails
        raise OSError(
            f"CIFAR-10 can't be downloaded ({error}): put "
            f"https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz into {keras_home() / 'datasets'} "
            "(~/.keras/datasets, unless KERAS_HOME is set) as cifar-10-batches-py-target_archive, or use "
            "synthetic images: `python data.py shapes` shows them, and the training scripts take --data "
            "shapes --weights drawn (`make demo` needs no internet access)"
        ) from error
    train = Split(x_train, y_train[:, 0].astype("i8"))
    test = Split(x_test, y_test[:, 0].astype("i8"))
    return train, test, CIFAR10_CLASSES, "CIFAR-10"


SOURCES = {"cifar10": _load_cifar10, "shapes": shapes.draw}


def named_classes(names: Sequence[str]) -> tuple[str, str]:
    """Says how many classes there are, and their names, unless they are many."""
    return f"{len(names):,}", ", ".join(names) if len(names) <= 20 else shown(names)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser(
        description="Previews a source of images: counts, notes and a grid of examples."
    )
    parser.add_argument("source", help=f"{', '.join(SOURCES)}, FILE.npz or a folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split [0]")
    parser.add_argument(
        "--on-bad-image",
        choices=("stop", "skip"),
        default="stop",
        help="what to do if an image can't be read [stop]",
    )
    parser.add_argument(
        "--near-duplicates",
        choices=("keep", "drop"),
        default="keep",
        help="images that look alike across splits [keep]",
    )
    parser.add_argument("--output", type=Path, default="preview.png", help="the plot [preview.png]")
    asked = parser.parse_args(arguments)
    if not 0 <= asked.seed < 2**32:
        parser.error(f"argument --seed: expected 0 to {2**32 - 1}. Received: {asked.seed}")
    parser.check_plot("--output", asked.output)
    with ends_quietly("nothing was drawn"):
        preview(asked)


def preview(asked):
    """Prints and draws the preview that was asked for."""
    with one_line_errors():
        dataset = load(
            asked.source,
            seed=asked.seed,
            on_bad_image=asked.on_bad_image,
            near_duplicates=asked.near_duplicates,
        )
        from transfer import plots

        plots.save(plots.preview(dataset), asked.output)
    for name, split in zip(SPLITS, dataset[:3], strict=True):
        say(name, counted(len(split.images), "image"))
    say("classes", ": ".join(named_classes(dataset.class_names)))
    for note in dataset.notes:
        say("note", note)
    say("plot", asked.output)


if __name__ == "__main__":
    main()
