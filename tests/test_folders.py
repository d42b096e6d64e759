"""A reader's own images, a folder a class."""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import IMAGES, ROOT, TINY, WEIGHTS
from PIL import Image

import data
from transfer import folders, images
from transfer.settings import Config, follow


def noise(count, seed=0, shape=(24, 20, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype("uint8")


def put(folder, pictures, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03}.{suffix}")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for seed, name in enumerate(("ant", "bee", "cat fish", "größe")):
        put(tmp_path / "images" / name, noise(20, seed))
    return tmp_path / "images"


def test_a_folder_a_class_is_split_by_the_seed_each_class_for_itself(root):
    dataset = data.load(str(root), image_size=32)
    assert dataset.class_names == ("ant", "bee", "cat fish", "größe")
    assert [len(split.images) for split in dataset[:3]] == [64, 8, 8]
    for split, each in zip(dataset[:3], (16, 2, 2), strict=True):
        assert np.bincount(split.labels).tolist() == [each] * 4
        assert split.images.shape[1:] == (20, 20, 3)  # the largest square, not enlarged
    files = [row["file"] for part in dataset.files.values() for row in part]
    assert len(set(files)) == 80
    again = data.load(str(root), image_size=32)
    assert again.files == dataset.files and again.fingerprint == dataset.fingerprint
    other = data.load(str(root), image_size=32, seed=1)
    assert other.files != dataset.files and other.fingerprint == dataset.fingerprint


def test_pixels_are_the_middle_square(root):
    dataset = data.load(str(root), image_size=32)
    for split, rows in zip(dataset[:3], dataset.files.values(), strict=True):
        for image, label, row in zip(*split, rows, strict=True):
            whole = np.asarray(Image.open(root / row["file"]))
            np.testing.assert_array_equal(image, whole[2:22])
            assert row["file"].split("/")[0] == dataset.class_names[label]


def test_predict_sees_the_pixels_that_were_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    # So large that a JPEG could be decoded at a fraction of its size.
    for seed, name in enumerate(("ant", "bee")):
        put(tmp_path / "images" / name, noise(3, seed, (300, 400, 3)), "jpg")
    dataset = data.load(str(tmp_path / "images"), image_size=32)
    for split, rows in zip(dataset[:3], dataset.files.values(), strict=True):
        for image, row in zip(split.images, rows, strict=True):
            seen = images.read(tmp_path / "images" / row["file"], 32, enlarge=True)
            np.testing.assert_array_equal(seen, image)


def test_a_class_of_copies_is_refused_and_they_are_named(root):
    shutil.copytree(root / "ant", root / "copy")
    with pytest.raises(
        ValueError, match="copy has 0 distinct .* left out: 20 duplicates: copy/000"
    ):
        data.load(str(root), image_size=32)


def test_a_home_that_cant_be_made_is_named(root, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", __file__)
    with pytest.raises(OSError, match="images can't be made .*: set KERAS_HOME to another folder"):
        data.load(str(root), image_size=32)


def test_images_of_other_sizes_are_shrunk_or_enlarged_to_one(root):
    put(root / "dog", noise(10, 9, (200, 90, 3)), "jpg")
    put(root / "eel", noise(10, 10, (9, 9, 3)))
    assert data.load(str(root), image_size=48).train.images.shape[1:] == (48, 48, 3)


def test_one_large_image_does_not_enlarge_all_others(root):
    before = data.load(str(root)).train.images.shape
    Image.fromarray(noise(1, 7, (400, 400, 3))[0]).save(root / "ant" / "large.png")
    assert data.load(str(root)).train.images.shape[1:] == before[1:]


def test_splits_are_mapped_whatever_their_side(tmp_path, monkeypatch):
    """TensorFlow copies memory that is not aligned."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for split in ("train", "val", "test"):
        for number, name in enumerate("ab"):
            seed = 10 * number + len(split)
            put(tmp_path / "images" / split / name, noise(3, seed, (50, 50, 3)))
    dataset = data.load(str(tmp_path / "images"))
    for split in dataset[:3]:
        assert isinstance(split.images, np.memmap) and split.images.ctypes.data % 64 == 0


def test_decoded_images_of_another_user_are_read(root, tmp_path, monkeypatch):
    decoded = data.load(str(root)).train.images
    temporary, access, make = tmp_path / "temporary", os.access, tempfile.TemporaryFile
    temporary.mkdir()
    made = []

    def only_read(path, mode):
        return access(path, mode) and not (mode == os.W_OK and "images" in Path(path).name)

    def recorded(dir):
        made.append(dir)
        return make(dir=dir)

    monkeypatch.setattr(os, "access", only_read)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(temporary))
    monkeypatch.setattr(tempfile, "TemporaryFile", recorded)
    np.testing.assert_array_equal(data.load(str(root)).train.images, decoded)
    assert set(made) == {temporary}


def test_what_could_not_be_read_is_named_and_tried_again(root, monkeypatch):
    broken, decode = ["000.png", "001.png"], images.decode

    def failing(path):
        if path.parent.name == "ant" and path.name in broken:
            raise OSError(f"{path} can't be read: the disk")
        return decode(path)

    monkeypatch.setattr(images, "decode", failing)
    for _ in range(2):
        (note, *_) = data.load(str(root), on_bad_image="skip").notes
        assert note == "left out: 2 images that can't be read: ant/000.png, ant/001.png"
    with pytest.raises(ValueError, match="2 images that can't be read"):
        data.load(str(root))
    broken.clear()
    assert data.load(str(root), on_bad_image="skip").notes == ()


def test_images_of_several_pages_are_named(root):
    first, *others = map(Image.fromarray, noise(3, 9))
    first.save(root / "bee" / "pages.tif", save_all=True, append_images=others)
    (note,) = data.load(str(root)).notes
    assert note == (
        "1 image of several pages or frames, of which only the first is used: bee/pages.tif"
    )


def test_decoded_images_that_disappear_are_one_line(root, monkeypatch):
    monkeypatch.setattr(folders, "_read", lambda path: None)
    with pytest.raises(OSError, match="removed or changed"):
        data.load(str(root))


def test_a_split_of_the_readers_own(root, tmp_path):
    home = tmp_path / "split"
    for seed, part in enumerate(("train", "validation", "test")):
        for number, name in enumerate("ab"):
            put(home / part / name, noise(12 - 4 * seed, 10 * seed + number))
    dataset = data.load(str(home), image_size=32)
    assert [len(split.images) for split in dataset[:3]] == [24, 16, 8]
    assert all(row["file"].startswith("test/") for row in dataset.files["test"])


def test_a_duplicate_across_splits_is_kept_in_one_only(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    pictures = noise(30)
    root = tmp_path / "images"
    for number, name in enumerate("ab"):
        own = pictures[15 * number :]
        put(root / "train" / name, own[:8])
        put(root / "validation" / name, own[7:11])
        put(root / "test" / name, own[10:14])
    dataset = data.load(str(root), image_size=32)
    assert [len(split.images) for split in dataset[:3]] == [14, 6, 8]
    assert any("left out: 2 duplicates of train: train/a/007.png" in note for note in dataset.notes)


def test_copies_in_one_split_count_once_and_contradictions_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    root = tmp_path / "images"
    for seed, name in enumerate("ab"):
        for part, split in enumerate(("train", "validation", "test")):
            put(root / split / name, noise(4, 10 * seed + part))
    for place in ("train/a/copy.png", "train/b/copy.png", "test/b/copy.png"):
        first = "test/b/000.png" if place.startswith("test") else "train/a/000.png"
        (root / place).write_bytes((root / first).read_bytes())
    dataset = data.load(str(root), image_size=32)
    assert [len(split.images) for split in dataset[:3]] == [8, 8, 8]
    notes = "\n".join(dataset.notes)
    assert "left out: 1 duplicate of test: test/b/copy.png is test/b/000.png" in notes
    assert "left out: 2 duplicates of train: train/a/copy.png is train/a/000.png" in notes
    assert "in two classes: 1 image" in notes and "train/b/copy.png and train/a/000.png" in notes


def photographs(count, seed):
    """Smooth images, as photographs are and noise is not, 64 pixels a side."""
    for pixels in np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), "uint8"):
        yield Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)


def test_copies_in_another_size_or_quality_are_named_and_dropped_if_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    root = tmp_path / "images"
    for seed, name in enumerate("ab"):
        for folder in ("train", "validation", "test"):
            (root / folder / name).mkdir(parents=True)
        for number, image in enumerate(photographs(24, seed)):
            split = ("train", "train", "validation", "test")[number % 4]
            image.save(root / split / name / f"{number}.png")
            if number == 0:
                image.resize((48, 48)).save(root / "validation" / name / "small.png")
            if number == 2:
                image.save(root / "test" / name / "poor.jpg", quality=50)
    dataset = data.load(str(root), image_size=64)
    assert [len(split.images) for split in dataset[:3]] == [24, 14, 14]
    note = "2 images of train that look like one of validation or test, see --near-duplicates drop"
    assert any(f"{note}: train/a/0.png is like validation/a/small.png" in n for n in dataset.notes)
    note = "2 images of validation that look like one of test, see"
    assert any(
        note in n and "validation/a/2.png is like test/a/poor.jpg" in n for n in dataset.notes
    )
    dropped = data.load(str(root), image_size=64, near_duplicates="drop")
    assert [len(split.images) for split in dropped[:3]] == [22, 12, 14]
    assert any("left out: 2 images of train that look like" in n for n in dropped.notes)
    assert dropped.fingerprint == dataset.fingerprint
    for path in (root / "train" / "b").iterdir():
        if path.name != "0.png":
            path.unlink()
    with pytest.raises(ValueError, match="class b has 0 images left for training without near"):
        data.load(str(root), image_size=64, near_duplicates="drop")
    assert not any("of two classes" in note for note in dataset.notes)
    (root / "validation" / "a" / "small.png").rename(root / "validation" / "b" / "other.png")
    assert any("of two classes" in note for note in data.load(str(root), image_size=64).notes)


def test_of_a_subset_only_the_copies_that_are_used_are_named(tmp_path, monkeypatch, script):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    root = tmp_path / "images"
    for seed, name in enumerate("ab"):
        for folder in ("train", "validation", "test"):
            (root / folder / name).mkdir(parents=True)
        for number, image in enumerate(photographs(8, seed)):
            if number < 3:
                image.save(root / "validation" / name / f"{number}.png")
                continue
            image.save(root / "train" / name / f"{number}_flip.png")
            image.resize((48, 48)).save(root / "test" / name / f"{number}.png")
    for amount, count in ((1, 2), (3, 6)):
        notes = data.load(str(root), image_size=64, images_per_class=amount).notes
        assert any(f"{count} images of train that look like one of" in note for note in notes)
        assert any(f"{count} images that look, by name, like aug" in note for note in notes)
    sweep = ("sweep.py", "--data", root, "--weights", "drawn", "--list", "--images-per-class")
    result = script(*sweep, 1, 3, 2)
    assert result.status == 0 and "6 images of train that look like one of" in result.out


def test_things_that_differ_only_in_colour_are_no_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for place, name in enumerate(("red", "green", "blue")):
        swatches = np.zeros((12, 8, 8, 3), "uint8")
        swatches[..., place] = 100 + 10 * np.arange(12)[:, None, None]
        put(tmp_path / "images" / name, swatches)
    dropped = data.load(str(tmp_path / "images"), near_duplicates="drop")
    assert [len(split.images) for split in dropped[:3]] == [30, 3, 3]
    assert not any("look" in note for note in dropped.notes)


def test_near_duplicates_leave_every_seed_and_fold_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for seed, name in enumerate("ab"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number, image in enumerate(photographs(20, seed)):
            image.save(tmp_path / "images" / name / f"{number}.png")
            if number < 8:
                image.resize((48, 48)).save(tmp_path / "images" / name / f"{number}-small.png")

    def chosen(**how):
        dataset = data.load(str(tmp_path / "images"), near_duplicates="drop", **how)
        return len(dataset.train.labels), follow(Config("frozen"), dataset)

    for some in (
        [chosen(seed=seed) for seed in range(3)],
        [chosen(folds=3, fold=fold) for fold in (1, 2, 3)],
    ):
        images, settings = zip(*some, strict=True)
        assert len(set(images)) > 1, images
        assert len(set(settings)) == 1, settings


def test_few_images_and_imbalance_are_named(root):
    put(root / "rare", noise(4, 99))
    notes = data.load(str(root), image_size=32).notes
    assert any("fewer than 10 images: rare (4)" in note for note in notes)
    assert any("20 images, the smallest 4" in note for note in notes)


def test_a_bad_image_stops_or_is_skipped(root, capfd):
    (root / "ant" / "bad.jpg").write_text("no picture")
    (root / "bee" / "empty.png").touch()
    with pytest.raises(ValueError, match=r"2 images that can't be read.*--on-bad-image skip"):
        data.load(str(root), image_size=32)
    complaints = capfd.readouterr().err
    assert "bad.jpg is not an image" in complaints and "empty.png is empty" in complaints
    dataset = data.load(str(root), image_size=32, on_bad_image="skip")
    assert sum(len(split.images) for split in dataset[:3]) == 80
    assert any("2 images that can't be read" in note for note in dataset.notes)


def test_why_an_image_cant_be_read_is_said_each_time(root, script, tmp_path):
    (root / "ant" / "bad.jpg").write_text("no picture")
    arguments = (root, "--output", tmp_path / "preview.png", "--on-bad-image", "skip")
    for _ in range(2):
        result = script("data.py", *arguments)
        assert result.status == 0 and "bad.jpg is not an image" in result.err


def test_images_that_are_all_dark_are_said(tmp_path, monkeypatch, script, one_line):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for seed, name in enumerate("ab"):
        put(tmp_path / "masks" / name, noise(9, seed, (8, 8)) % 2)
        put(tmp_path / "dark" / name, noise(9, seed, (8, 8)) % 16)
    words = (
        "masks has only the values 0 and 1: expected 0 (black) to 255 (white); multiply them by 255"
    )
    for _ in range(2):
        one_line(script("data.py", tmp_path / "masks"), words)
        assert any("no value is above 15" in note for note in data.load(tmp_path / "dark").notes)
    put(tmp_path / "dark" / "a", noise(1, shape=(8, 8)))
    words = "all images of b are dark: no value is above 15, where white is 255"
    assert words in data.load(tmp_path / "dark").notes
    hot = noise(1, 1, (20, 20))[0] % 16
    hot[3, 4] = 255
    Image.fromarray(hot).save(tmp_path / "dark" / "b" / "hot.png")
    words = "all images of b are dark: hardly any value is above 15, where white is 255"
    assert words in data.load(tmp_path / "dark").notes
    put(tmp_path / "dark" / "b", noise(1, 1, (8, 8)))
    assert not any("are dark" in note for note in data.load(tmp_path / "dark").notes)


def test_images_that_are_mostly_cut_off_are_said(root):
    words = (
        "80 images more than twice as wide as high, or as high as wide: only the largest central"
    )
    for seed, folder in enumerate(sorted(root.iterdir())):
        put(folder, noise(20, 10 + seed, (20, 41, 3)))
    assert any(note.startswith(words) for note in data.load(str(root)).notes)
    for seed, folder in enumerate(sorted(root.iterdir())):
        put(folder, noise(10, 20 + seed, (20, 40, 3)))
    assert not any("central square" in note for note in data.load(str(root)).notes)


def test_a_bad_image_that_is_skipped_does_not_decide_on_the_size(root):
    put(root / "ant" / "large", noise(1, 9, (500, 500, 3)), "jpg")
    large = root / "ant" / "large" / "000.jpg"
    for number in range(10):  # a tenth of all
        (root / "ant" / f"cut{number}.jpg").write_bytes(large.read_bytes()[:9000])
    shutil.rmtree(large.parent)
    dataset = data.load(str(root), image_size=288, on_bad_image="skip")
    assert dataset.train.images.shape[1:] == (20, 20, 3)
    assert dataset.train.images.std() > 10


def test_links_out_of_the_folder_are_not_followed(root, tmp_path):
    put(tmp_path / "secret", noise(10, 77))
    (root / "linked").symlink_to(tmp_path / "secret")
    (root / "ant" / "link.png").symlink_to(tmp_path / "secret" / "000.png")
    dataset = data.load(str(root), image_size=32)
    assert "linked" not in dataset.class_names
    assert sum(len(split.images) for split in dataset[:3]) == 80


def test_a_damaged_cache_is_made_again(root, tmp_path):
    expected = data.load(str(root), image_size=32)
    pixels = np.array(expected.train.images)
    (path,) = (tmp_path / "home" / "images").glob("*.bin")
    path.unlink()  # not written over, as what was loaded before may be mapped from it
    path.write_bytes(bytes(80 * 20 * 20 * 3))
    np.testing.assert_array_equal(data.load(str(root), image_size=32).train.images, pixels)


@pytest.mark.parametrize(
    "names, words",
    [
        ((), "no images"),
        (("one",), "only the class 'one'"),
        (("Cat", "cat"), "Cat and cat differ only in case"),
        (("new\nline", "b"), "can't be printed"),
    ],
)
def test_folders_that_are_no_classes(names, words, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (tmp_path / "images" / "empty").mkdir(parents=True)
    for name in names:
        put(tmp_path / "images" / name, noise(10))
    with pytest.raises(ValueError) as refused:
        data.load(str(tmp_path / "images"), image_size=32)
    assert words in str(refused.value)


def test_a_folder_that_changes_meanwhile_is_refused(root, monkeypatch):
    from transfer import folders

    decode = folders._decode

    def decode_and_change(*arguments):
        put(root / "ant", noise(21, 5))
        return decode(*arguments)

    monkeypatch.setattr(folders, "_decode", decode_and_change)
    with pytest.raises(ValueError, match="changed while it was read"):
        data.load(str(root), image_size=32)


def test_trains_compares_and_looks(root, script, tmp_path):
    arguments = (
        "--weights",
        "none",
        "--image-size",
        "32",
        "--epochs",
        "2",
        "--logs",
        tmp_path / "logs",
    )
    put(root / "rare", noise(5, 8))
    result = script("train_frozen.py", "--data", root, *arguments, "--class-weights", "balanced")
    assert result.status == 0, result.err
    assert "note        classes with fewer than 10 images: rare (5)" in result.out
    (split,) = (tmp_path / "logs").glob("*/*/split.json")
    rows = json.loads(split.read_text())
    assert set(rows) == {"train", "validation", "test"} and rows["train"][0]["sha256"]
    result = script("compare.py", "--logs", tmp_path / "logs")
    assert result.status == 0, result.err
    assert "Test accuracy" in result.out
    result = script("data.py", root, "--output", tmp_path / "preview.png")
    assert result.status == 0, result.err


@pytest.mark.real
@pytest.mark.slow
def test_features_of_one_seeds_split_are_not_anothers(root, script, tmp_path, monkeypatch):
    def figures(seed, logs):
        arguments = (
            "--weights",
            WEIGHTS,
            "--image-size",
            "32",
            "--epochs",
            "2",
            "--logs",
            tmp_path / logs,
        )
        result = script("train_frozen.py", "--data", root, *arguments, "--seed", seed)
        assert result.status == 0, result.err
        return result.out.splitlines()[-3:]

    figures(0, "logs")
    after_another = figures(1, "logs")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "another"))
    assert figures(1, "alone") == after_another


@pytest.mark.slow
def test_class_weights_count_each_class_alike_in_the_head_and_after(root, script, monkeypatch):
    put(root / "ant", noise(60, 9))
    used, fit = [], keras.Model.fit

    def noted(self, *arguments, class_weight=None, **settings):
        used.append(class_weight)
        return fit(self, *arguments, class_weight=class_weight, **settings)

    monkeypatch.setattr(keras.Model, "fit", noted)
    arguments = ("--data", root, *TINY[2:-1], "1", "--logs", root.parent / "logs")
    assert script("train_last_fire.py", *arguments).status == 0
    assert used == [None, None]
    arguments += ("--class-weights", "balanced")
    assert script("train_last_fire.py", *arguments).status == 0
    counts = [48, 16, 16, 16]
    expected = {label: pytest.approx(24 / count) for label, count in enumerate(counts)}
    assert used[2:] == [expected, expected]


@pytest.mark.slow
def test_a_run_knows_its_folder_from_any_working_directory(root, script, monkeypatch):
    monkeypatch.chdir(root.parent)
    arguments = ("--weights", "none", "--image-size", 32, "--epochs", 1, "--name", "run")
    assert script("train_frozen.py", "--data", "images", *arguments).status == 0
    (root.parent / "elsewhere").mkdir()
    monkeypatch.chdir(root.parent / "elsewhere")
    for named in ("images/", str(root), "../images"):
        result = script("compare.py", "--logs", root.parent / "logs", "--data", named)
        assert result.status == 0, result.err
        assert "Test accuracy" in result.out
    folder = root.parent / "logs" / "frozen" / "run"
    resumed = ("--resume", folder, "--epochs", 2, "--data", "../images")
    assert script("train_frozen.py", *resumed).status == 0


def test_make_takes_a_folder_with_a_space_and_a_quote():
    command = ["make", "--dry-run", "compare", "DATA=my friend's images", "LOGS=my logs"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [shlex.split(line) for line in lines.splitlines() if ".py" in line]
    assert len(lines) == 4
    for *_, script, logs_flag, logs, data_flag, folder in lines[:3]:
        assert script.startswith("train_")
        assert (logs_flag, logs, data_flag, folder) == (
            "--logs",
            "my logs",
            "--data",
            "my friend's images",
        )
    assert lines[3][-2:] == ["--logs", "my logs"]


@pytest.mark.real
def test_png_files_of_an_npz_have_its_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    with np.load(IMAGES) as file:
        arrays = {name: file[name][: 250 if "train" in name else 50] for name in file.files}
    np.savez(tmp_path / "few.npz", **arrays)
    dataset = data.load(str(tmp_path / "few.npz"))
    # As the npz has it: what trains or validates is one part, of which the seed makes two.
    for part, split in zip(("train", "train", "test"), dataset[:3], strict=True):
        for image, label in zip(*split, strict=True):
            folder = tmp_path / "images" / part / dataset.class_names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{len(list(folder.iterdir()))}.png")
    found = data.load(str(tmp_path / "images"))
    assert found.fingerprint == dataset.fingerprint
    assert found.order["test"] != found.order["train"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(root):
    (root / "ant" / "000.png").chmod(0)
    with pytest.raises(ValueError, match="can't be read"):
        data.load(str(root), image_size=32)
