"""Images that are in a source more than once: copies, and near duplicates in other sizes or qualities.

`found` is a `splits.Found`, and `rows` a dict by split of the numbers of its images.
"""

import numpy as np

from transfer.terminal import counted, shown

# Bits of 64 by which perceptual hashes may differ between copies of an image. Of the 398 photographs
# of ants and bees, copies of half the size or of JPEG quality 30 differ by 4 at most, two different
# photographs by more than 12.
NEAR = 6
# Of 255, by which the mean colours of copies may differ: those of the same photographs differ by 5.8
# even at JPEG quality 10. Hashes know no colour, so a thing in two colours has the same.
NEAR_COLOUR = 8


def shared(found, rows):
    """Returns lines on images that stand in two splits of a source whose splits stay as they are."""
    notes, held_out = [], {}
    for split, others in (
        ("test", ""),
        ("validation", "test"),
        ("train", "validation or test"),
    ):
        numbers = rows[split].tolist()
        twice = [(i, held_out[found.digests[i]]) for i in numbers if found.digests[i] in held_out]
        held_out |= {found.digests[i]: i for i in numbers}
        if twice:
            pairs = shown(f"{found.title(i)} is {found.title(known)}" for i, known in twice)
            notes.append(f"also in {others}: {counted(len(twice), 'image')} of {split}: {pairs}")
    return notes + _contradictions(found, _copies(found, rows), "both of which are used")


def _copies(found, rows):
    """Returns for each split its images that are copies of one before, each with that one."""
    first, copies = {}, {}
    for split in ("test", "validation", "train", "divided"):
        pairs = [(i, first.setdefault(found.digests[i], i)) for i in rows[split].tolist()]
        copies[split] = [(i, known) for i, known in pairs if known != i]
    return copies


def _contradictions(found, copies, used):
    """Returns a line on copies that stand in two classes; `used` says what becomes of their labels."""
    pairs = [pair for own in copies.values() for pair in own]
    pairs = [(i, known) for i, known in pairs if found.labels[i] != found.labels[known]]
    if not pairs:
        return []
    named = shown(f"{found.title(i)} and {found.title(known)}" for i, known in pairs)
    return [f"in two classes: {counted(len(pairs), 'image')}, {used}: {named}"]


def without_duplicates(found, rows):
    """Removes from `rows` copies of an image; returns lines that say which.

    Of the copies in several splits that of test stays, else that of validation; in one split the
    first stays, whatever the seed. Labels that contradict each other are named.
    """
    notes, copies = [], _copies(found, rows)
    for split, own in copies.items():
        if own:
            pairs = shown(f"{found.title(i)} is {found.title(known)}" for i, known in own)
            place = "" if split == "divided" else f" of {split}"
            notes.append(f"left out: {counted(len(own), 'duplicate')}{place}: {pairs}")
            rows[split] = np.setdiff1d(rows[split], [i for i, _ in own])
    return notes + _contradictions(found, copies, "each kept in the class of the file named second")


def without_near_duplicates(found, rows, drop):
    """Finds images of `rows` that are in two splits in other sizes or qualities; returns lines on them.

    With `drop`, training loses those that are in validation or test, and validation those in test;
    test keeps all of its own. Without it, they are only named.
    """
    notes = []
    for split, others in (("train", ("validation", "test")), ("validation", ("test",))):
        held_out = np.concatenate([rows[other] for other in others])
        hashes, colours, near = found.hashes[held_out], found.colours[held_out], []
        for i in rows[split].tolist():
            distances = np.bitwise_count(hashes ^ found.hashes[i])
            alike = np.flatnonzero(distances <= NEAR)
            alike = alike[np.abs(colours[alike] - found.colours[i]).max(axis=1) <= NEAR_COLOUR]
            if len(alike):
                near.append((i, held_out[alike[distances[alike].argmin()]]))
        if not near:
            continue
        pairs = shown(f"{found.title(i)} is like {found.title(other)}" for i, other in near)
        look = "looks" if len(near) == 1 else "look"
        images = f"{counted(len(near), 'image')} of {split} that {look} like one of {' or '.join(others)}"
        if drop:
            notes.append(f"left out: {images}: {pairs}")
            rows[split] = np.setdiff1d(rows[split], [i for i, _ in near])
        else:
            labels = found.labels
            unsure = any(labels[i] != labels[other] for i, other in near)
            classes = " (some pairs are of two classes, so they may be alike without being copies)"
            what = classes if unsure else ""
            notes.append(f"{images}, see --near-duplicates drop{what}: {pairs}")
    return notes
