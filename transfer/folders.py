"""A user's own images: decoded once to squares of one size, and memory-mapped from the disk.

layouts.py says which image belongs to which class and split. Only the largest central square of an
image is used. All squares have the same side: the image size asked for, or the largest side that a
tenth of the folder's images have, if that is smaller. They are kept under $KERAS_HOME/images in the
order in which they were found, so that a different seed, fold or subset needs no decoding again.
"""

import concurrent.futures
import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from transfer import files, images, layouts, precision, terminal
from transfer.terminal import counted, printable, shown

# Of the files' layout. If squares are cut otherwise, features.VERSION must change, too.
VERSION = 10
CHUNK = 256
FACTS = (  # of each image
    "digests", "hashes", "colours", "highest", "brightest", "plain", "long", "frames",
)  # fmt: skip


class Decoded(NamedTuple):
    """The images of a folder that can be read.

    `entries` has a `layouts.Entry` for each, `digests` the sha256 of its size and pixels before
    they were cut and shrunk, hexadecimal, and `hashes` the perceptual hash of its square, 64 bits,
    which hardly differs between copies of an image in other sizes and qualities; nor does its mean
    colour, RGB of 0 to 255, which `colours` has. `side` is that of the squares, in pixels, and
    `path` the file of them all, in this order; `rows` are their places in it. `notes` are lines for
    the user.
    """

    entries: list[layouts.Entry]
    digests: list[str]
    hashes: list[int]
    colours: list[list[float]]
    side: int
    path: Path
    rows: list[int]
    notes: list[str]

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Returns some of the images, by number: uint8 (n, side, side, 3), mapped from the disk.

        Images that are not contiguous, such as those of a drawn split, or that don't begin at a
        multiple of 64 bytes are copied to a file of their own, so that TensorFlow can take them
        without a copy in memory. The file has no name and disappears with the process.

        Args:
            numbers: Numbers of the images, ascending.

        Raises:
            OSError: There is no room for it, or the decoded images are gone.
        """
        size, shape = self.side * self.side * 3, (len(numbers), self.side, self.side, 3)
        first, last = self.rows[numbers[0]], self.rows[numbers[-1]]
        # Copy on write, as TensorFlow takes no read-only memory; nobody writes. Nor does it take
        # memory that is not aligned to 64 bytes, without a copy.
        if len(numbers) == last - first + 1 and first * size % 64 == 0:
            return np.memmap(self.path, "u1", "c", first * size, shape)
        folder = self.path.parent
        if not os.access(folder, os.W_OK):  # another user's
            folder = Path(tempfile.gettempdir())
        _refuse_full(folder, len(numbers) * size)
        with tempfile.TemporaryFile(dir=folder) as file, self.path.open("rb") as whole:
            for number in numbers:
                whole.seek(self.rows[number] * size)
                file.write(whole.read(size))
            file.flush()
            return np.memmap(file, "u1", "c", shape=shape)


def load(
    root: Path, layout: layouts.Layout, image_size: int, on_bad_image: str = "stop"
) -> Decoded:
    """Reads a folder of images.

    Args:
        root: Path of the folder.
        layout: What `layouts.find` found in it.
        image_size: Largest side of a square, in pixels.
        on_bad_image: "stop", or "skip" what can't be read.

    Returns:
        `Decoded`.

    Raises:
        ValueError: Images can't be read, or have only the values 0 and 1; the folder changed meanwhile.
        OSError: It can't be read, or there is no room for the decoded images.
    """
    entries = layout.entries
    states = _states(root, entries)
    facts = [
        VERSION,
        str(root.resolve()),
        [str(entry.path) for entry in entries],
        states,
    ]
    cache = files.keras_home() / "images"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{cache} can't be made ({error.strerror}): set KERAS_HOME to another folder"
        ) from error
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    path, kept = _find(cache, key, image_size)
    if kept:  # what could not be read is tried again: it may have been the disk
        unread = [e for e, digest in zip(entries, kept["digests"], strict=True) if not digest]
        with concurrent.futures.ThreadPoolExecutor(precision.CORES) as pool:
            errors = list(filter(None, pool.map(lambda entry: _error(root, entry), unread)))
        if len(errors) < len(unread):
            path, kept = _path(cache, key, image_size), None
        elif errors:
            _refuse(root, errors, len(entries), on_bad_image)
    if kept is None:
        _write(path, root, entries, image_size, on_bad_image)
        if layouts.find(root).entries != entries or _states(root, entries) != states:
            path.with_suffix(".json").unlink()
            raise ValueError(
                f"{printable(root)} changed while it was read: wait until nothing writes to it, then "
                "try again"
            )
        kept = _read(path)
    if kept is None:
        raise OSError(f"{path} was removed or changed while it was written: try again")
    good = [row for row, digest in enumerate(kept["digests"]) if digest]
    readable = [entries[row] for row in good]
    notes = []
    if bad := [entry.path for row, entry in enumerate(entries) if not kept["digests"][row]]:
        notes.append(f"left out: {counted(len(bad), 'image')} that can't be read: {shown(bad)}")
    digests, hashes, colours, highest, brightest, plain, long, frames = (
        [kept[name][row] for row in good] for name in FACTS
    )
    if max(highest) == 1:  # of masks, or of floating-point values that were saved as they are
        images.refuse_dark(printable(root), 1)
    classes = {}
    for entry, *values in zip(readable, brightest, highest, strict=True):
        classes.setdefault(entry.class_name, []).append(values)
    tops = {name: np.max(values, axis=0) for name, values in classes.items()}
    if dark := {name: top for name, top in tops.items() if top[0] < images.DARK}:
        value, top = np.max(list(dark.values()), axis=0)
        notes.append(
            f"all images of {shown(sorted(dark))} are dark: {'no' if value == top else 'hardly any'} value "
            f"is above {value}, where white is 255"
        )
    if any(plain):
        names = shown(readable[i].path for i in np.flatnonzero(plain))
        notes.append(
            f"{counted(sum(plain), 'image')} of one plain colour: {names}; white drawings on a "
            "transparent background come out white, and 8-bit values in a 16-bit file black"
        )
    if 2 * sum(long) > len(long):
        names = shown(readable[i].path for i in np.flatnonzero(long))
        notes.append(
            f"{counted(sum(long), 'image')} more than twice as wide as high, or as high as wide: only the "
            f"largest central square is used: {names}"
        )
    if several := [entry.path for entry, count in zip(readable, frames, strict=True) if count > 1]:
        notes.append(
            f"{counted(len(several), 'image')} of several pages or frames, of which only the first is "
            f"used: {shown(several)}"
        )
    return Decoded(readable, digests, hashes, colours, kept["side"], path, good, notes)


def _states(root, entries):
    # With the time of the last change of any kind, as of permissions: it decides what can be read.
    stats = [(root / entry.path).stat() for entry in entries]
    return [(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]


def _path(cache, key, image_size):
    return cache / f"{key}-{image_size}.bin"


def _find(cache, key, image_size):
    """Finds decoded images, perhaps those for a larger size that no image reached.

    Returns:
        The path of their file, or of that to write, and what `_read` gives of it.
    """
    path = _path(cache, key, image_size)
    if kept := _read(path):
        return path, kept
    for other in sorted({*cache.glob(f"{key}-*.bin")} - {path}):
        with contextlib.suppress(OSError, ValueError, KeyError):
            side = files.read_json(other.with_suffix(".json"))["side"]
            unbounded = side <= image_size and side < int(other.stem.partition("-")[2])
            if unbounded and (kept := _read(other)):
                return other, kept
    return path, None


def _read(path):
    """Reads what `_write` wrote about the decoded images, or returns None unless all is as written."""
    try:
        kept = files.read_json(path.with_suffix(".json"))
        return kept if files.digest(path) == kept["sha256"] else None
    except (OSError, ValueError, KeyError):
        return None


def _write(path, root, entries, image_size, on_bad_image):
    if not os.access(path.parent, os.W_OK):
        raise OSError(f"{path.parent} can't be written to: set KERAS_HOME to another folder")
    files.clear_parts(path.parent)
    side = _side(root, entries, image_size)
    # Once for all images, and once for the copies that `take` makes.
    _refuse_full(path.parent, 2 * len(entries) * side * side * 3)
    with files.written_whole(path, synced=False) as whole:
        known, bad = _decode(root, entries, side, whole)
        _refuse(root, bad, len(entries), on_bad_image)
        # The header of an image that can't be decoded must not decide on the size of the others.
        readable = [
            entry for entry, digest in zip(entries, known["digests"], strict=True) if digest
        ]
        if bad and (other := _side(root, readable, image_size)) != side:
            side = other
            known, _ = _decode(root, entries, side, whole)
        sha256 = files.digest(whole)
    files.write_json(path.with_suffix(".json"), {"side": side, "sha256": sha256} | known)


def _refuse_full(folder, needed):
    if needed > shutil.disk_usage(folder).free:
        raise OSError(
            f"{folder} has no room for the decoded images ({needed / 1e9:.1f} GB): free some space, or "
            "set KERAS_HOME to another folder"
        )


def _side(root, entries, image_size):
    """Side of the squares: the largest that a tenth of the images have, or `image_size` if it is less.

    A few large images among small ones must not decide how all of them are seen.
    """
    with concurrent.futures.ThreadPoolExecutor(precision.CORES) as pool:
        sides = sorted(filter(None, pool.map(lambda e: images.side(root / e.path), entries)))
    return min(image_size, sides[-1 - (len(sides) - 1) // 10] if sides else 0)


def _error(root, entry):
    """Returns why an image can't be read, or None if it can."""
    try:
        images.decode(root / entry.path)
    except (OSError, ValueError) as error:
        return error
    return None


def _decode(root, entries, side, path):
    """Decodes all images into a file.

    Returns:
        The `FACTS` of each image by name, None for a bad one, and the errors of the bad ones.
    """
    import imagehash

    keras = terminal.import_keras()

    def read(entry):
        try:
            image = images.decode(root / entry.path)
        except (OSError, ValueError) as error:
            return np.zeros((side, side, 3), "u1"), (None,) * len(FACTS), error
        square = images.square(image, side, enlarge=True)
        pixels = np.asarray(square)
        whole = np.asarray(image)
        digest = images.digest(whole).hex()
        phash = int(str(imagehash.phash(square)), 16)
        colour = pixels.mean(axis=(0, 1)).round(1).tolist()
        highest, brightest = int(whole.max()), images.brightest(image)
        plain = bool((pixels == pixels[0, 0]).all())
        long = max(image.size) > 2 * min(image.size)
        frames = images.frames(root / entry.path)
        return pixels, (digest, phash, colour, highest, brightest, plain, long, frames), None

    bar = keras.utils.Progbar(len(entries), unit_name="image", verbose=int(sys.stdout.isatty()))
    known, bad = {name: [] for name in FACTS}, []
    with concurrent.futures.ThreadPoolExecutor(precision.CORES) as pool, path.open("wb") as file:
        for start in range(0, len(entries), CHUNK):
            for pixels, values, error in pool.map(read, entries[start : start + CHUNK]):
                pixels.tofile(file)
                for name, value in zip(FACTS, values, strict=True):
                    known[name].append(value)
                bad += [error] if error else []
            bar.update(len(known["digests"]))
    return known, bad


def _refuse(root, bad, count, on_bad_image):
    if len(bad) == count:
        raise ValueError(f"{printable(root)} has no image that can be read: {bad[0]}")
    for error in bad:
        terminal.complain(error)
    if bad and on_bad_image == "stop":
        raise ValueError(
            f"{printable(root)} has {counted(len(bad), 'image')} that can't be read, listed "
            "above: fix or remove them, or use --on-bad-image skip"
        )
