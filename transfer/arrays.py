"""Arrays of images and labels from an .npz file, checked."""

import math
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from transfer.images import refuse_dark
from transfer.splits import Split
from transfer.terminal import counted, first_line, is_printable, shown

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(path: Path) -> tuple[Split, Split, list[str], str, list[str]]:
    """Reads an .npz file of images.

    Returns:
        Its training and test `Split`s (uint8 (n, height, width, 3), int64 (n,)), the latter empty if it
        has none, the names of its classes, its own name, and lines for the user.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or its arrays are not as expected.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected an .npz file")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not an .npz file, or was cut short: expected what numpy.savez writes"
        )
    arrays = {}
    try:
        _refuse_bomb(path)
        # Not np.load, which goes by the first bytes and would take a damaged file for a pickle or .npy.
        with path.open("rb") as opened, np.lib.npyio.NpzFile(opened) as file:
            tests = any(name in file.files for name in ARRAYS[2:])
            for name in ARRAYS if tests else ARRAYS[:2]:
                if name not in file.files:
                    raise ValueError(
                        f"{path} has no array {name}: expected {', '.join(ARRAYS)}. "
                        f"Received: {shown(file.files) or 'none'}"
                    )
                arrays[name] = _read_array(file, name, path)
            others = [name for name in file.files if name not in (*ARRAYS, "class_names")]
            names = _read_array(file, "class_names", path) if "class_names" in file.files else None
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}): write or download it again") from error

    train = _checked_split(arrays["x_train"], arrays["y_train"], "train", path)
    test = train.take(slice(0))
    if tests:
        test = _checked_split(arrays["x_test"], arrays["y_test"], "test", path)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{path}: x_train has images of {train.images.shape[1:]}, x_test of "
            f"{test.images.shape[1:]}: expected the same size and channels"
        )
    if tests and len(train.images) < 5:
        raise ValueError(
            f"{path}: x_train has {counted(len(train.images), 'image')}: expected 5 or more, as a "
            "fifth of them is held out for validation"
        )
    classes = int(train.labels.max()) + 1
    missing = np.setdiff1d(np.arange(classes), train.labels)
    if classes < 2 or len(missing):
        problem = f"no image of class {missing[0]}" if len(missing) else "one class only"
        raise ValueError(
            f"{path}: y_train has {problem}: expected class numbers 0, 1, 2, ... with at least two "
            "classes and an image of each"
        )
    if tests and test.labels.max() >= classes:
        raise ValueError(
            f"{path}: y_test has class {test.labels.max()}: expected 0..{classes - 1}, as in y_train"
        )
    if names is None:
        names = [str(label) for label in range(classes)]
    elif names.dtype.kind != "U" or names.shape != (classes,):
        raise ValueError(
            f"{path}: class_names should be {classes} strings, one per class. "
            f"Received: {names.dtype} {names.shape}"
        )
    names = [str(name) for name in names]
    counts = Counter(map(str.strip, names))
    for name in names:
        if not name.strip() or not is_printable(name) or counts[name.strip()] > 1:
            raise ValueError(
                f"{path}: class_names should be printable and different (spaces around them don't count). "
                f"Received: {name!r}"
            )
    notes = [f"left out: {counted(len(others), 'array')}: {shown(others)}"] if others else []
    return train, test, names, path.name, notes


def _refuse_bomb(path):
    """Refuses a file whose arrays would take far more memory than it takes on disk."""
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > 1e9 and size > 100 * path.stat().st_size:
        raise ValueError(
            f"{path} would expand a hundredfold, to {size / 1e9:.0f} GB of memory: expected images; "
            "save fewer of them, or without compression"
        )


def _read_array(file, name, path):
    try:
        array = file[name]
    except Exception as error:  # of NumPy, zipfile and its decompressors, of many kinds
        if isinstance(error, MemoryError) and not _claims_too_much(file, name):
            raise
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: {name} is a pickled object, which can run code and is refused: expected "
                "a plain array"
            ) from error
        raise ValueError(
            f"{path}: {name} is damaged ({first_line(error)}): write or download the file again"
        ) from error
    if not isinstance(array, np.ndarray):  # but bytes
        raise ValueError(f"{path}: {name} is not an array: expected what numpy.savez writes")
    return array


def _claims_too_much(file, name):
    """Says whether the header of an array claims more than the file holds of it."""
    entry = next(e for e in file.zip.infolist() if e.filename.removesuffix(".npy") == name)
    with file.zip.open(entry) as member:
        first = np.lib.format.read_magic(member) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, kind = read(member)
    return math.prod(shape) * kind.itemsize > entry.file_size


def _checked_split(images, labels, name, path):
    """Checks one pair of arrays; grey images (n, height, width[, 1]) become RGB."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{path}: x_{name} should be uint8 images of shape (n, height, width, 3) for RGB, or (n, "
            "height, width) or (n, height, width, 1) for grey, with values from 0 (black) to 255 (white). "
            f"Received: {images.dtype} {images.shape}"
        )
    if not images.size:
        raise ValueError(f"{path}: x_{name} has no images or no pixels. Received: {images.shape}")
    refuse_dark(f"{path}: x_{name}", images.max())
    if images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise ValueError(
            f"{path}: y_{name} should be {len(images)} whole numbers, one per image, counted from 0 "
            f"(and class_names their names). Received: {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() > (len(images) if name == "train" else 2**63) - 1:
        raise ValueError(
            f"{path}: y_{name} should be class numbers from 0 up, fewer than there are images. "
            f"Received: {labels.min()}..{labels.max()}"
        )
    return Split(images, labels.astype("i8"))
