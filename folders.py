"""A reader's own images: a folder with a folder a class becomes splits of equal squares.

    DIR/cat/1.jpg, DIR/dog/2.png      split 80/10/10 by the seed, each class for itself
    DIR/train/cat/1.jpg, DIR/validation/cat/2.jpg, DIR/test/cat/3.jpg     split by the reader

Of an image the largest square in its middle is seen. All become squares of one side: the image size
asked for, or the largest square of the folder where that is smaller. Decoded once, they are kept
under $KERAS_HOME/images and mapped from there.
"""

import concurrent.futures
import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

import images
import runs

SPLITS = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
FEW = 10  # images a class below which a class is named
SHOWN = 5  # names in a line
VERSION = 1  # of the files' layout
CHUNK = 256


class Entry(NamedTuple):
    """An image of the folder: its path below it, its class and, where the reader split, its split."""

    path: Path
    class_name: str
    split: str | None


def find(root):
    """Finds the images of a folder, in an order of names that is the same on every machine.

    Raises:
        ValueError: There are not two classes with images, or names that can't be told apart.
    """
    names = _folders(root)
    split = set(names) >= {"train", "validation"} and set(names) <= set(SPLITS)
    entries = []
    for part in [name for name in SPLITS if name in names] if split else [None]:
        base = root / part if part else root
        for class_name in _folders(base):
            entries += [Entry(path, class_name, part) for path in _pictures(base / class_name, root)]
    classes = sorted({entry.class_name for entry in entries})
    if len(classes) < 2:
        kind = f"only the class {classes[0]!r}" if classes else "no images"
        raise ValueError(
            f"{root} has {kind}: expected two or more folders of images, one a class, or train/, "
            "validation/ and test/ with such folders inside"
        )
    for class_name in classes:
        if not class_name.isprintable():
            raise ValueError(f"{root}: the class {class_name!r} has a name that can't be printed")
    folded = Counter(class_name.casefold() for class_name in classes)
    alike = [class_name for class_name in classes if folded[class_name.casefold()] > 1]
    if alike:
        raise ValueError(f"{root}: the classes {' and '.join(alike)} differ in case only: rename one")
    if split:
        missing = set(classes) - {entry.class_name for entry in entries if entry.split == "train"}
        if missing:
            raise ValueError(f"{root}/train has no image of the class {min(missing)}")
    return entries


def _folders(folder):
    """Names of the folders in a folder; links that lead out of it, and hidden ones, are none."""
    with os.scandir(folder) as found:
        return sorted(
            entry.name
            for entry in found
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        )


def _pictures(folder, root):
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in images.SUFFIXES and path.is_file() and not path.is_symlink():
            yield path.relative_to(root)


class Folder(NamedTuple):
    """What became of a folder.

    `images` and `labels` have an entry for each split: uint8 (n, side, side, 3), mapped from the
    disk, and int64 (n,). `files` names for each image of each split its file and the digest of its
    pixels before they were cut and shrunk. `divided` says whether the reader made the split, and
    `notes` are lines for the reader.
    """

    images: list
    labels: list
    class_names: list
    files: dict
    divided: bool
    notes: list


def load(root, image_size, seed=0, on_bad_image="stop"):
    """Reads a folder of images.

    Args:
        root: Path of the folder.
        image_size: Largest side of a square, in pixels.
        seed: Seed of the split, where the reader made none.
        on_bad_image: "stop", or "skip" what can't be read.

    Returns:
        A `Folder`.

    Raises:
        ValueError: Its names or images are not what they should be; the folder changed meanwhile.
        OSError: It can't be read, or there is no room for the decoded images.
    """
    from squeezenet import keras_home

    entries = find(root)
    state = [_state(root / entry.path) for entry in entries]
    facts = [VERSION, image_size, seed, on_bad_image, [(*e, *s) for e, s in zip(entries, state, strict=True)]]
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    cache = keras_home() / "images"
    cache.mkdir(parents=True, exist_ok=True)
    kept = _read(cache, key)
    if kept is None:
        _write(cache, key, root, entries, image_size, seed, on_bad_image)
        if find(root) != entries or [_state(root / entry.path) for entry in entries] != state:
            (cache / f"{key}.json").unlink()
            raise ValueError(f"{root} changed while it was read: try again when it holds still")
        kept = _read(cache, key)
    return kept


def _state(path):
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _read(cache, key):
    """Maps a folder's decoded images, or gives None where they are not there as written."""
    try:
        facts = runs.read_json(cache / f"{key}.json")
        side, names = facts["side"], facts["class_names"]
        mapped, labels = [], []
        for part in SPLITS:
            path, rows = cache / f"{key}.{part}.bin", facts["files"][part]
            if runs.digest(path) != facts["sha256"][part]:
                return None
            # Copy on write, as TensorFlow takes no read-only memory; nobody writes.
            mapped.append(np.memmap(path, "u1", "c", shape=(len(rows), side, side, 3)))
            labels.append(np.array([names.index(row["class"]) for row in rows], "i8"))
        return Folder(mapped, labels, names, facts["files"], facts["divided"], facts["notes"])
    except (OSError, ValueError, KeyError):
        return None


def _write(cache, key, root, entries, image_size, seed, on_bad_image):
    side = _side(root, entries, image_size)
    size = len(entries) * side * side * 3
    if 2 * size > shutil.disk_usage(cache).free:
        raise OSError(f"{cache} has no room for the decoded images, {2 * size / 1e9:.1f} GB")
    decoded = cache / f"{key}.{os.getpid()}.decoded"
    try:
        hashes, bad = _decode(root, entries, side, decoded)
        _refuse(root, bad, on_bad_image)
        kept = [i for i, digest in enumerate(hashes) if digest]
        splits = _split(entries, kept, seed)
        notes = _without_leaks(entries, hashes, splits)
        names = sorted({entries[i].class_name for i in kept})
        notes += _about(entries, splits, names, bad)
        sha256 = {}
        for part in SPLITS:
            with runs.written_whole(cache / f"{key}.{part}.bin") as whole:
                with whole.open("wb") as file:
                    for start in range(0, len(splits[part]), CHUNK):
                        # Mapped for a chunk only: pages once touched count as the program's.
                        pixels = np.memmap(decoded, "u1", "r", shape=(len(entries), side, side, 3))
                        pixels[splits[part][start : start + CHUNK]].tofile(file)
                sha256[part] = runs.digest(whole)
    finally:
        decoded.unlink(missing_ok=True)
    files = {
        part: [
            {"file": str(entries[i].path), "class": entries[i].class_name, "sha256": hashes[i]}
            for i in splits[part]
        ]
        for part in SPLITS
    }
    facts = {
        "side": side,
        "class_names": names,
        "sha256": sha256,
        "divided": entries[0].split is not None,
        "files": files,
        "notes": notes,
    }
    runs.write_json(cache / f"{key}.json", facts)


def _side(root, entries, image_size):
    """Side of the squares: the largest square of the folder, or `image_size` where that is less."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return min(image_size, max(pool.map(lambda e: images.side(root / e.path), entries)))


def _decode(root, entries, side, path):
    """Decodes all images into a file; gives each one's digest, and the errors of the bad ones."""
    import keras

    def read(entry):
        try:
            image = images.decode(root / entry.path)
        except (OSError, ValueError) as error:
            return np.zeros((side, side, 3), "u1"), None, error
        pixels = np.asarray(images.square(image, side).resize((side, side)))
        return pixels, images.digest(np.asarray(image)).hexdigest(), None

    bar = keras.utils.Progbar(len(entries), unit_name="image")
    hashes, bad = [], []
    with concurrent.futures.ThreadPoolExecutor() as pool, path.open("wb") as file:
        for start in range(0, len(entries), CHUNK):
            for pixels, digest, error in pool.map(read, entries[start : start + CHUNK]):
                pixels.tofile(file)
                hashes.append(digest)
                bad += [error] if error else []
            bar.update(len(hashes))
    return hashes, bad


def _refuse(root, bad, on_bad_image):
    import cli

    for error in bad:
        cli.complain(error)
    if bad and on_bad_image == "stop":
        raise ValueError(
            f"{root} has {len(bad)} images that can't be read, listed above: mend or remove them, or "
            "take --on-bad-image skip"
        )


def _split(entries, kept, seed):
    if entries[0].split:
        return {part: [i for i in kept if entries[i].split == part] for part in SPLITS}
    random = np.random.default_rng(seed)
    splits = {part: [] for part in SPLITS}
    for class_name in sorted({entries[i].class_name for i in kept}):
        own = random.permutation([i for i in kept if entries[i].class_name == class_name])
        bounds = np.round(np.cumsum(SHARES) * len(own)).astype(int)
        for part, some in zip(SPLITS, np.split(own, bounds[:2]), strict=True):
            splits[part] += sorted(some.tolist())
    return splits


def _without_leaks(entries, hashes, splits):
    """Takes out of training what is in validation or test too, and out of validation what is in
    test; says what."""
    notes, seen = [], {}
    for part in reversed(SPLITS):
        leaks = [i for i in splits[part] if hashes[i] in seen]
        if leaks:
            pairs = [f"{entries[i].path} is {entries[seen[hashes[i]]].path}" for i in leaks[:SHOWN]]
            notes.append(f"{len(leaks)} duplicates left out of {part}: {_shown(pairs, len(leaks))}")
        splits[part] = [i for i in splits[part] if hashes[i] not in seen]
        seen = {hashes[i]: i for i in splits[part]} | seen
    return notes


def _about(entries, splits, names, bad):
    counts = Counter(entries[i].class_name for part in SPLITS for i in splits[part])
    notes = [f"{len(bad)} images that can't be read are left out"] if bad else []
    few = [f"{name} ({counts[name]})" for name in names if counts[name] < FEW]
    if few:
        notes.append(f"classes of fewer than {FEW} images: {_shown(few[:SHOWN], len(few))}")
    largest, smallest = max(counts.values()), min(counts.values())
    if largest > 3 * smallest:
        notes.append(
            f"the largest class has {largest:,} images, the smallest {smallest:,}: see --class-weights"
        )
    return notes


def _shown(items, count):
    return ", ".join(items) + (f" and {count - len(items)} more" if count > len(items) else "")
