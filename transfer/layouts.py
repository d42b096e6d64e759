"""How people lay out their images: which file belongs to which class, and to which split.

    DIR/cat/1.jpg, DIR/dog/2.png          a folder for each class, split by the seed
    DIR/train/cat/1.jpg, DIR/val/cat/2.jpg, DIR/test/cat/3.jpg    split by the user

A split has any of the names that Hugging Face's imagefolder knows, in upper or lower case, alone or
as one of several words (seg_train, val2017); missing splits are drawn from the training images by
the seed. An ambiguous layout is refused.
"""

import os
import re
import shlex
import unicodedata
from pathlib import Path
from typing import NamedTuple

from transfer import hints, tree
from transfer.terminal import counted, is_printable, printable, shown

EXPECTED = (
    "expected two or more folders of images, one per class, or train/, validation/ and test/ with "
    "such folders inside"
)
UNREAD = "labels in a table or in file names are not read"
RENAMED = ", and rename images of the same name"
# What Unicode calls default ignorable, beside the category Cf (DerivedCoreProperties.txt).
IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


class Entry(NamedTuple):
    """An image: its path below the root, its class, and its split; None where the seed divides."""

    path: Path
    class_name: str
    split: str | None


class Layout(NamedTuple):
    """The images of a folder in order, the splits that the user made, and lines for the user."""

    entries: list[Entry]
    own: tuple[str, ...]
    notes: list[str]


def find(root: Path) -> Layout:
    """Finds the images of a folder, in an order of names that is the same on every machine.

    Args:
        root: Path of the folder.

    Returns:
        A `Layout`.

    Raises:
        ValueError: It is no layout that is known, or has names that can't be told apart.
        OSError: A folder in it can't be read.
    """
    base, notes, instead = tree.scan(root)
    loose = []
    while only := _wrapped(base):
        _refuse_bare(root, base)
        _refuse_links(root, base)
        loose.append(base)
        base = only
    if base.path.parts:
        notes.insert(0, _entered(base))
    if not base.folders:
        kind = f"no images{instead}"
        expected = _usable(root, base.useless) if base.useless else EXPECTED
        if base.images:
            _refuse_bare(root, base)
            _refuse_links(root, base)
            kind = "images, but no folder of them for each class"
            expected = f"{EXPECTED}; {UNREAD}"
        raise ValueError(f"{printable(root / base.path)} has {kind}: {expected}")

    splits = hints.splits_of(base.folders)
    classes = [name for name in base.folders if name not in splits]
    if classes and any(base.folders[name].folders for name in splits):
        _refuse_mixture(root, base, splits, classes)
    loose.append(base)
    own, entries = (), []
    if splits and not classes:
        by_split = _by_split(root, base, splits)
        own = tuple(by_split)
        if other := [name for name in splits if name.casefold() not in hints.SPLIT_OF]:
            read = shown(f"{name} as {splits[name]}" for name in other)
            notes.append(f"folders are taken as splits, by their names: {read}")
        for split, folder in by_split.items():
            if folder is not base.folders.get(folder.path.name):
                notes.append(_entered(folder))
            loose.append(folder)
            if split == "train":
                held_out = {name for other in own[1:] for name in by_split[other].folders}
                notes += hints.like_splits(sorted(folder.folders.keys() - held_out), {})
            entries += _of_classes(root, folder, split, own)
        if len(own) < len(hints.SPLITS):  # the others are drawn from the training images
            entries = [
                entry._replace(split=None) if entry.split == "train" else entry for entry in entries
            ]
    else:
        entries = _of_classes(root, base, None, own)
        notes += hints.like_splits(base.folders, splits)
    for folder in loose:
        if folder.images:
            names = shown([path.name for path in folder.images])
            where = printable(root / folder.path)
            notes.append(
                f"left out: {counted(len(folder.images), 'image')} directly in {where}, in no class: {names}"
            )
    _check_classes(root / base.path, entries)
    return Layout(entries, own, notes + hints.suspects(entries))


def _folded(name):
    """Returns what two names have in common that a reader, or another file system, takes for one."""
    name = IGNORED.sub("", unicodedata.normalize("NFC", name).casefold())
    name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    return " ".join(re.sub(r"(?<=\w)[-_](?=\w)", " ", name).split())


def _wrapped(folder):
    """Returns the one folder in a folder where it holds the classes or splits, as in an archive."""
    if len(folder.folders) != 1:
        return None
    ((name, only),) = folder.folders.items()
    return None if only.images or name.casefold() in hints.SPLIT_OF else only


def _entered(folder):
    return f"{printable(folder.path)}/ is used: no other folder beside it has images"


def _by_split(root, base, splits):
    _refuse_bare(root, base)
    _refuse_links(root, base)
    where = printable(root / base.path)
    by_split = {}
    for split in hints.SPLITS:
        alike = [name for name in splits if splits[name] == split]
        if len(alike) > 1:
            remedy = f"make it one folder with a folder for each class in it, such as {split}/cat"
            if any(base.folders[name].folders for name in alike):
                remedy = "merge them, or move all but one elsewhere"
            raise ValueError(
                f"{where} has {shown(alike)}, which all name the {split} split: expected one; {remedy}"
            )
        if alike:
            by_split[split] = _inner(base.folders[alike[0]])
    if "train" not in by_split:
        first, *more = splits
        nested = base.folders[first].folders and not more
        alone = f", or use --data {_quoted(root / base.folders[first].path)}" if nested else ""
        raise ValueError(
            f"{where} has {shown(splits)}, but no images to train on: expected train/ (or training/) "
            f"with a folder of images for each class{alone}"
        )
    for folder in by_split.values():
        if not folder.folders:
            remedy = "move the folder elsewhere if its images have no class"
            if not any(each.folders for each in by_split.values()):
                remedy += ", or rename it if it is a class itself"
            raise ValueError(
                f"{printable(root / folder.path)} has images, but no folder of them for each class: "
                f"expected the classes as folders in each split ({UNREAD}); {remedy}"
            )
    return by_split


def _inner(folder):
    """Returns the innermost folder in a split's folder where it holds the classes, as in archives."""
    while len(folder.folders) == 1 and not folder.images and not folder.bare:
        ((name, inner),) = folder.folders.items()
        holds_classes = inner.folders and not inner.images
        if not holds_classes and name != folder.path.name:
            break
        folder = inner
    return folder


def _refuse_mixture(root, base, splits, classes):
    """Refuses splits beside what is none, or has a name that we do not know."""
    nested = [
        name
        for name in classes
        if base.folders[name].folders
        and not hints.splits_of(base.folders[name].folders)
        and not hints.is_annotated(name)
    ]
    remedy = "move one or the other elsewhere"
    only = base.folders[classes[0]].folders if len(classes) == 1 else {}
    apart = hints.splits_of(only)
    if apart and not {*apart.values()} & {*splits.values()}:
        paths = shown(only[name].path for name in apart)
        remedy = f"if all are splits of one set, move {paths} up beside {shown(splits)}; otherwise {remedy}"
    if nested:
        which = "it is a split" if len(nested) == 1 else "they are splits"
        remedy += f", or rename {shown(nested)} to train, validation or test if {which}, too"
    raise ValueError(
        f"{printable(root / base.path)} has {shown(splits)} beside {shown(classes)}: expected "
        f"splits only or classes only; {remedy}"
    )


def _refuse_links(root, base):
    """Refuses a link in `base` that is not followed, but named like a split."""
    splits = hints.splits_of([*base.folders, *(link.name for link in base.links)])
    for link in base.links:
        if link.name in splits and not os.path.isfile(root / link):
            raise ValueError(
                f"{printable(root / link)} is a link that is not followed, as it leads {tree.ASTRAY}: "
                "expected a folder; put one with the images in its place, or remove it"
            )


def _refuse_bare(root, base):
    """Refuses a folder in `base` that holds images, but none that can be used."""
    if base.bare:
        folder = base.bare[0]
        only = f"links {tree.ASTRAY}," if os.path.isdir(root / folder.useless) else "files"
        raise ValueError(
            f"{printable(root / folder.path)} has no image that can be used, only {only} such as "
            f"{printable(folder.useless.name)}: {_usable(root, folder.useless)}, or move the folder elsewhere"
        )


def _usable(root, useless):
    """Says what to do about images that can't be used, or about a link to a folder that is not read."""
    if os.path.isdir(root / useless):
        return "expected folders; replace each link with a copy of its folder"
    return tree.USABLE


def _of_classes(root, base, split, own):
    entries = []
    _refuse_bare(root, base)
    for name, folder in base.folders.items():
        if folder.folders:
            if all(len(other.folders) < 2 for other in base.folders.values()):
                _refuse_parts(root / base.path, base.folders)
            raise ValueError(
                f"{printable(root / folder.path)} has folders with images in it, "
                f"{shown(folder.folders)}: expected the images of one class, without folders; "
                f"nested classes are not merged: {_remedy(root, base, folder, own)}"
            )
        entries += [Entry(path, name, split) for path in folder.images]
    return entries


def _refuse_parts(where, names):
    """Refuses folders that are all named like images and their annotations."""
    if len(names) > 1 and all(map(hints.is_annotated, names)):
        raise ValueError(
            f"{printable(where)} has {shown(sorted(names))}, which look like parts of a data set (images, "
            f"annotations), not like classes: {EXPECTED}; {UNREAD}"
        )


def _remedy(root, base, folder, own):
    """Says what to do about a class in `base`, perhaps a split of `own`, that has folders with images."""
    inner = folder
    if splits := hints.splits_of(folder.folders):
        if any(folder.folders[name].folders for name in splits):
            return f"to train on {printable(folder.path)} alone, use --data {_quoted(root / folder.path)}"
        return "put the splits outside the classes: train/cat, not cat/train"
    if len(folder.folders) == 1:
        (inner,) = folder.folders.values()
        if not inner.folders:
            return "move its images up into it, or elsewhere if they do not belong to that class"
    elif any(map(hints.is_annotated, folder.folders)):
        return "put the images of each class directly into its folder, and masks elsewhere"
    classes = "these are the classes"
    if inner is not folder:
        classes = f"the classes are the folders in {printable(inner.path.name)}"
    outer = shown(base.folders)
    otherwise = (
        f"if the classes are {outer}, put all images of each directly into its folder{RENAMED}"
    )
    if len(base.folders) == 1:
        otherwise = f"if {outer} is a class, put all its images directly into it{RENAMED}"
    if own and len(base.folders) == 1:  # it would have been entered
        stray = shown([*base.images, *folder.images])
        what_to_do = f"move the images that are in none of them elsewhere: {stray}"
    elif len(own) > 1:  # --data would leave the other splits out
        what_to_do = f"move them up into {printable(base.path)}, do the same in each split{RENAMED}"
    else:
        what_to_do = f"use --data {_quoted(root / inner.path)}"
    remedy = f"if {classes}, {what_to_do}; {otherwise}"
    alike = [
        name
        for name, other in base.folders.items()
        if len(other.folders.keys() & folder.folders.keys()) > 1
    ]
    if len(alike) < 2 or any(map(hints.is_kind, alike)):
        return remedy
    around = "the folders around the classes"
    if own or len(alike) > len(hints.SPLITS) or any(map(hints.is_piece, alike)):
        return f"{remedy}; if {around} are parts of one set, merge them into one folder for each class{RENAMED}"
    return f"{remedy}; if {around} are splits, name them train and test (and validation)"


def _quoted(path):
    return shlex.quote(printable(path))


def _in_splits(splits):
    return " and ".join(sorted(split or "train" for split in splits))


def _check_classes(where, entries):
    where, found = printable(where), {}
    for entry in entries:
        found.setdefault(entry.class_name, set()).add(entry.split)
    for name in sorted(found):
        if not is_printable(name):
            raise ValueError(
                f"{where}: the class {name!r} has a name that can't be printed: rename it"
            )
    _refuse_parts(where, found)
    if len(found) < 2:
        (name,) = found
        raise ValueError(f"{where} has only the class {name!r}: {EXPECTED}; {UNREAD}")
    by_folded = {}
    for name in sorted(found):
        by_folded.setdefault(_folded(name), []).append(name)
    if alike := [names for names in by_folded.values() if len(names) > 1]:
        names = [
            name if found[name] == {None} else f"{name} (in {_in_splits(found[name])})"
            for name in alike[0]
        ]
        more = f" ({counted(len(alike) - 1, 'more case')} of this)" if len(alike) > 1 else ""
        raise ValueError(
            f"{where}: the classes {' and '.join(names)} differ only in case, in spaces, underscores or "
            f"hyphens, in invisible characters, or in how an accent is encoded{more}: merge them if they are one class, or else rename one"
        )
    for name in sorted(found):
        if not found[name] & {None, "train"}:
            raise ValueError(
                f"{where}: the class {name} is in {_in_splits(found[name])}, but has no "
                "image to train on: expected every class in the training folder; if it has another name "
                "there, rename it; if its images are of unknown class, move the folder elsewhere"
            )
