"""Which images are for training, validation and test: splits by the seed, folds and subsets.

All of it works on the images' indices, so that nothing needs to be read or decoded again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from transfer import duplicates, hints
from transfer.hints import SPLITS
from transfer.terminal import counted, shown

# Streams of the seed: the same numbers must not decide on a fold and then on an amount.
FOLDS, AMOUNTS = 1, 2
FEW = 10  # images per class below which a class is named


class Split(NamedTuple):
    """Images uint8 (n, height, width, 3) RGB, and their labels int64 (n,), class numbers from 0."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, rows: Any) -> "Split":
        """Returns the images and labels of some rows, as NumPy indexes them."""
        return Split(self.images[rows], self.labels[rows])


class Found(NamedTuple):
    """The images of a source, before the seed divides them.

    `name` is what errors call the source. `labels`, int64 (n,), and `digests`, n sha256 digests, are
    those of its images, and so are `hashes`, their perceptual hashes, uint64 (n,) or None, and
    `colours`, their mean colours, float64 (n, 3) RGB of 0 to 255, or None. `given` has the split of
    each, or None where the seed decides. `fractions` says how much of those each drawn split takes:
    `{"validation": 0.1}`. With `in_order`, the last ones are for validation, not random ones, if they
    have about as many of each class (see `_last_fifth`). `title(i)` names image i.
    """

    name: str
    labels: np.ndarray
    digests: list[bytes]
    hashes: np.ndarray | None
    colours: np.ndarray | None
    given: list[str | None]
    class_names: tuple[str, ...]
    fractions: dict[str, float]
    in_order: bool
    title: Callable[[int], str]


class Divided(NamedTuple):
    """The images of a source, divided.

    `rows` is `{"train": rows, "validation": rows, "test": rows}`, each int64 numbers of images in the
    order of the source. `pool`, int64 (n,), has those that validation is taken from: all that folds
    divide, or its own with their near duplicates; `drawn_from` is the number of images from which the
    seed draws those, or 0. `planned` is the number of training images that each seed and fold has
    at most, were no near duplicates dropped. `notes` are lines for the user.
    """

    rows: dict[str, np.ndarray]
    pool: np.ndarray
    drawn_from: int
    planned: int
    notes: list[str]


def check(images_per_class: int, folds: int, fold: int) -> None:
    """Refuses what can't be meant, before anything is read.

    Raises:
        ValueError: One of them is out of its range.
    """
    if images_per_class < 0:
        raise ValueError(
            f"images per class: expected 1 or more, or 0 for all. Received: {images_per_class}"
        )
    if folds < 0 or folds == 1:
        raise ValueError(f"folds: expected 2 or more, or 0 for none. Received: {folds}")
    if folds and not 1 <= fold <= folds:
        raise ValueError(f"fold: expected 1 to {folds}, the number of folds. Received: {fold}")
    if fold and not folds:
        raise ValueError(f"fold: expected --folds as well, the number of folds. Received: {fold}")


def enough(
    name: str,
    counts: np.ndarray,
    class_names: Sequence[str],
    fractions: dict[str, float],
    noun: str = "image",
    which: str = "",
) -> None:
    """Refuses a class that can't give an image to each split.

    Args:
        name: What the error calls the source.
        counts: Images of each class that train or are divided, int (classes,).
        class_names, fractions: As in `Found`.
        noun, which: What is counted, in the singular, and what follows it.

    Raises:
        ValueError: It names the smallest class.
    """
    few = np.flatnonzero(counts < 1 + len(fractions))
    if len(few):
        least = few[np.argmin(counts[few])]
        others = len(few) - 1
        more = ""
        if others:
            more = (
                f" (and {others:,} more {'class has' if others == 1 else 'classes have'} too few)"
            )
        uses = ", ".join(
            f"one for {'training' if split == 'train' else split}"
            for split in SPLITS
            if split in {"train", *fractions}
        )
        raise ValueError(
            f"{name}: the class {class_names[least]} has {counted(counts[least], noun)}{which}{more}: "
            f"expected {1 + len(fractions)} or more of each class, {uses}; add images, or leave "
            f"{'these classes' if others else 'the class'} out"
        )


def divide(
    found: Found,
    seed: int,
    images_per_class: int,
    folds: int,
    fold: int,
    near_duplicates: str,
) -> Divided:
    """Divides the images of a source.

    Args:
        found: `Found`.
        seed, images_per_class, folds, fold: As in `data.load`.
        near_duplicates: "keep" images of two splits that look alike (see `duplicates.py`), or "drop"
            them from training, and from validation if the other is in test.

    Returns:
        `Divided`.

    Raises:
        ValueError: A class has too few images, or a split none.
    """
    given = np.array([split or "divided" for split in found.given])
    rows = {split: np.flatnonzero(given == split) for split in ("divided", *SPLITS)}
    if found.in_order and not folds and (last := _last_fifth(found, rows["divided"])) is not None:
        few = _few(found, _counts(found, rows["divided"]), "image")
        rows["train"], rows["validation"] = last
        rows["divided"] = rows["divided"][:0]
        notes = duplicates.shared(found, rows)
        # Either says how small the smallest class is.
        counts = _counts(found, rows["train"])
        notes += _imbalance(counts, "training image", images_per_class) or few
    else:
        notes = duplicates.without_duplicates(found, rows)
        counts = _counts(found, rows["divided" if found.fractions else "train"])
        what = "distinct readable image", " for training"
        try:
            enough(found.name, counts, found.class_names, found.fractions, *what)
        except ValueError as error:
            raise ValueError("; ".join([str(error), *notes])) from None
        noun = "training image" if any(found.given) else "image"
        notes += _few(found, counts, noun) + _imbalance(counts, noun, images_per_class)
        if found.fractions:
            rows |= _drawn(found, rows["divided"], seed)
        if found.in_order and not folds:
            notes.append(
                "the last fifth of the training images lacks a class, or holds every image of one, "
                "or far more or fewer of one than a fifth: a fifth of each class is held out for "
                "validation instead"
            )
    divided = len(rows.pop("divided"))
    drawn_from = 0 if folds or "validation" not in found.fractions else divided
    if folds:
        pool = np.sort(np.concatenate([rows["train"], rows["validation"]]))
        parts = _folds(found, pool, folds, seed)
        rows["validation"] = parts[fold - 1]
        rows["train"] = np.setdiff1d(pool, rows["validation"])
        planned = len(pool) - len(pool) // folds
    else:
        pool = rows["validation"]
        planned = len(rows["train"])
    drop = near_duplicates == "drop"
    if drop:
        notes += duplicates.without_near_duplicates(found, rows, drop=True)
        counts = _counts(found, rows["train"])
        purpose = " left for training without near duplicates"
        enough(found.name, counts, found.class_names, {}, "image", purpose)
    for split in SPLITS[1:]:
        if not len(rows[split]):
            why = f"{found.name} has no images left for {split}: all are (near) duplicates or unreadable"
            raise ValueError("; ".join([why, *notes]))
        lacks = np.flatnonzero(_counts(found, rows[split]) == 0)
        if len(lacks):
            names = shown(found.class_names[label] for label in lacks)
            notes.append(f"{split} has no image of these classes: {names}")
    if images_per_class:
        rows["train"] = _amount(found, rows["train"], images_per_class, seed)
        planned = len(rows["train"])
    if found.hashes is not None:
        notes += hints.versions(found, rows) + hints.frames(found, rows)
        if not drop:
            notes += duplicates.without_near_duplicates(found, rows, drop=False)
    return Divided({split: rows[split] for split in SPLITS}, pool, drawn_from, planned, notes)


def _few(found, counts, noun):
    few = [f"{found.class_names[i]} ({counts[i]})" for i in np.flatnonzero(counts < FEW)]
    return [f"classes with fewer than {counted(FEW, noun)}: {shown(few)}"] if few else []


def _imbalance(counts, noun, images_per_class):
    if images_per_class or counts.max() <= 3 * counts.min():
        return []
    return [
        f"the largest class has {counted(counts.max(), noun)}, the smallest {counts.min():,}; "
        "--class-weights balanced gives all classes the same total weight"
    ]


def _last_fifth(found, rows):
    """Returns the first four fifths and the last, or None where classes are unevenly divided.

    That is where either lacks a class, or where the last has far more or fewer of one than a random
    fifth would: by a quarter, and by five standard deviations of a Poisson distribution.
    """
    held_out = len(rows) // 5
    parts = rows[:-held_out], rows[-held_out:]
    if not all(_counts(found, part).all() for part in parts):
        return None
    expected = _counts(found, rows) / 5
    beyond = np.abs(_counts(found, parts[1]) - expected)
    return None if (beyond > np.maximum(expected / 4, 5 * np.sqrt(expected))).any() else parts


def _drawn(found, rows, seed):
    """Draws splits from the images, class by class, so that each has images of every class."""
    random = np.random.default_rng(seed)
    names = ["train", *(split for split in SPLITS if split in found.fractions)]
    fractions = [1 - sum(found.fractions.values()), *(found.fractions[name] for name in names[1:])]
    drawn = {name: [] for name in names}
    for own in _by_class(found, rows):
        own = random.permutation(own)
        bounds = np.round(np.cumsum(fractions) * len(own)).astype(int)[:-1]
        sizes = np.maximum(np.diff([*bounds, len(own)]), 1)
        parts = np.split(own, len(own) - np.cumsum(sizes[::-1])[::-1])
        for name, part in zip(names, parts, strict=True):
            drawn[name].append(part)
    return {name: np.sort(np.concatenate(parts)) for name, parts in drawn.items()}


def _folds(found, rows, folds, seed):
    expected = (
        f"for training and validation: expected {folds} or more for {folds} folds, one in each"
    )
    _refuse_fewer(found, rows, folds, expected)
    random = np.random.default_rng((seed, FOLDS))
    # Dealt out in turn across classes: folds differ by at most one image, per class and in total.
    dealt = np.concatenate([random.permutation(own) for own in _by_class(found, rows)])
    return [np.sort(dealt[start::folds]) for start in range(folds)]


def _amount(found, rows, count, seed):
    expected = f"for training: expected {count:,} or more for {counted(count, 'image')} per class"
    _refuse_fewer(found, rows, count, expected)
    random = np.random.default_rng((seed, AMOUNTS))
    # The first of one fixed order, so that a smaller subset is contained in a larger one.
    return np.sort(
        np.concatenate([random.permutation(own)[:count] for own in _by_class(found, rows)])
    )


def _refuse_fewer(found, rows, least, expected):
    """Refuses classes of fewer images than `least`; names the smallest, and what was expected."""
    counts = _counts(found, rows)
    if counts.min() < least:
        smallest = counts.argmin()
        raise ValueError(
            f"{found.name}: the class {found.class_names[smallest]} has "
            f"{counted(counts[smallest], 'distinct image')} {expected}"
        )


def _by_class(found, rows):
    order = np.argsort(found.labels[rows], kind="stable")
    return np.split(rows[order], np.cumsum(_counts(found, rows))[:-1])


def _counts(found, rows):
    return np.bincount(found.labels[rows], minlength=len(found.class_names))
