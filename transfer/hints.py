"""What the names of folders and files tell: splits, parts of a data set, masks, versions of an image.

It is a guess, so nearly all of it ends in a line for the user, not in a decision.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transfer.terminal import counted, shown

SPLITS = ("train", "validation", "test")
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {name: split for split, names in NAMES.items() for name in names}
# Names of what data sets for detection and segmentation have beside each other: no classes.
ANNOTATIONS = {
    "masks", "mask", "labels", "annotations", "segmentationclass", "segmentationobject",
    "groundtruth", "gt", "trimaps",
}  # fmt: skip
ANNOTATED = ANNOTATIONS | {"images", "image", "imgs", "img", "jpegimages"}
# Splits as data sets for segmentation abbreviate them (imagesTr, labelsTs).
ABBREVIATED = {"tr", "ts", "te"}
NEGATION, AFFIRMATION = re.compile("^(without|non|not|no)"), re.compile("^with(?!out)")
# Words of longer names of such folders, as DUTS-TR-Mask; a GT is also a car.
ANNOTATING = ANNOTATIONS - {"gt"} | {"annotation", "segmentation", "segmentations"}
# What the pieces of one set are called, and what cameras, months and exports call their folders.
PIECES = {
    "part", "batch", "chunk", "fold", "shard", "photos", "folder", "subset", "session", "clip",
    "video", "patient", "subject", "archive", "dataset",
}  # fmt: skip
EXPORTED = re.compile(
    "[1-9][0-9]{2}[A-Z_][A-Z0-9_]{4}|20[0-9]{2}[-_]?(0[1-9]|1[0-2])([-_]?[0-9]{2})?_*"
)
# What systems, synchronisation and scripts call a second folder of the same images.
SECOND = re.compile(
    r"(?:copy of )?(.+?)(?: - copy|[-_ ](?:copy(?: [0-9]+)?|aug|augmented|flipped|resized|cropped))?"
    r"(?: ?\((?:[0-9]+|[^)]*conflict[^)]*)\))?",
    re.I,
)
# Words of folders that hold the images of other folders in another form.
KINDS = {
    "color", "colour", "grayscale", "greyscale", "gray", "grey", "rgb", "bands", "segmented", "augmented",
    "original", "resized", "cropped",
}  # fmt: skip
# Folders of images that belong to other classes, or to none.
UNSORTED = {"unlabeled", "unlabelled", "unsorted", "augmented", "duplicates", "backup"}
# What such files add to the name of the image that they belong to.
ANNOTATION = re.compile(
    "(?:(?:masks?|seg|labels?|gt)[-_. ])?(.+?)"
    "(?:[-_. ]?(?:masks?|seg|segmentation|labels?|annotation|annotated|gt|depth|overlay|heatmap|"
    "bbox|pred|superpixels)(?:[-_ ]?[0-9]+)?)?",
    re.I,
)
# What Roboflow and common scripts make of the name of an image that they augment.
VERSION = re.compile(
    r"(?:(?:aug|augmented|flipped|mirrored|rotated)[-_ ]|.+_original_)?(.+?)"
    r"(\.rf\.\w++|\.\w+_[0-9a-f]{8}-[-0-9a-f]+"
    r"|[-_ ](new|horizontal|vertical)?[-_ ]?(\d+deg|rot(ated?|\d++)"
    r"|[hv]?flip(ped)?([-_ ]?[hv](?!flip)|LR|UD|TB)?|mirror(ed)?|aug(mented)?|edited"
    r"|bright(er|ness)?|zoom(ed)?|blur(red)?|noisy|noise)+([-_ ]?\d+)?)*",
    re.I,
)
# How the frames of a video are numbered.
FRAME = re.compile(r"(.*?)[-_ ]*frame[-_ ]*\d+", re.I)


def _stem(pattern, name):
    """Returns the first group of a pattern that a name matches, or else the name."""
    found = pattern.fullmatch(name)
    return found[1] if found else name


def _are_classes(names):
    return f"{shown(names)} {'is a class' if len(names) == 1 else 'are classes'} here"


def _words(name):
    """Returns the words of a name, without its numbers, in lower case."""
    return [word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_A-Za-z]+", name)]


def _split_word(word):
    """Returns a word without what may follow the name of a split (trainset, testdata)."""
    return re.sub("(set|data)$", "", word)


def splits_of(names):
    """Returns those of the names that are names of splits, each with its split.

    Among a name's words a split counts only if there are names of several splits, one of them for
    training: `test_tube` may be a class.
    """
    exact, by_words = {}, {}
    for name in names:
        meant = {SPLIT_OF[word] for word in map(_split_word, _words(name)) if word in SPLIT_OF}
        if name.casefold() in SPLIT_OF:
            exact[name] = SPLIT_OF[name.casefold()]
        if len(meant) == 1:
            by_words[name] = meant.pop()
    meant = set(by_words.values())
    return by_words | exact if "train" in meant and len(meant) > 1 else exact


def like_splits(names, splits):
    """Returns a line on classes that are named like splits.

    That is by such a word alone (test_set), or beside a name that they share (my_train, my_test;
    cat_val, cat).
    """
    words = {name: tuple(_words(name)) for name in names}
    rest = {
        name: tuple(word for word in own if _split_word(word) not in SPLIT_OF)
        for name, own in words.items()
    }
    of_splits = Counter(rest[name] for name in splits)
    classes = {*words.values()}
    alike = [
        name
        for name, own in rest.items()
        if own != words[name]
        and ({*own} <= {"set", "data", "images"} or own in classes or of_splits[own] > 1)
    ]
    if not alike:
        return []
    they_hold = "it holds" if len(alike) == 1 else "they hold"
    return [f"{_are_classes(alike)}, as {they_hold} images, not folders of classes"]


def is_annotated(name):
    """Says whether a name is one of `ANNOTATED`, perhaps with a split's or a piece's (train_masks)."""
    parts = {*SPLIT_OF, *PIECES, *ABBREVIATED}
    rest = "".join(word for word in _words(name) if word not in parts)
    return name.casefold() in ANNOTATED or rest in ANNOTATED


def _annotates(name):
    """Says whether a name has a word of `ANNOTATING`, as DUTS-TR-Mask has."""
    words = _words(name)
    return bool(ANNOTATING & {*words, *map("".join, itertools.pairwise(words))})


def _without_annotating(name):
    return tuple(word for word in _words(name) if word not in ANNOTATING)


def is_kind(name):
    """Says whether a folder is named as if it held the images of another one in another form."""
    return bool({*_words(name)} & (KINDS | ANNOTATED | ANNOTATING))


def is_piece(name):
    """Says whether a folder is named like a piece of one set that is no split."""
    return bool({*_words(name)} & PIECES or EXPORTED.fullmatch(name))


def _pieces(names):
    """Returns lines on names of classes that look like those of pieces of one set, or of one class."""
    alike = {}
    for name in names:
        words = _words(re.sub("[-_ ][A-Za-z]$", "", name))  # a letter may stand for a number
        alike.setdefault(tuple(words), []).append(name)
    pieces = [
        name
        for words, own in alike.items()
        if len(own) > 1 and {*words} & (PIECES | ANNOTATED)
        for name in own
    ]
    if all(map(EXPORTED.fullmatch, names)):
        pieces = names
    notes = [
        f"{name} and {first} are classes here: if they are one class, merge them, leaving out edited copies"
        for name in names
        if (first := _stem(SECOND, name)) != name and first in names
    ]
    if unsorted := [name for name in names if "".join(_words(name)) in UNSORTED]:
        its = "its" if len(unsorted) == 1 else "their"
        notes.append(f"{_are_classes(unsorted)}: if not intended, move {its} images elsewhere")
    if pieces:
        notes.append(
            f"{_are_classes(pieces)}: if they are parts of one set, sort its images into a folder for "
            "each class"
        )
    return notes


def suspects(entries):
    """Returns lines on what is named like masks or other annotations, not like images of a class."""
    annotated = [_stem(ANNOTATION, entry.path.stem) for entry in entries]
    stems = {}
    for entry, stem in zip(entries, annotated, strict=True):
        stems.setdefault(entry.class_name, set()).add(stem)
    notes = _pieces(sorted(stems))
    # Where there is no_mask or without_mask, mask or with_mask is a class.
    joined = {name: AFFIRMATION.sub("", "".join(_words(name))) for name in sorted(stems)}
    denied = {NEGATION.sub("", word) for word in joined.values() if NEGATION.match(word)}
    names = [name for name, word in joined.items() if NEGATION.sub("", word) not in denied]
    annotating = {name for name in names if _annotates(name)}
    others = {_without_annotating(name) for name in stems.keys() - annotating}
    # Names that other classes have in common are numbers that each class begins anew.
    counts = Counter(stem for name in stems.keys() - annotating for stem in stems[name])
    originals = {stem for stem, count in counts.items() if count == 1}
    if classes := [
        name
        for name in names
        if is_annotated(name)
        or (
            name in annotating
            and (
                _without_annotating(name) in others
                or 2 * len(stems[name] & originals) > len(stems[name])
            )
        )
    ]:
        its = "its" if len(classes) == 1 else "their"
        notes.append(
            f"{_are_classes(classes)}: if {its} images annotate others, move them elsewhere"
        )
    beside = {(entry.path.parent, entry.path.stem) for entry in entries}
    masks = [
        entry.path
        for entry, stem in zip(entries, annotated, strict=True)
        if stem != entry.path.stem and (entry.path.parent, stem) in beside
    ]
    if masks:
        notes.append(
            f"{counted(len(masks), 'image')} named like an annotation of another image: {shown(masks)}; "
            "move annotations elsewhere"
        )
    return notes + _of_one_name(entries)


def _of_one_name(entries):
    """Returns a line on images whose names differ in their suffixes alone, if most in a class do."""
    suffixes = {}
    for entry in entries:
        place = entry.class_name, entry.path.with_suffix("")
        suffixes.setdefault(place, set()).add(entry.path.suffix)
    pairs = Counter(name for (name, _), own in suffixes.items() if len(own) > 1)
    images_of = Counter(entry.class_name for entry in entries)
    alike = [name for name in sorted(pairs) if 4 * pairs[name] > images_of[name]]
    if not alike:
        return []
    return [
        f"in {shown(alike)}, many files come in pairs whose names differ in the suffix alone: if one of "
        "each pair annotates the other, move the annotations elsewhere"
    ]


def _kind(name, version):
    """Returns what a name says of a version, without its number.

    Without the plain image, car_mirror_1 and car_mirror_2 may show two mirrors; car_aug_1 and car_aug_2
    are versions of one image all the same, but 2019_aug_1 and "trip Aug 1" are days of August.
    """
    if re.search("_aug|augmented", version, re.I) and not re.search(r"(19|20)\d\d$", name):
        return version
    return re.sub(r"(?<!rot)(?<!\d)\d+$", "", version)


def versions(found, rows):
    """Returns lines on augmented versions of an image, by their names, that stand in two splits."""
    by_name = {}
    for split in ("test", "validation", "train"):
        for i in rows[split].tolist():
            stem = Path(found.title(i)).stem
            name = _stem(VERSION, stem)
            version = stem.replace(name, "", 1)
            by_name.setdefault((found.labels[i], name), []).append((split, version, i))
    versions = []
    for (_, name), images in by_name.items():
        own = {version for _, version, _ in images}
        # A name that is in two splits says that each split numbers its own.
        numbered = len({(split, version) for split, version, _ in images}) > len(own)
        kinds = {_kind(name, version) for version in own}
        if not numbered and len(kinds) > 1:
            (first, _, original), *others = sorted(images, key=lambda image: image[1])
            versions += [(i, original) for split, _, i in others if split != first]
    pairs = [f"{found.title(i)} of {found.title(first)}" for i, first in versions]
    what = "an augmented version of an image", "augmented versions of an image"
    return _leaks(pairs, what, "augment training images only")


def frames(found, rows):
    """Returns lines on frames of one video, by their names, that stand in two splits."""
    videos = {}
    for split in SPLITS:
        for i in rows[split].tolist():
            path = Path(found.title(i))
            # Without a name of the video, each split that is the user's own numbers its frames.
            if (frame := FRAME.fullmatch(path.stem)) and (frame[1] or found.given[i] is None):
                videos.setdefault((found.labels[i], frame[1]), []).append((split, i))
    cut = [
        found.title(i)
        for (first, _), *others in videos.values()
        for split, i in others
        if split != first
    ]
    what = "a frame of a video", "frames of a video"
    return _leaks(cut, what, "keep all frames of a video in one split")


def _leaks(names, what, advice):
    """Returns a line on images that, by their names, belong to others in another split, if any.

    `what` says, of one image and of several, what they look like.
    """
    if not names:
        return []
    look, like = ("looks", what[0]) if len(names) == 1 else ("look", what[1])
    return [
        f"{counted(len(names), 'image')} that {look}, by name, like {like} in another split: "
        f"{shown(names)}; if so, accuracies are too high: {advice}"
    ]


def mirrored(class_names: Sequence[str], named: bool) -> list[str]:
    """Says which classes may be mixed up, or lost, where training mirrors images.

    Args:
        class_names: Names of the classes.
        named: Whether the user gave them; else numbers stand for the classes, whatever they are.
    """
    by_name = {name.lower(): name for name in class_names}
    for name in by_name:
        other = name.replace("left", "\0").replace("right", "left").replace("\0", "right")
        if other != name and other in by_name:
            return [
                f"training mirrors images: if {by_name[name]} and {by_name[other]} are mirror images "
                "of each other, add --no-mirror"
            ]
    if named and all(name.isdecimal() or len(name) == 1 for name in by_name):
        return [
            "training mirrors images: if the classes are digits, letters or signs, which mean "
            "something else in a mirror, add --no-mirror"
        ]
    return []
