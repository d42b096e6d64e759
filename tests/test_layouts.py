"""Folders as people have them: each layout is read as meant, or refused in a line that names it."""

import io
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_images import png16

import data
from transfer import layouts, plots
from transfer.run import notes

EXAMPLES = int(os.environ.get("LAYOUTS", "60"))


def png(number):
    pixels = np.frombuffer(number.to_bytes(48, "little"), "u1").reshape(4, 4, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


PNGS = [png(number) for number in range(1200)]


class Maker:
    """Writes trees of images, each of them another one."""

    def __init__(self, root):
        self.root, self.images = root, iter(PNGS)

    def put(self, folder, count=10, name="{}.png"):
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (self.root / folder / name.format(number)).write_bytes(next(self.images))

    def file(self, name, content=b"text"):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)

    def sizes(self, **arguments):
        dataset = self.load(**arguments)
        return [len(split.images) for split in dataset[:3]]

    def load(self, **arguments):
        return data.load(str(self.root), **arguments)

    def refuses(self, *words, **arguments):
        with pytest.raises((ValueError, OSError)) as refused:
            self.load(**arguments)
        message = str(refused.value)
        assert "\n" not in message and self.root.name in message, message
        for word in words:
            assert word in message, message


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (tmp_path / "images").mkdir()
    return Maker(tmp_path / "images")


def has(dataset, *words):
    assert any(all(word in note for word in words) for note in dataset.notes), dataset.notes


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("Training", "VALID", "Testing"),
        ("TRAIN", "val", "eval"),
        ("training", "Dev", "evaluation"),
        ("TRAIN", "Valid", "TeSTing"),
    ],
)
def test_names_of_splits(tree, names):
    for name, count in zip(names, (5, 3, 2), strict=True):
        for class_name in "ab":
            tree.put(f"{name}/{class_name}", count)
    dataset = tree.load()
    assert [len(split.images) for split in dataset[:3]] == [10, 6, 4]
    assert dataset.class_names == ("a", "b")
    for name, rows in zip(names, dataset.files.values(), strict=True):
        assert all(row["file"].startswith(f"{name}/") for row in rows)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train2017", "val2017", "test2017"),
        ("seg_train/seg_train", "seg-val/seg-val", "seg_test"),
        ("training_set", "validation set", "TestSet"),
        ("trainset", "Valset", "TEST_images"),
        ("traindata/images", "valdata/images", "testdata"),
    ],
)
def test_names_of_splits_among_other_words(tree, train, validation, test):
    for name, count in ((train, 5), (validation, 3), (test, 2)):
        for class_name in ("cat", "dog"):
            tree.put(f"{name}/{class_name}", count)
    dataset = tree.load()
    assert [len(split.images) for split in dataset[:3]] == [10, 6, 4]
    assert dataset.class_names == ("cat", "dog")
    has(dataset, "taken as splits", f"{train.split('/')[0]} as train")
    assert any(f"{train}/ is used" in note for note in dataset.notes) == ("/" in train)


def test_images_held_out_for_validation_are_not_those_for_test(tree):
    for name in ("train/a", "train/b", "val/a", "val/b"):
        tree.put(name)
    validation = tree.load()
    (tree.root / "val").rename(tree.root / "test")
    assert tree.load().fingerprint != validation.fingerprint


def test_a_word_among_others_may_be_a_class(tree):
    for name in ("test_tube", "test_strip", "flask"):
        tree.put(name)
    assert tree.load().class_names == ("flask", "test_strip", "test_tube")
    shutil.rmtree(tree.root / "flask")
    assert tree.load().class_names == ("test_strip", "test_tube")


def test_what_lies_beside_an_inner_folder_is_not_lost(tree):
    for name in ("train/train/a", "train/train/b", "test/a", "test/b"):
        tree.put(name)
    tree.put("train", 1, "x{}.png")
    tree.refuses("train/train has folders with images in it, a, b")
    (tree.root / "train/x0.png").unlink()
    assert tree.sizes() == [18, 2, 20]


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        (
            "animals",
            "if these are the classes, move them up into train, do the same in each split, and rename",
        ),
        (
            "images",
            "if these are the classes, move the images that are in none of them elsewhere: train/x0.png",
        ),
    ],
)
def test_advice_on_one_split_does_not_lose_the_others(tree, script, one_line, folder, words):
    for split in ("train", "test"):
        tree.put(f"{split}/{folder}/a")
        tree.put(f"{split}/{folder}/b")
        if folder == "animals":
            tree.put(f"{split}/vehicles/c")
    if folder == "images":
        tree.put("train", 1, "x{}.png")
    result = script("data.py", tree.root)
    one_line(result, words)
    assert "--data" not in result.err


@pytest.mark.parametrize(
    ("names", "sizes", "missing"),
    [
        (("train", "val"), [36, 20, 4], "test"),
        (("train", "test"), [36, 4, 20], "validation"),
        (("train",), [32, 4, 4], "test"),
        (("train",), [32, 4, 4], "validation"),
    ],
)
def test_splits_that_are_missing_are_drawn(tree, names, sizes, missing):
    for name in names:
        for class_name in "ab":
            tree.put(f"{name}/{class_name}", 20 if name == "train" else 10)
    dataset = tree.load()
    assert [len(split.images) for split in dataset[:3]] == sizes
    has(dataset, f"no {missing} folder", "a tenth", "seed")
    own = {row["file"] for row in dataset.files["train"] + dataset.files[missing]}
    assert all(name.startswith("train/") for name in own)
    other = tree.load(seed=1)
    assert other.files != dataset.files and other.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 25])
def test_every_class_is_in_every_drawn_split(tree, count):
    tree.put("a", count)
    tree.put("b", 30)
    counts = [np.bincount(split.labels, minlength=2)[0] for split in tree.load()[:3]]
    assert min(counts) >= 1 and sum(counts) == count
    if count >= 10:
        assert np.cumsum(counts).tolist() == np.round(np.array([0.8, 0.9, 1]) * count).tolist()


def test_the_split_of_a_seed_is_that_of_earlier_versions(tree):
    tree.put("a", 10)
    tree.put("b", 12)
    random = np.random.default_rng(3)
    first, second = random.permutation(10), random.permutation(np.arange(10, 22))
    names = [f"a/{i}.png" for i in sorted(range(10), key=str)]
    names += [f"b/{i}.png" for i in sorted(range(12), key=str)]
    expected = [names[i] for i in [*sorted(first[8:9]), *sorted(second[10:11])]]
    assert [row["file"] for row in tree.load(seed=3).files["validation"]] == expected


def test_a_class_of_few_images_is_refused_before_decoding(tree, monkeypatch, tmp_path):
    tree.put("a", 10)
    tree.put("rare", 2)
    tree.refuses(
        "class rare has 2 images", "3 or more", "one for training, one for validation, one for test"
    )
    assert not (tmp_path / "home" / "images").exists()
    shutil.rmtree(tree.root / "rare")
    for name in ("train/a", "test/a", "test/b"):
        tree.put(name)
    tree.put("train/b", 1)
    shutil.rmtree(tree.root / "a")
    tree.refuses(
        "class b has 1 image: expected 2 or more of each class, one for training, one for validation"
    )


def test_ten_thousand_classes_of_one_image(tree, tmp_path):
    for number in range(10_000):
        tree.file(f"{number:05}/1.jpg", b"")
    tree.refuses("class 00000 has 1 image (and 9,999 more classes", "3 or more")
    assert not (tmp_path / "home" / "images").exists()


def test_an_archives_folder_is_entered(tree):
    for name in ("cats", "dogs"):
        tree.put(f"download/pets-v2/{name}")
    tree.put("__MACOSX/download/pets-v2/cats")
    tree.put(".git/objects")
    (tree.root / "docs").mkdir()
    tree.put("", 1, "cover{}.jpg")
    dataset = tree.load()
    has(dataset, "download/pets-v2/ is used")
    has(dataset, "left out: 1 image directly in", "in no class", "cover0.jpg")
    assert dataset.class_names == ("cats", "dogs")
    assert all(row["file"].startswith("download/pets-v2/") for row in dataset.files["test"])


def test_an_archive_of_splits_is_entered(tree):
    for part in ("train", "val"):
        for name in ("ants", "bees"):
            tree.put(f"hymenoptera/{part}/{name}")
    assert tree.sizes() == [18, 20, 2]


def test_one_class_is_no_archive(tree):
    tree.put("cats")
    tree.refuses("only the class 'cats'")
    tree.put("cats/siamese")
    tree.refuses("cats has folders with images in it, siamese")


def test_nested_classes_are_refused(tree):
    tree.put("dogs")
    tree.put("cats/siamese")
    tree.put("cats/tabby")
    tree.refuses("cats has folders with images in it, siamese, tabby")
    for name in ("cats", "dogs"):
        shutil.rmtree(tree.root / name)
    tree.put("train/a")
    tree.put("train/b/c")
    tree.refuses("train/b has folders with images in it, c", "move its images up into it")
    tree.put("train/b/d")
    tree.refuses("train/b has folders with images in it", f"use --data {tree.root / 'train/b'}")
    tree.put("train/b/e f/c")
    tree.put("train/b/e f/d")
    tree.root = tree.root / "train/b"
    tree.refuses("e f has folders", f"use --data '{tree.root / 'e f'}'")
    tree.root = tree.root.parent.parent
    shutil.rmtree(tree.root / "train")
    for name in ("a/train", "a/val", "b/train"):
        tree.put(name)
    tree.refuses("put the splits outside the classes")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (["val/a", "val/b", "test/a", "test/b"], ["has test, val, but no images to train on"]),
        (["train/a", "train/b", "Training/a"], ["Training, train", "name the train split"]),
        (["train/a", "train/b", "val/a", "dev/a"], ["dev, val", "name the validation split"]),
        (
            ["train/a", "train/b", "val/a", "cats"],
            ["train, val beside cats", "splits only or classes"],
        ),
        (["train/a", "train/b", "val/c"], ["class c is in validation", "no image to train on"]),
        (["train/a", "train/b", "test"], ["test has images, but no folder of them"]),
        (["train", "test"], ["train has images, but no folder of them"]),
        (["train2017", "val2017"], ["train2017 has images, but no folder of them"]),
        (["trainA", "trainB", "testA"], ["trainA, trainB", "name the train split"]),
        (["train/a", "train/b", "test/test"], ["test/test has images, but no folder of them"]),
        (["toy train", "test tube"], ["toy train has images, but no folder", "rename it"]),
        (["trn/a", "trn/b", "tst/a", "tst/b"], ["trn has folders", "name them train and test"]),
        (
            ["seg_train/a", "seg_train/b", "seg_test/a", "seg_pred"],
            ["seg_test, seg_train beside seg_pred", "splits only or classes"],
        ),
        (
            ["a/c", "a/d", "b/c", "b/d"],
            ["if the classes are a, b, put all images of each directly into"],
        ),
        (["d/train/a", "d/train/b", "d/test/a", "assets"], ["to train on d alone, use --data "]),
        (
            ["train/a", "train/b", "test/hot dog", "train/hot_dog"],
            ["hot dog (in test) and hot_dog"],
        ),
        (
            ["ds/ds/train/a", "ds/ds/train/b", "ds/test/a"],
            [
                "if all are splits of one set, move ds/ds/train up beside test; otherwise move one or"
            ],
        ),
        (
            [f"fold{fold}/{name}" for fold in "12345" for name in "ab"],
            ["are parts of one set, merge them into one folder for each class, and rename images"],
        ),
        (["train/cats", "train/dogs", "val/cat"], ["if it has another name there, rename it"]),
        (
            ["trainval/a", "trainval/b", "test/a"],
            ["or rename trainval to train, validation or test if it is"],
        ),
        (
            ["cat_train", "dog_train", "cat_test"],
            ["a folder for each class in it, such as train/cat"],
        ),
        (
            ["train/a", "train/b", "test/unknown"],
            ["if its images are of unknown class, move the folder"],
        ),
        (["dev/a", "dev/b"], ["no images to train on", "or use --data ", "dev"]),
        (["train/a", "train/b", "val"], ["move the folder elsewhere if its images have no class"]),
        (
            ["val/a", "val/b", "valid/a", "train/a"],
            ["val, valid, which all name", "merge them, or"],
        ),
        (["images", "masks"], ["images, masks", "not like classes"]),
        (["train/images", "train/Labels", "val/images"], ["Labels, images", "not like classes"]),
        ([""], ["images, but no folder of them", "labels in a table or in file names"]),
        (
            ["images"],
            ["only the class 'images'", "labels in a table or in file names are not read"],
        ),
        (["train/images"], ["only the class 'images'", "labels in a table or in file names"]),
        (
            ["annotations/trimaps", "images"],
            ["annotations, images, which look like parts", "labels in a table or in file names"],
        ),
        (
            [f"{name}/{part}" for name in ("COVID", "Normal") for part in ("images", "masks")],
            ["put the images of each class directly into its folder, and masks elsewhere"],
        ),
        (
            [f"{part}/{name}" for part in ("CUB/images", "segmentations") for name in "ab"],
            ["if the classes are the folders in images, use --data ", "images/CUB/images; if the"],
        ),
        (["A", "a"], ["A and a differ only in case"]),
        (["cat", "cat "], ["cat and cat  differ only in case, in spaces"]),
        (["cat", "c\u200bat"], ["differ only in case", "in invisible characters"]),
        (["\u2764", "\u2764\ufe0f"], ["in invisible characters"]),
        (["cat", "cat\u3164"], ["in invisible characters"]),
        (["caf\u00e9", "cafe\u0301"], ["how an accent is encoded"]),
    ],
)
def test_what_cant_be_told_is_refused(tree, folders, words, tmp_path):
    for folder in folders:
        tree.put(folder)
    tree.refuses(*words)
    assert not (tmp_path / "home" / "images").exists()


def test_a_folder_of_files_of_other_kinds(tree):
    for number in range(3):
        tree.file(f"a/{number}.HEIC")
    tree.refuses(
        "no images, but 3 files of other kinds: .heic (3)",
        "convert, rename, copy or (from iCloud) download",
    )
    tree.put("a")
    tree.put("b")
    has(tree.load(), "left out: 3 files of other kinds", "3 images among them, such as a/0.HEIC")


def test_one_stray_image_beside_folders_of_other_kinds(tree):
    tree.put("", 1)
    tree.file("a/0.heic")
    tree.refuses("a has no image that can be used, only files such as 0.heic")


def test_photographs_that_icloud_has_not_downloaded(tree):
    tree.put("a")
    tree.put("b")
    tree.file("a/.1.jpg.icloud")
    has(tree.load(), ".icloud (1)", "1 image among them")
    tree.file("fox/.1.jpg.icloud")
    tree.refuses("fox has no image that can be used, only files such as .1.jpg.icloud")


@pytest.mark.parametrize("suffix", [".heic", ".dng", ".jxl", ".NEF"])
def test_photographs_that_no_system_need_know(tree, monkeypatch, suffix):
    monkeypatch.setattr("mimetypes.guess_type", lambda _: (None, None))
    tree.put("cat")
    tree.put("dog")
    tree.file(f"fox/1{suffix}")
    tree.refuses(f"fox has no image that can be used, only files such as 1{suffix}")


@pytest.mark.parametrize(
    "name",
    [
        "می\u200cخک",
        "👨\u200d👩\u200d👧",
        "東京\u3000犬",
        "hot\u00a0dog",
        "כלב\u200f",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_joiners_are_part_of_a_name(tree, name):
    tree.put(name)
    tree.put("dog")
    assert name in tree.load().class_names


@pytest.mark.parametrize("name", ["\u2003", "\u200d"])
def test_a_name_that_nobody_can_see_is_refused(tree, name):
    tree.put(name)
    tree.put("dog")
    tree.refuses(f"the class {name!r} has a name that can't be printed")


def test_a_folder_of_linked_classes_says_so(tree, tmp_path):
    for name in "ab":
        Maker(tmp_path / "elsewhere").put(name)
        tree.root.mkdir(exist_ok=True)
        (tree.root / name).symlink_to(tmp_path / "elsewhere" / name)
    tree.refuses("no images, but 2 links", "expected folders; replace each link with a copy of its")


@pytest.mark.parametrize("between", ["\n", "\x1b", "\x85", "\u2028", "\u202e", "\u2066", "\udcff"])
def test_a_name_that_does_not_stay_on_its_line_is_refused(tree, between):
    tree.put(f"a{between}b")
    tree.put("dog")
    tree.refuses(f"the class {f'a{between}b'!r} has a name that can't be printed")


def test_plots_of_this_project_are_no_images(tree):
    tree.put("cat")
    tree.put("dog")
    plots.save(
        plots.losses({"epoch": [1], "loss": [1.0], "val_loss": [1.0]}, 1),
        tree.root / "cat/plot.png",
    )
    assert sum(tree.sizes()) == 20
    has(tree.load(), "left out", "plots of this project (1)")


@pytest.mark.parametrize(
    "folders",
    [
        ["images/a", "images/b", "masks/a", "masks/b"],
        ["patient1/a", "patient1/b", "patient2/a", "patient2/b"],
        ["100APPLE/a", "100APPLE/b", "101APPLE/a", "101APPLE/b"],
        ["color/a", "color/b", "grayscale/a", "grayscale/b"],
        [f"{fold}/{name}" for fold in "1234" for name in "ab"],
    ],
)
def test_what_is_no_split_is_not_to_be_named_so(tree, folders):
    for folder in folders:
        tree.put(folder)
    with pytest.raises(ValueError, match="if these are the classes, use --data") as refused:
        tree.load()
    assert "name them train" not in str(refused.value)
    # A grey copy of each image would be in another split.
    merged = folders[0].split("/")[0] not in ("images", "color")
    assert ("merge them" in str(refused.value)) == merged


def test_folders_around_the_classes_of_a_split_are_entered(tree):
    for name in ("train/data/images/a", "train/data/images/b", "val/a", "val/b"):
        tree.put(name)
    assert tree.sizes() == [18, 20, 2]


def test_a_sweep_names_the_classes(tree, script):
    for number in range(20):
        tree.put(f"{number}")
    arguments = ("sweep.py", "--data", tree.root, "--weights", "drawn", "--list")
    assert "classes     20: 0, 1, 10, 11, 12, 13, 14" in script(*arguments).out
    tree.put("a")
    assert "classes     21: 0, 1, 10, 11, 12 and 16 more" in script(*arguments).out


def test_classes_of_few_images_to_train_on_are_named(tree):
    for name, count in (("train/a", 3), ("train/b", 40), ("test/a", 40), ("test/b", 3)):
        tree.put(name, count)
    has(tree.load(), "fewer than 10 training images: a (3)")
    has(tree.load(), "the largest class has 40 training images, the smallest 3")
    assert not any("largest class" in note for note in tree.load(images_per_class=2).notes)


def test_copies_do_not_make_a_class_larger(tree):
    tree.put("a", 3)
    tree.put("b")
    for number in range(20):
        shutil.copy(tree.root / "a/0.png", tree.root / f"a/copy-{number}.png")
    has(tree.load(), "fewer than 10 images: a (3)")


def test_two_classes_that_have_too_few(tree):
    tree.put("a", 2)
    tree.put("b", 2)
    tree.refuses("(and 1 more class has too few)")


def test_runs_do_not_go_among_the_images(tree, script, one_line):
    tree.put("a")
    tree.put("b")
    for command in ("train_full.py", "sweep.py"):
        result = script(command, "--data", tree.root, "--logs", tree.root / "a" / "runs")
        one_line(result, "in the folder of images", "choose another --logs")
    assert not (tree.root / "a" / "runs").exists()


def test_folders_without_images_count_for_nothing(tree):
    for name in ("train/a", "train/b"):
        tree.put(name)
    for name in ("val/a", "cats", "test"):
        (tree.root / name).mkdir(parents=True)
    assert tree.sizes() == [16, 2, 2]


def test_trains_may_be_a_class(tree):
    for name in ("bus", "car", "train"):
        tree.put(name)
    dataset = tree.load()
    assert dataset.class_names == ("bus", "car", "train")
    has(dataset, "train is a class here")


def test_links_inside_the_folder_are_followed(tree):
    tree.put(".store", 20)
    tree.put(".classes/b", 10)
    tree.file("a/back/.keep")
    for number in range(20):
        (tree.root / "a" / f"{number}.png").symlink_to(tree.root / ".store" / f"{number}.png")
    for number, place in enumerate(("b", "b/again", ".classes/b/up")):
        (tree.root / place).symlink_to(tree.root / ".classes" / ("b" if number < 2 else ""))
    (tree.root / ".a").symlink_to(tree.root / ".classes/b")  # hidden, so it uses nothing up
    dataset = tree.load()
    assert [len(split.images) for split in dataset[:3]] == [24, 3, 3]
    assert dataset.class_names == ("a", "b")
    has(dataset, "not followed: 2 links", "that another link leads to: b/again, b/up")


def test_a_link_to_a_class_is_no_class(tree):
    tree.put("a")
    tree.put("z")
    (tree.root / "0").symlink_to("z")
    dataset = tree.load()
    assert dataset.class_names == ("a", "z")
    has(dataset, "not followed: 1 link", "to a folder beside it", ": 0")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("docs/LICENSE", "/etc/hosts"),
        ("venv/bin/python", "/usr/bin/python3"),
        ("code/model/weights", "nowhere"),
        ("venv/lib64", "lib"),
        ("docs/up", ".."),
    ],
)
def test_links_that_stand_for_no_images_are_only_said(tree, link, target):
    tree.put("a")
    tree.put("b")
    tree.file("venv/lib/site.py")
    (tree.root / link).parent.mkdir(parents=True, exist_ok=True)
    (tree.root / link).symlink_to(target)
    dataset = tree.load()
    assert dataset.class_names == ("a", "b")
    has(dataset, "without an image: ", link.split("/")[0])
    has(dataset, "not followed: 1 link", link)


def test_a_split_whose_classes_are_links_is_refused(tree, tmp_path):
    for name in "ab":
        tree.put(f"val/{name}")
        Maker(tmp_path / "elsewhere").put(name)
        (tree.root / "train").mkdir(exist_ok=True)
        (tree.root / "train" / name).symlink_to(tmp_path / "elsewhere" / name)
    tree.refuses("train has no image that can be used, only links", "such as b: expected folders")


def test_a_link_to_what_cant_be_looked_at_is_not_followed(tree):
    tree.put("train/a")
    tree.put("train/b")
    for name, target in (("train/a/x.png", "/" + "x" * 300), ("train/b/y.png", "y" * 300)):
        (tree.root / name).symlink_to(target)
    has(tree.load(), "not followed: 2 links", "train/a/x.png, train/b/y.png")
    (tree.root / "test").symlink_to("/" + "x" * 300)
    tree.refuses("test is a link that is not followed")


def test_a_split_without_an_image_that_can_be_used_is_refused(tree):
    tree.put("train/a")
    tree.put("train/b")
    tree.file("val/a/1.heic")
    tree.refuses("val has no image that can be used, only files such as 1.heic")


def test_what_is_beside_a_folder_that_is_entered_is_not_lost(tree):
    tree.put("cat/indoor")
    tree.put("cat/outdoor")
    tree.file("dog/1.heic")
    tree.refuses("dog has no image that can be used, only files such as 1.heic")


def test_a_class_of_images_without_a_suffix_is_refused(tree):
    for name in ("a", "b", "c"):
        tree.put(name)
    for path in (tree.root / "c").iterdir():
        path.rename(path.with_suffix(""))
    tree.refuses("c has no image that can be used")
    for path in (tree.root / "c").iterdir():
        path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    tree.refuses("c has no image that can be used")


@pytest.mark.parametrize("suffix", ["bin", "com", "bak", "c", "a", "t", "me", "pl", "obj", "ps"])
def test_a_class_of_images_of_a_suffix_of_other_files_is_refused(tree, script, one_line, suffix):
    tree.put("cat")
    tree.put("dog")
    tree.put("dog", 2, f"{{}}.{suffix}")
    words = f".{suffix} (2); 2 images among them, such as dog/0.{suffix}"
    has(layouts.find(tree.root), words)
    tree.put("owl", 2, f"{{}}.{suffix}")
    one_line(script("data.py", tree.root), "owl has no image that can be used", f"1.{suffix}")


@pytest.mark.parametrize("name", ["1.txt", "1.json", "1.mp4", "1.wav", "1.log"])
def test_text_audio_and_video_are_not_opened(tree, monkeypatch, name):
    from transfer import images

    tree.put("cat")
    tree.put("dog")
    tree.file(f"notes/{name}", b"\0\0\0\x18ftypisom")
    monkeypatch.setattr(images, "_start", None)
    has(layouts.find(tree.root), "1 folder without an image: notes")


@pytest.mark.parametrize("suffix", ["tga", "dib", "J2K", "dds", "qoi", "ppm", "icns"])
def test_a_class_of_images_of_a_rare_format_is_refused(tree, suffix):
    tree.put("a")
    tree.put("b")
    tree.file(f"c/1.{suffix}")
    tree.refuses(f"c has no image that can be used, only files such as 1.{suffix}")


def test_hidden_folders_are_counted(tree):
    tree.put("a")
    tree.put("b")
    tree.put("a/.thumbnails")
    tree.put("@eaDir")
    has(tree.load(), "left out: 2 hidden folders: @eaDir, a/.thumbnails")
    tree.put("$Recycle.Bin")
    tree.put("@Recycle")
    has(tree.load(), "left out: 4 hidden folders: ")


def test_a_folder_without_images_says_what_is_hidden(tree):
    tree.put(".train/a")
    tree.file("._1.jpg")
    tree.refuses(
        "no images, but 1 hidden file named like an image: ._1.jpg and 1 hidden folder: .train"
    )


def test_folders_in_splits_are_not_said_to_be_splits(tree):
    for path in ("train/real/cat", "train/real/dog", "train/sketch/cat", "train/sketch/dog"):
        tree.put(path)
    tree.put("val/cat")
    tree.put("val/dog")
    with pytest.raises(ValueError, match="nested classes are not merged") as refused:
        tree.load()
    assert "are splits" not in str(refused.value)


def test_a_class_without_an_image_that_can_be_used_is_refused(tree, tmp_path):
    tree.put("a")
    tree.put("b")
    tree.file("notes/readme.txt")
    (tree.root / "fox/inner").mkdir(parents=True)
    dataset = tree.load()
    assert dataset.class_names == ("a", "b")
    has(dataset, "left out: 2 folders without an image: fox, notes")
    tree.file("c/1.HEIC")
    tree.refuses("c has no image that can be used, only files such as 1.HEIC", "JPEG, PNG")
    shutil.rmtree(tree.root / "c")
    (tree.root / "c").mkdir()
    (tree.root / "c/1.png").symlink_to(tmp_path / "elsewhere.png")
    tree.refuses("c has no image that can be used, only files such as 1.png", "links out")


def test_what_is_left_out_is_counted(tree, tmp_path):
    for name in "ab":
        tree.put(f"train/{name}")
        for junk in (".thumbnails", ".ipynb_checkpoints", "@eaDir", "__MACOSX"):
            tree.put(f"train/{name}/{junk}", 1)
    tree.put("train", 3, "loose{}.png")
    tree.put("", 2, "cover{}.png")
    tree.put("train/a", 1, "._{}.png")
    for name in ("notes.txt", "train/a/1.TXT", "train/b/labels.csv", "LICENSE"):
        tree.file(name)
    os.mkfifo(tree.root / "train/a/pipe.png")
    (tree.root / "elsewhere").symlink_to(tmp_path)
    (tree.root / "train/a/loop.png").symlink_to("loop.png")
    dataset = tree.load()
    assert [len(split.images) for split in dataset[:3]] == [16, 2, 2]
    has(dataset, "left out: 2 images directly in", "in no class", "cover0.png, cover1.png")
    has(dataset, "3 images directly in", "train", "loose0.png, loose1.png, loose2.png")
    has(dataset, "left out: 5 files of other kinds: .txt (2)", ".csv (1)", "no suffix (1)")
    has(dataset, "not followed: 2 links out", "train/a/loop.png", "elsewhere")
    has(dataset, "left out: 1 hidden file named like an image", "._0.png")


def test_a_class_that_a_split_lacks_is_named(tree):
    for name in ("train/a", "train/b", "val/a", "val/b", "test/a"):
        tree.put(name)
    has(tree.load(), "test has no image of these classes: b")


def test_names_that_no_terminal_takes(tree):
    tree.put("a", 10, "{}\x1b[2J\udcff.png")
    tree.put("b", 10)
    tree.put("", 1, "{}\nloose\udcff.png")
    dataset = tree.load()
    for note in dataset.notes:
        assert note.isprintable()
        note.encode()
    tree.put("bad\udcff")
    tree.refuses("can't be printed")


def test_a_folder_that_cant_be_read(tree, monkeypatch):
    tree.put("a")
    tree.put("b")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    tree.refuses("images/b can't be read: Permission denied")


def test_images_of_one_plain_colour_are_said(tree):
    for name in ("a", "b"):
        tree.put(name, 10)
    for number in range(3):
        drawing = np.full((20 + number, 20, 4), 255, "u1")
        drawing[:5, :, 3] = 0
        Image.fromarray(drawing).save(tree.root / "a" / f"white-{number}.png")
    for number in range(2):  # Pillow keeps the high bytes, all of them 0
        values = np.random.default_rng(number).integers(0, 256, (30 + number, 20, 3))
        png16(tree.root / "a" / f"black-{number}.png", values)
    has(tree.load(), "images of one plain colour", "a/white-0.png", "a/black-0.png")


def test_annotations_among_the_images_are_said(tree):
    for name in ("a", "masks"):
        tree.put(name, 10)
    first = sorted((tree.root / "a").iterdir())[0]
    tree.put("other", 1)
    (copied,) = (tree.root / "other").iterdir()
    copied.rename(first.with_name(f"{first.stem}_mask.png"))
    (tree.root / "other").rmdir()
    notes = layouts.find(tree.root).notes
    assert any("masks is a class here" in note for note in notes)
    assert any("1 image named like an annotation" in note and "_mask.png" in note for note in notes)


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_masks"),
        ("images_part_1", "images_part_2"),
        ("Images", "Ground Truth"),
    ],
)
def test_images_and_annotations_by_other_names_are_refused(tree, names):
    for name in names:
        tree.put(name)
    with pytest.raises(ValueError, match="parts of a data set"):
        layouts.find(tree.root)


@pytest.mark.parametrize(
    ("folder", "suffix"),
    [("ISIC2018_Task1_Training_GroundTruth", "_segmentation"), ("DUTS-TR-Mask", "")],
)
def test_a_folder_of_masks_by_its_own_name_is_said(tree, folder, suffix):
    tree.put("photographs", 10)
    tree.put(folder, 10, f"{{}}{suffix}.png")
    assert any(f"{folder} is a class here" in note for note in layouts.find(tree.root).notes)


@pytest.mark.parametrize("other", ["", "hat"])
def test_classes_of_masks_are_classes(tree, other):
    for name in filter(None, ("with_mask", "without_mask", "beard" * bool(other), other)):
        tree.put(name)
    assert not layouts.find(tree.root).notes
    for count, name in enumerate(("Mask", "No Mask", "other", "mask_worn_badly"), 6):
        tree.put(name, count)
    assert not layouts.find(tree.root).notes


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("cat", "cat_masks", "dog", "dog_masks"), "cat_masks, dog_masks are classes here"),
        (("cat", "dog", "gt"), "gt is a class here"),
        (
            ("cat", "dog", "cat (2)"),
            "cat (2) and cat are classes here: if they are one class, merge",
        ),
        (("cat", "dog", "Copy of dog"), "Copy of dog and dog are classes here"),
        (("red", "red_aug", "green"), "red_aug and red are classes here"),
        (
            ("cat", "cat copy", "dog"),
            "cat copy and cat are classes here: if they are one class, merge",
        ),
        (("cat", "cat copy 2", "dog"), "cat copy 2 and cat are classes here"),
        (("red", "green", "unlabeled"), "unlabeled is a class here"),
        (("train/cat", "train/dog", "train/test", "val/cat"), "test is a class here, as it holds"),
        (("video_1", "video_2"), "video_1, video_2 are classes here: if they are parts of one set"),
    ],
)
def test_what_looks_like_no_class_is_said(tree, names, word):
    for name in names:
        tree.put(name)
    has(tree.load(), word)


@pytest.mark.parametrize("names", [("Ford GT", "Audi R8"), ("mask", "nomask"), ("dev", "prod")])
def test_ordinary_classes_are_not_said_to_be_none(tree, names):
    for split in ("train", "test"):
        for name in names:
            tree.put(f"{split}/{name}")
    assert not any("class here" in note for note in tree.load().notes)


@pytest.mark.parametrize("name", ["mask_{}.png", "{}Mask.png", "{}_labels.png", "{}_overlay.png"])
def test_annotations_beside_their_images_are_said(tree, name):
    for folder in "ab":
        tree.put(folder, 10, "{}.jpg")
        tree.put(folder, 10, name)
    has(tree.load(), "20 images named like an annotation of another image")


def test_images_of_one_name_are_said(tree):
    for folder in "ab":
        tree.put(folder, 10, "{}.jpg")
        tree.put(folder, 2, "{}.png")
    assert not any("suffix alone" in note for note in tree.load().notes)
    tree.put("a", 10)
    has(tree.load(), "in a, many files come in pairs whose names differ in the suffix alone")


@pytest.mark.parametrize(
    "names",
    [
        ("100APPLE", "101APPLE"),
        ("New folder", "New folder (2)"),
        ("202301__", "202312__"),
        ("images_part_1", "images_part_2", "Task3_Test_Images"),
    ],
)
def test_folders_of_cameras_and_exports_are_said(tree, names):
    for name in names:
        tree.put(name)
    has(layouts.find(tree.root), f"{names[0]}, {names[1]} are classes here")


def test_names_of_splits_among_other_words_with_another_folder_are_said(tree):
    for folder in ("my_train", "my_test", "extra"):
        tree.put(folder)
    has(tree.load(), "my_test, my_train are classes here")
    shutil.rmtree(tree.root / "my_train")
    shutil.rmtree(tree.root / "my_test")
    for folder in ("toy train", "test tube"):
        tree.put(folder)
    assert not any("classes here" in note for note in tree.load().notes)


@pytest.mark.parametrize("name", ["test_set", "cat_val", "test1"])
def test_a_split_without_one_to_train_on_is_said(tree, name):
    for folder in ("cat", "dog", name):
        tree.put(folder)
    has(tree.load(), f"{name} is a class here")


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("{}", "{}_flipLR"),
        ("{}_new30degFlipLR", "{}"),
        ("{}_jpg.rf.0a", "{}_jpg.rf.1b"),
        ("{}_90deg", "{}_180deg"),
        ("{}", "{}_hflip"),
        ("{}", "aug_{}"),
        ("flipped_{}", "{}_rot90"),
        ("{}_rot90", "{}_rot180"),
        ("{}_flip_h", "{}"),
        ("{}", "{}_horizontal_flip"),
        ("{}", "{}-edited"),
        ("a_original_{}.jpg_0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "{}"),
        ("{}_aug_0", "{}_aug_1"),
        ("{}_Augmented1", "{}_Augmented2"),
    ],
)
def test_augmented_versions_in_two_splits_are_said(tree, train, validation):
    for folder, name in (("train", train), ("val", validation)):
        for class_name in "ab":
            tree.put(f"{folder}/{class_name}", 10, f"{name}.png")
    has(tree.load(), "20 images that look, by name, like augmented versions of an image in another")


@pytest.mark.parametrize(
    ("train", "validation", "words"),
    [("x", "x_flip", "an augmented version of an image"), ("v_frame1", "v_frame2", "a frame of a")],
)
def test_a_single_image_that_is_like_another_is_said(tree, train, validation, words):
    tree.put("train/a", 1, f"{train}.png")
    tree.put("val/a", 1, f"{validation}.png")
    tree.put("test/a", 1, "another.png")
    for split in ("train", "val", "test"):
        tree.put(f"{split}/b")
    has(tree.load(), f"1 image that looks, by name, like {words}")


@pytest.mark.parametrize(
    "names",
    [
        {"train": ["{}_1"], "val": ["{}_2"]},
        {"train": ["car_mirror_00{}"], "val": ["car_mirror_10{}"]},
        {"train": ["2019-Aug-{}"], "val": ["2019-Aug-1{}"]},
        {"train": ["2019_aug_{}"], "val": ["2019_aug_1{}"]},
        {"train": ["trip Aug {}"], "val": ["trip Aug 1{}"]},
        {"train": ["{}", "{}_flip"], "val": ["{}"]},  # as advised; each split numbers its own
        {"train": ["{}_aug_0", "{}_aug_1"], "val": ["{}_aug_0"]},
    ],
)
def test_names_that_are_no_versions(tree, names):
    for split, own in names.items():
        for name in own:
            for class_name in "ab":
                tree.put(f"{split}/{class_name}", 10, f"{name}.png")
    assert not any("augmented" in note for note in tree.load().notes)


def test_a_name_of_many_versions_is_read(tree):
    """It would take years if each of its parts could be read in two ways."""
    tree.put("a")
    tree.put("b")
    tree.put("a", 1, f"IMG_flip{'_hflip' * 40}!.png")
    tree.load()


def test_frames_of_a_video_in_two_splits_are_said(tree):
    for folder in "ab":
        tree.put(folder, 10, "clip1_frame{}.png")
    has(tree.load(), "4 images that look, by name, like frames of a video in another split")
    for folder in "ab":
        shutil.rmtree(tree.root / folder)
        tree.put(f"train/{folder}", 10, "frame{}.png")
        tree.put(f"val/{folder}", 10, "frame{}.png")
        tree.put(f"test/{folder}", 10, "frame{}.png")
    assert not any("video" in note for note in tree.load().notes)
    for number in range(10):
        for folder in "ab":
            path = tree.root / f"train/{folder}/frame{number}.png"
            path.rename(path.with_name(f"clip{number // 5}_frame{number}.png"))
    assert not any("video" in note for note in tree.load().notes)


@pytest.mark.parametrize("name", ["batch_", "fold", "HAM10000_images_part_"])
def test_pieces_of_one_set_are_said(tree, name):
    for number in "12":
        tree.put(f"{name}{number}")
    assert any("if they are parts of one set" in note for note in layouts.find(tree.root).notes)


@pytest.mark.parametrize("names", [("Dataset_A", "Dataset_B"), ("Archive (1)", "Archive (2)")])
def test_pieces_by_a_letter_or_a_copy_are_said(tree, names):
    for name in names:
        tree.put(name)
    has(tree.load(), f"{', '.join(names)} are classes here: if they are parts of one set")


@pytest.mark.parametrize(
    "names", ["12", ("class1", "class2"), ("mask", "no_mask"), ("set1", "set2")]
)
def test_classes_that_are_numbered_are_classes(tree, names):
    for name in names:
        tree.put(name)
    assert not any("parts of one set" in note for note in layouts.find(tree.root).notes)


def test_a_split_that_is_a_link_out_of_the_folder_is_refused(tree, tmp_path):
    for name in ("train/a", "train/b"):
        tree.put(name)
    Maker(tmp_path / "elsewhere").put("a")
    (tree.root / "test").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="test is a link that is not followed"):
        tree.load()


def test_a_split_beside_another_that_is_a_link_out_of_the_folder_is_refused(tree, tmp_path):
    for folder in "ab":
        tree.put(f"test_set/{folder}")
    Maker(tmp_path / "elsewhere").put("a")
    (tree.root / "train.csv").symlink_to(tmp_path / "elsewhere/a/0.png")
    (tree.root / "training_set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        ValueError, match=r"training_set is a link that is not followed.*or remove it"
    ):
        tree.load()
    (tree.root / "training_set").unlink()
    assert len(tree.load().class_names) == 2


def test_a_class_that_is_a_link_out_of_the_folder_is_said(tree, tmp_path):
    for folder in "ab":
        tree.put(folder)
    Maker(tmp_path / "elsewhere").put("a")
    (tree.root / "c").symlink_to(tmp_path / "elsewhere/a")
    has(tree.load(), "no class here, as a link to a folder elsewhere is not followed: c;")


def test_folders_deeper_than_python_recurses(tree, tmp_path):
    tree.put("a")
    tree.put("b")
    before = Path.cwd()
    try:
        os.chdir(tree.root)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        os.chdir(tmp_path)
        assert tree.sizes() == [16, 2, 2]
    finally:
        os.chdir(before)
        subprocess.run(
            ["rm", "-r", tree.root / "d"], check=True
        )  # too deep for shutil, and so for pytest


def test_a_class_that_disappears_is_named(tree):
    tree.put("a")
    tree.put("b")
    for name in "0123456789":
        tree.file(f"b/{name}.png")
    tree.refuses("class b has 0 distinct readable images", on_bad_image="skip")
    for name in "0123456789":
        tree.file(f"a/{name}.png")
    tree.refuses("no image that can be read", on_bad_image="skip")
    tree.refuses("no image that can be read", on_bad_image="stop")


def test_a_class_that_is_all_duplicates_is_named(tree):
    for name in ("train/a", "val/a", "val/b", "test/a", "test/b"):
        tree.put(name, 5)
    shutil.copytree(tree.root / "test/b", tree.root / "train/b")
    tree.refuses("class b has 0 distinct readable images for training", "add images, or leave")


def test_duplicates_of_what_the_seed_divides(tree):
    tree.put("a", 12)
    tree.put("b", 12)
    for number in range(4):
        shutil.copy(tree.root / f"a/{number}.png", tree.root / f"a/copy{number}.png")
    for seed in range(3):
        dataset = tree.load(seed=seed)
        has(dataset, "left out: 4 duplicates: a/copy0.png is a/0.png")
        digests = [row["sha256"] for rows in dataset.files.values() for row in rows]
        assert len(digests) == len(set(digests)) == 24
        assert dataset.fingerprint == tree.load(seed=seed + 1).fingerprint
    before = tree.load().fingerprint
    (tree.root / "a/copy0.png").unlink()
    assert tree.load().fingerprint != before


def test_a_file_that_became_readable_is_read(tree):
    tree.put("a")
    tree.put("b")
    good, path = next(tree.images), tree.root / "a/!first.png"
    tree.file("a/!first.png", bytes(len(good)))
    assert sum(tree.sizes(on_bad_image="skip")) == 20
    tree.refuses("1 image that can't be read", on_bad_image="stop")
    dataset = tree.load(on_bad_image="skip")
    for image, row in zip(dataset.test.images, dataset.files["test"], strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(tree.root / row["file"])))
    stat = path.stat()
    path.write_bytes(good)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert sum(tree.sizes(on_bad_image="skip")) == 21


def test_images_that_can_be_read_again_are_decoded_for_each_size(tree, monkeypatch):
    from transfer import images

    decode = images.decode

    def fails(path):
        if path.name.startswith("large"):
            raise OSError("input/output error")
        return decode(path)

    for name in ("a", "b"):
        tree.put(name)
    for number in range(9):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "png")
        tree.file(f"a/large{number}.png", buffer.getvalue())
    monkeypatch.setattr(images, "decode", fails)
    assert tree.load(on_bad_image="skip", image_size=288).train.images.shape[1] == 4
    monkeypatch.setattr(images, "decode", decode)
    for size, side in ((5, 5), (288, 8)):
        dataset = tree.load(on_bad_image="skip", image_size=size)
        assert sum(len(split.images) for split in dataset[:3]) == 29
        assert dataset.train.images.shape[1] == side


def test_another_folder_of_the_same_names_is_decoded(tree, tmp_path, monkeypatch):
    from transfer import folders

    monkeypatch.setattr(folders, "_states", lambda root, entries: [])
    other = Maker(tmp_path / "others")
    other.images = tree.images
    for made in (tree, other):
        for name in "ab":
            made.put(name)
    assert tree.load().fingerprint != other.load().fingerprint


def test_another_seed_fold_or_amount_decodes_nothing_again(tree, monkeypatch):
    from transfer import folders

    for name in ("a", "b"):
        tree.put(name, 20)
    tree.sizes()
    monkeypatch.setattr(folders, "_decode", None)
    assert tree.sizes(seed=5) == [32, 4, 4]
    dataset = tree.load(folds=3, fold=2, images_per_class=4)
    assert [len(split.images) for split in dataset[:3]] == [8, 12, 4]
    for split, rows in zip(dataset[:3], dataset.files.values(), strict=True):
        for image, row in zip(split.images, rows, strict=True):
            pixels = np.asarray(Image.open(tree.root / row["file"]))
            np.testing.assert_array_equal(image, pixels)


def test_what_the_seed_draws_validation_from_is_counted(tree):
    for name in ("train/a", "train/b"):
        tree.put(name, 20)
    assert tree.load().validation_drawn_from == 40
    assert tree.load(folds=3, fold=1).validation_drawn_from == 0
    for name in ("val/a", "val/b"):
        tree.put(name)
    assert tree.load().validation_drawn_from == 0


def test_images_below_every_size_are_decoded_once(tree, monkeypatch):
    from transfer import folders

    for name in ("a", "b"):
        tree.put(name, 20)
    tree.sizes(image_size=288)
    decode = folders._decode
    monkeypatch.setattr(folders, "_decode", None)
    assert tree.load(image_size=4).train.images.shape[1] == 4
    monkeypatch.setattr(folders, "_decode", decode)
    assert tree.load(image_size=2).train.images.shape[1] == 2
    monkeypatch.setattr(folders, "_decode", None)
    assert [tree.load(image_size=size).train.images.shape[1] for size in (2, 5, 288)] == [2, 4, 4]


def test_images_are_mapped_and_not_copied_where_they_are_in_one_piece(tree, tmp_path):
    for part in ("train", "val", "test"):
        for name in "ab":
            tree.put(f"{part}/{name}", 4)
    dataset = tree.load()
    (path,) = (tmp_path / "home" / "images").glob("*.bin")
    assert [split.images.offset for split in dataset[:3]] == [0, 8 * 48, 16 * 48]
    assert all(split.images.filename == path for split in dataset[:3])
    few = tree.load(images_per_class=2, seed=1)
    assert isinstance(few.train.images, np.memmap) and few.train.images.filename is None
    for loaded in (dataset, few):
        for split, rows in zip(loaded[:3], loaded.files.values(), strict=True):
            for image, row in zip(split.images, rows, strict=True):
                pixels = np.asarray(Image.open(tree.root / row["file"]))
                np.testing.assert_array_equal(image, pixels)


def test_folds_of_a_folder(tree):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        tree.put(name)
    whole = tree.load()
    seen = Counter()
    for fold in range(1, 11):
        dataset = tree.load(folds=10, fold=fold)
        assert [len(split.images) for split in dataset[:3]] == [18, 2, 20]
        assert dataset.fingerprint == whole.fingerprint
        assert dataset.order["test"] == whole.order["test"]
        seen.update(row["file"] for row in dataset.files["validation"])
    assert len(seen) == 20 and set(seen.values()) == {1}
    assert not any("no validation folder" in note for note in dataset.notes)
    tree.refuses("class a has 10 distinct images", "expected 11", folds=11, fold=1)
    tree.put("val/a")
    words = "move its images into the training folder, and rename images of the same name"
    tree.refuses("has a validation folder of its own", words, folds=2, fold=1)


def test_a_first_look_at_a_folder(tree, script, one_line, tmp_path):
    for name in ("train/a", "train/b"):
        tree.put(name)
    arguments = ("--output", tmp_path / "preview.png", "--seed", 1)
    result = script("data.py", tree.root, *arguments)
    assert result.status == 0, result.err
    assert "note        there is no test folder: a tenth of the training images" in result.out
    drawn = (tmp_path / "preview.png").read_bytes()
    assert script("data.py", tree.root, *arguments[:2]).status == 0
    assert (tmp_path / "preview.png").read_bytes() != drawn
    one_line(script("data.py", tree.root, "--seed", -1), "--seed: expected 0 to")
    tree.file("train/a/bad.png")
    assert script("data.py", tree.root, *arguments).status == 2
    result = script("data.py", tree.root, *arguments, "--on-bad-image", "skip")
    assert result.status == 0, result.err
    assert "note        left out: 1 image that can't be read" in result.out
    tree.put("test/c")
    one_line(script("data.py", tree.root), "the class c is in test")
    one_line(script("data.py", "~nobody-of-this-name/x"), "unknown data")


SPLIT_NAMES = ("train", "TRAINING", "val", "dev", "Validation", "test", "Eval")
LIKELY = ((), ("train",), ("train", "val"), ("TRAINING", "test"), ("train", "dev", "Eval"))
CLASS_NAMES = (
    "a",
    "b",
    "Cat",
    "cat",
    "größe",
    "two words",
    "new\nline",
    "\udcff",
    "train",
    "-",
    "a.png",
)
OTHERS = (".hidden", "__MACOSX", "@eaDir", "empty", "deeper")


@st.composite
def trees(draw):
    """Draws the files of a folder: (path, kind), of likely layouts with a few things amiss."""
    odd = draw(st.integers(0, 3)) == 0
    names = st.sampled_from(CLASS_NAMES if odd else CLASS_NAMES[:3])
    classes = draw(st.lists(names, min_size=1 if odd else 2, max_size=4, unique=True))
    anyhow = st.lists(st.sampled_from(SPLIT_NAMES), max_size=4)
    parts = draw(anyhow if odd else st.sampled_from(LIKELY))
    wrapped = draw(st.sampled_from(("", "", "", "archive/", "archive/inner/")))
    files = []
    for part in [f"{part}/" for part in parts] or [""]:
        for name in classes:
            count = draw(st.sampled_from((0, 1, 2, 3, 4, 7, 12) if odd else (4, 7, 12)))
            files += [(f"{wrapped}{part}{name}/{i}.png", "image") for i in range(count)]
    folders = sorted({str(Path(path).parent) for path, _ in files} | {".", wrapped or "."})
    kinds = ("image", "copy", "bad", "text", "link", "loop", "folder", "fifo", "heic")
    for number in range(draw(st.integers(0, 4))):
        below = draw(st.sampled_from(("", "", *OTHERS, *SPLIT_NAMES[:4])))
        folder = f"{draw(st.sampled_from(folders))}/{below}"
        name = draw(
            st.sampled_from((f"x{number}.png", f".x{number}.jpg", f"\x1b\n{number}.gif", "train"))
        )
        files.append((f"{folder}/{name}", draw(st.sampled_from(kinds))))
    return files


def build(root, files):
    pngs = iter(PNGS)
    for path, kind in files:
        path = root / path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            if kind in ("image", "copy"):
                path.write_bytes(next(pngs) if kind == "image" else PNGS[0])
            elif kind == "link":
                path.symlink_to(root)
            elif kind == "loop":
                path.symlink_to(path)
            elif kind == "folder":
                path.mkdir()
            elif kind == "fifo":
                os.mkfifo(path)
            elif kind == "heic":
                path.with_suffix(".heic").write_bytes(b"text")
            else:
                path.write_bytes(b"" if kind == "bad" else b"text")
        except (FileExistsError, NotADirectoryError):
            pass  # a file has the name of one of its folders


def counted(notes, words):
    left_out = [note.split(": ")[1] for note in notes if note.startswith("left out: ")]
    found = (note for note in left_out if words in note)
    return sum(int(note.split()[0].replace(",", "")) for note in found)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    files=trees(),
    seed=st.integers(0, 3),
    skip=st.booleans(),
    amount=st.sampled_from((0, 0, 1, 5)),
    folds=st.sampled_from(((0, 0), (0, 0), (2, 1), (3, 3))),
)
def test_any_folder(files, seed, skip, amount, folds, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for made in tmp_path.iterdir():
        shutil.rmtree(made)
    root = tmp_path / "images"
    root.mkdir()
    build(root, files)
    try:
        dataset = data.load(str(root), 8, seed, "skip" if skip else "stop", amount, *folds)
    except (ValueError, OSError) as error:
        assert str(root) in str(error) and re.fullmatch(r".{20,}", str(error)), str(error)
        return
    check(root, dataset, amount)


def check(root, dataset, amount):
    rows = [row for rows in dataset.files.values() for row in rows]
    assert len({row["file"] for row in rows}) == len(rows)
    train, *others = ({row["sha256"] for row in rows} for rows in dataset.files.values())
    assert not train & (others[0] | others[1]) and not others[0] & others[1]
    assert set(dataset.train.labels) == set(range(len(dataset.class_names)))
    for (images, labels), own in zip(dataset[:3], dataset.files.values(), strict=True):
        assert len(images) == len(labels) == len(own) > 0
        assert images.dtype == np.uint8 and images.shape[1:] == (4, 4, 3)
        for image, label, row in zip(images, labels, own, strict=True):
            assert Path(row["file"]).parent.name == row["class"] == dataset.class_names[label]
            np.testing.assert_array_equal(image, np.asarray(Image.open(root / row["file"])))
    if amount:
        assert set(np.bincount(dataset.train.labels)) == {amount}
        return
    assert all(note.isprintable() for note in dataset.notes)
    ignored = {"__MACOSX", "@eaDir"}
    found = 0
    for folder, names, files in os.walk(root):
        names[:] = [n for n in names if not n.startswith(".") and n not in ignored]
        paths = [Path(folder, name) for name in files if name not in ignored]
        found += sum(
            path.suffix in (".png", ".jpg", ".gif") and path.is_file() and not path.is_symlink()
            for path in paths
        )
    left_out = ("directly in", "duplicate", "can't be read", "hidden file")
    assert found == len(rows) + sum(counted(dataset.notes, words) for words in left_out)


def test_digits_and_letters_are_not_mirrored_without_a_word(tree):
    for class_name in ("0", "1", "x"):
        tree.put(class_name)
    dataset = tree.load()
    *others, line = notes(dataset, mirror=True)
    assert "if the classes are digits, letters or signs" in line and "--no-mirror" in line
    assert tuple(others) == tuple(dataset.notes) == tuple(notes(dataset, mirror=False))
    tree.put("cat")
    dataset = tree.load()
    assert notes(dataset, mirror=True) == dataset.notes


def test_a_hidden_folder_that_links_lead_into_is_not_left_out(tree):
    tree.put(".store", 20)
    tree.put(".cache")
    for number in range(20):
        link = tree.root / ("cat" if number < 10 else "dog") / f"{number}.png"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"../.store/{number}.png")
    has(tree.load(), "left out: 1 hidden folder: .cache")
