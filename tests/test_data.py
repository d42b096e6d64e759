"""Every source gives the same three splits, whole and disjoint, or a reason why not."""

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT

import data
from transfer import run


def images(count, shape=(8, 8, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype="uint8")


@pytest.fixture
def npz(tmp_path):
    """Writes an npz of 50 training and 10 test images in 5 classes, with arrays exchanged."""

    def write(**changes):
        arrays = {
            "x_train": images(50),
            "y_train": np.arange(50) % 5,
            "x_test": images(10, seed=1),
            "y_test": np.arange(10) % 5,
        } | changes
        path = tmp_path / "images.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        return path

    return write


def test_splits_are_in_file_order_and_disjoint(npz):
    dataset = data.load(str(npz()))
    np.testing.assert_array_equal(dataset.train.images, images(50)[:40])
    np.testing.assert_array_equal(dataset.validation.images, images(50)[40:])
    np.testing.assert_array_equal(dataset.test.images, images(10, seed=1))
    np.testing.assert_array_equal(dataset.train.labels, np.arange(40) % 5)
    assert dataset.class_names == ("0", "1", "2", "3", "4")


def test_a_last_fifth_of_mostly_one_class_is_not_the_validation_set(npz):
    random = np.random.default_rng(0)
    last = random.permutation(np.arange(200) >= 20)
    labels = np.concatenate([random.permutation(np.arange(800) % 2), last.astype(int)])
    path = npz(x_train=images(1000), y_train=labels, y_test=np.arange(10) % 2)
    dataset = data.load(str(path))
    assert np.bincount(dataset.validation.labels).tolist() == [84, 116]
    assert any("far more or fewer of one" in note for note in dataset.notes)
    shuffled = data.load(
        str(npz(x_train=images(1000), y_train=random.permutation(labels), y_test=np.arange(10) % 2))
    )
    np.testing.assert_array_equal(shuffled.validation.images, images(1000)[800:])


def test_of_an_npz_that_is_not_square_the_middle_is_seen(npz):
    wide, tall = images(50, (8, 12, 3)), images(10, (12, 8, 3), seed=1)
    dataset = data.load(str(npz(x_train=wide, x_test=wide[:10])))
    np.testing.assert_array_equal(dataset.train.images, wide[:40, :, 2:10])
    np.testing.assert_array_equal(dataset.test.images, wide[:10, :, 2:10])
    assert any("12 x 8: only the largest central square" in note for note in dataset.notes)
    dataset = data.load(str(npz(x_train=np.repeat(tall, 5, axis=0), x_test=tall)))
    np.testing.assert_array_equal(dataset.test.images, tall[:, 2:10])


def test_arrays_of_an_npz_that_are_not_used_are_named(npz):
    assert data.load(str(npz())).notes == ()
    dataset = data.load(str(npz(x_val=images(10), y_val=np.arange(10), class_names=list("abcde"))))
    assert dataset.notes == ("left out: 2 arrays: x_val, y_val",)


def test_an_npz_without_images_for_test_is_split_by_the_seed(npz):
    path = npz(x_test=None, y_test=None)
    first, same, other = (data.load(str(path), seed=seed) for seed in (0, 0, 1))
    for split, each in zip(first[:3], (8, 1, 1), strict=True):
        assert np.bincount(split.labels).tolist() == [each] * 5
    drawn = np.concatenate([split.images for split in first[:3]])
    assert {*map(bytes, drawn)} == {*map(bytes, images(50))}
    assert first.order == same.order != other.order
    (note,) = first.notes
    assert "no x_test: a tenth of the images, drawn by the seed, is held out for test" in note
    with pytest.raises(ValueError, match="class 4 has 2 .* expected 3 or more of each class"):
        data.load(str(npz(x_test=None, y_test=None, y_train=np.minimum(np.arange(50) // 12, 4))))


def test_an_npz_whose_beginning_is_not_its_own_is_read_or_named_in_one_line(npz, script, one_line):
    path = npz()
    content, before = path.read_bytes(), io.BytesIO()
    path.write_bytes(b"\0" * 4 + content[4:])
    one_line(script("data.py", path), f"{path}: x_train is damaged")
    np.save(before, np.arange(3))
    path.write_bytes(before.getvalue() + content)
    assert len(data.load(str(path)).train.images) == 40


def test_a_single_image_is_singular(npz, script, one_line, tmp_path):
    single = {"x_test": images(1, seed=1), "y_test": np.zeros(1, int)}
    path = npz(**single)
    assert "test        1 image\n" in script("data.py", path, "--output", tmp_path / "a.png").out
    assert "validation, 1 test image, sha256" in run.describe(data.load(str(path)))
    few = npz(x_train=images(1), y_train=np.zeros(1, int), **single)
    one_line(
        script("data.py", few, "--output", tmp_path / "b.png"), "x_train has 1 image: expected 5"
    )


def test_imbalance_of_an_npz_is_named(npz):
    labels = np.array(([0, 1, 2, 3] * 6 + [4]) * 2)
    (note,) = data.load(str(npz(y_train=labels))).notes
    assert "largest class has 10 training images, the smallest 1" in note
    few = data.load(str(npz(y_train=labels)), images_per_class=1).notes
    assert not any("largest class" in note for note in few)


def test_small_classes_of_an_npz_are_named(npz):
    (note,) = data.load(str(npz(x_train=images(25), y_train=np.arange(25) % 5))).notes
    assert note.startswith("classes with fewer than 10 images: 0 (5), 1 (5)")


def test_an_image_of_an_npz_that_is_in_two_classes_is_named(npz):
    x_train = images(50)
    x_train[1], x_train[45] = x_train[0], x_train[2]
    notes = data.load(str(npz(x_train=x_train))).notes
    twice = "in two classes: 2 images, both of which are used: x_train[1] and x_train[0], "
    assert any(note.startswith(twice) for note in notes), notes


def test_cifar10_is_split_as_in_the_report(monkeypatch):
    import keras

    x, y = np.arange(60_000, dtype="uint16"), np.arange(60_000) % 10
    x = np.stack([x >> 8, x & 255, x * 0], axis=-1).astype("uint8")
    x = np.broadcast_to(x[:, None, None], (60_000, 2, 2, 3))
    whole = (x[:50_000], y[:50_000, None]), (x[50_000:], y[50_000:, None])
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: whole)
    dataset = data.load("cifar10")
    for split, first, last in zip(
        dataset[:3], (0, 40_000, 50_000), (40_000, 50_000, 60_000), strict=True
    ):
        np.testing.assert_array_equal(split.images, x[first:last])
        np.testing.assert_array_equal(split.labels, y[first:last])
    assert dataset.class_names[0] == "airplane"


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1)])
def test_grey_images_become_rgb(npz, shape):
    dataset = data.load(str(npz(x_train=images(50, shape), x_test=images(10, shape))))
    assert dataset.train.images.shape == (40, 9, 9, 3)
    assert (dataset.train.images == dataset.train.images[..., :1]).all()


def test_a_test_split_may_be_small(npz):
    labels = np.array([4, 3])
    dataset = data.load(str(npz(x_test=images(2, seed=1), y_test=labels)))
    np.testing.assert_array_equal(dataset.test.labels, labels)


@pytest.mark.parametrize(
    "names",
    [
        ["a\nb", "c", "d", "e", "f"], ["a", "a", "c", "d", "e"], ["a", "a ", "c", "d", "e"],
        ["", "b", "c", "d", "e"],
    ],
)  # fmt: skip
def test_class_names_that_cant_be_shown_or_told_apart_are_refused(npz, names):
    with pytest.raises(ValueError, match="class_names should be printable and different"):
        data.load(str(npz(class_names=np.array(names))))


def test_a_dollar_in_a_name_is_drawn(npz, script, tmp_path):
    path = npz(class_names=np.array(["$_$", "b", "c", "d", "e"]))
    result = script("data.py", path, "--output", tmp_path / "preview.png")
    assert result.status == 0, result.err
    assert "5: $_$, b, c, d, e" in result.out


def test_class_names_of_an_npz(npz):
    assert data.load(str(npz(class_names=np.array(list("abcde"))))).class_names == tuple("abcde")


def test_fingerprint_is_of_pixels_and_labels(npz):
    first = data.load(str(npz())).fingerprint
    assert (
        data.load(str(npz(y_train=(np.arange(50) % 5).astype("uint8")[:, None]))).fingerprint
        == first
    )
    changed = images(10, seed=1)
    changed[-1, -1, -1, -1] ^= 1
    assert data.load(str(npz(x_test=changed))).fingerprint != first
    assert data.load(str(npz(y_test=np.arange(10) % 4))).fingerprint != first


def test_fingerprint_is_of_what_was_found_before_it_is_divided(npz):
    path = str(npz())
    whole = data.load(path)
    order = np.random.default_rng(0).permutation(50)
    moved = data.load(str(npz(x_train=images(50)[order], y_train=(np.arange(50) % 5)[order])))
    assert moved.fingerprint == whole.fingerprint and moved.order["train"] != whole.order["train"]
    npz()
    few = data.load(path, images_per_class=3)
    fold = data.load(path, folds=5, fold=2, seed=3)
    assert whole.fingerprint == few.fingerprint == fold.fingerprint
    assert set(whole.order) == {"train", "validation", "test"}
    assert few.order["train"] != whole.order["train"]
    assert few.order["validation"] == whole.order["validation"]
    assert few.order["test"] == whole.order["test"] == fold.order["test"]


def numbers(split):
    """Which of the 50 training images these are."""
    known = {image.tobytes(): i for i, image in enumerate(images(50))}
    return [known[image.tobytes()] for image in split.images]


def test_fewer_images_of_each_class(npz):
    path, seen = str(npz()), {}
    for count in (1, 3, 8):
        dataset = data.load(path, seed=1, images_per_class=count)
        assert np.bincount(dataset.train.labels).tolist() == [count] * 5
        assert [len(split.images) for split in dataset[1:3]] == [10, 10]
        seen[count] = numbers(dataset.train)
        assert seen[count] == sorted(seen[count]) and max(seen[count]) < 40
    assert set(seen[1]) < set(seen[3]) < set(seen[8])
    assert numbers(data.load(path, seed=2, images_per_class=3).train) != seen[3]


def test_folds_validate_on_each_image_once(npz):
    path, seen = str(npz()), []
    for fold in range(1, 5):
        dataset = data.load(path, folds=4, fold=fold)
        validation = numbers(dataset.validation)
        assert sorted(validation + numbers(dataset.train)) == list(range(50))
        np.testing.assert_array_equal(dataset.validation.labels, np.array(validation) % 5)
        assert np.ptp(np.bincount(dataset.validation.labels)) <= 1
        assert len(validation) in (12, 13)
        few = data.load(path, folds=4, fold=fold, images_per_class=2)
        assert numbers(few.validation) == validation and set(numbers(few.train)) < set(
            numbers(dataset.train)
        )
        seen += validation
    assert sorted(seen) == list(range(50))
    assert numbers(data.load(path, folds=4, fold=1, seed=1).validation) != seen[:13]


def test_identical_images_are_in_one_fold(npz):
    x = images(50)
    x[5:15] = x[20]
    path = str(npz(x_train=x, y_train=np.arange(50) % 5))
    for fold in (1, 2, 3):
        dataset = data.load(path, folds=3, fold=fold)
        train, validation = ({image.tobytes() for image in split.images} for split in dataset[:2])
        assert not train & validation and len(train) + len(validation) == 40
        assert "left out: 10 duplicates: x_train[6] is x_train[5]" in dataset.notes[0]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"images_per_class": -1}, "images per class: expected 1 or more.*Received: -1"),
        (
            {"images_per_class": 9},
            "the class 0 has 8 distinct images for training: expected 9 or more",
        ),
        ({"folds": 1, "fold": 1}, "folds: expected 2 or more.*Received: 1"),
        ({"folds": -2}, "folds: expected 2 or more.*Received: -2"),
        ({"folds": 3}, "fold: expected 1 to 3.*Received: 0"),
        ({"folds": 3, "fold": 4}, "fold: expected 1 to 3.*Received: 4"),
        ({"fold": 1}, "fold: expected --folds.*Received: 1"),
        ({"folds": 11, "fold": 1}, "the class 0 has 10 distinct images .* expected 11 or more"),
        (
            {"folds": 2, "fold": 1, "images_per_class": 6},
            "has 5 distinct images for training: expected 6",
        ),
    ],
)
def test_refuses_folds_and_amounts_that_cant_be(npz, asked, reason):
    with pytest.raises(ValueError, match=reason):
        data.load(str(npz()), **asked)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_npz_sorted_by_class_validates_on_every_class(npz, seed):
    dataset = data.load(str(npz(y_train=np.arange(50) // 10)), seed=seed)
    for split, each in zip(dataset[:2], (8, 2), strict=True):
        assert np.bincount(split.labels).tolist() == [each] * 5
    assert "a fifth of each class is held out for validation" in dataset.notes[0]
    assert sorted(numbers(dataset.train) + numbers(dataset.validation)) == list(range(50))
    with pytest.raises(ValueError, match="class 4 has 1 distinct readable image"):
        data.load(str(npz(y_train=np.minimum(np.arange(50) // 10, 3) + (np.arange(50) == 49))))


def test_images_of_an_npz_in_two_splits_are_named(npz):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), "uint8")
    images[45] = images[50] = images[0]
    path = npz(x_train=images[:50], x_test=images[50:], y_train=np.arange(50) % 5)
    notes = data.load(str(path)).notes
    assert "also in test: 1 image of validation: x_train[45] is x_test[0]" in notes
    assert any(note.startswith("also in validation or test: 1 image of train") for note in notes)


def test_a_folder_of_the_name_of_a_source_is_mentioned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    assert any("shapes is also a folder here" in note for note in data.load("shapes").notes)


def test_an_output_that_cant_be_written_is_refused_first(command, one_line, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none" / "x.png", tmp_path / "pipe"):
        one_line(command("data.py", "shapes", "--output", path), str(path), "name of a file")
    assert (tmp_path / "pipe").is_fifo()


def test_a_first_look_is_a_png(script, one_line, tmp_path):
    one_line(script("data.py", "shapes", "--output", tmp_path / "look.jpg"), "should be a PNG")


def test_a_link_is_followed_to_what_is_written(script, tmp_path):
    (tmp_path / "link.png").symlink_to("preview.png")
    result = script("data.py", "shapes", "--output", tmp_path / "link.png")
    assert result.status == 0, result.err
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "preview.png").exists()


def test_nothing_reads_what_is_printed(tmp_path):
    path = tmp_path / "preview.png"
    code = (
        f"import sys; sys.stdout = None; import data; data.main(['shapes', '--output', '{path}'])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert path.exists()


def test_shapes_are_the_same_every_time():
    first, second = data.load("shapes"), data.load("shapes")
    assert first.fingerprint == second.fingerprint
    assert len(first.class_names) == 10
    assert [len(split.images) for split in first[:3]] == [2000, 500, 500]
    assert "drawn" in first.description
    for split in first[:3]:
        assert split.images.dtype == np.uint8
        assert (np.bincount(split.labels, minlength=10) > 0).all()
    pixels = [image.tobytes() for split in first[:3] for image in split.images]
    assert len(set(pixels)) == len(pixels)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"y_test": None}, "has no array y_test"),
        (
            {"x_train": None, "train_images": images(50)},
            "has no array x_train: expected x_train, .* Received: y_train, x_test, y_test, train_im",
        ),
        ({"x_train": images(50).astype("float32")}, "x_train should be uint8"),
        ({"x_train": images(50, (8,))}, "x_train should be uint8 images of shape"),
        ({"x_train": images(50, (8, 8, 4))}, "x_train should be uint8 images of shape"),
        ({"x_train": images(0), "y_train": np.arange(0)}, "x_train has no images"),
        ({"x_train": images(50, (0, 8, 3))}, "x_train has no images or no pixels"),
        ({"x_train": images(4), "y_train": np.arange(4)}, "expected 5 or more"),
        ({"y_train": np.arange(49) % 5}, "y_train should be 50 whole numbers"),
        ({"y_train": np.arange(50) % 5 + 0.5}, "y_train should be 50 whole numbers"),
        ({"y_train": np.arange(50) % 5 - 1}, "y_train should be class numbers from 0 up"),
        ({"y_train": np.arange(50) % 5 + 10**9}, "y_train should be class numbers from 0 up"),
        ({"y_train": np.arange(50) % 5 * 2}, "no image of class 1"),
        ({"y_train": np.zeros(50, int)}, "one class only"),
        ({"y_test": np.arange(10)}, "y_test has class 9"),
        ({"y_test": np.full(10, 2**64 - 1, "u8")}, "y_test should be class numbers from 0 up"),
        ({"x_train": images(50) & 1}, "x_train has only the values 0 and 1"),
        ({"x_train": images(50) & 15}, "x_train has only the values 0 to 15"),
        ({"x_test": images(10, (9, 9, 3))}, "expected the same size"),
        ({"y_train": np.array([{}] * 50)}, "pickled"),
        ({"class_names": np.array(["a", "b"])}, "class_names should be 5 strings"),
    ],
)
def test_refuses_an_npz_that_is_not_as_it_should_be(npz, changes, reason):
    with pytest.raises(ValueError, match=reason):
        data.load(str(npz(**changes)))


@pytest.mark.parametrize("name", ["x_train", "class_names"])
def test_a_member_of_an_npz_that_is_no_array_is_named(script, one_line, npz, name):
    path = npz(**{name: None})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", "text")
    one_line(script("data.py", path), f"{name} is not an array: expected what numpy.savez writes")


def test_a_member_of_an_npz_that_cant_be_decompressed_is_damaged(script, one_line, npz):
    path = npz(x_train=None)
    array = io.BytesIO()
    np.save(array, images(50))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", array.getvalue(), zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    start = content.index(b"x_train.npy") + 100
    content[start : start + 1000] = b"\xff" * 1000
    path.write_bytes(content)
    one_line(script("data.py", path), "x_train is damaged (")


def test_memory_that_is_short_is_no_damage(script, one_line, npz, monkeypatch):
    path = npz(x_train=None)
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**15, 8, 8, 3)}
    with zipfile.ZipFile(path, "a") as archive, archive.open("x_train.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    one_line(script("data.py", path), "x_train is damaged (Unable to allocate")

    def fails(*_, **__):
        raise MemoryError("Unable to allocate 305 MiB")

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", fails)
    one_line(script("data.py", npz()), "memory ran out")


def test_refuses_what_is_no_npz(tmp_path, npz):
    (tmp_path / "text.npz").write_text("not one")
    with pytest.raises(ValueError, match=r"text.npz is not an .npz file"):
        data.load(str(tmp_path / "text.npz"))
    whole = npz().read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut short"):
        data.load(str(tmp_path / "short.npz"))
    (tmp_path / "flipped.npz").write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    with pytest.raises(ValueError, match="damaged"):
        data.load(str(tmp_path / "flipped.npz"))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.load(str(tmp_path / "nowhere.npz"))
    with pytest.raises(ValueError, match="unknown data"):
        data.load("cifar11")


def test_a_first_look(script, tmp_path):
    from PIL import Image

    picture = tmp_path / "preview.png"
    result = script("data.py", "shapes", "--output", picture)
    assert result.status == 0, result.err
    for words in ("train       2,000 images", "validation  500", "test        500", "disc, ring"):
        assert words in result.out
    assert min(Image.open(picture).size) > 800


def test_a_first_look_that_cant_be_had(script, one_line, tmp_path):
    one_line(script("data.py", "nonsense"), "unknown data 'nonsense'")
    one_line(script("data.py", "shapes", "--output", tmp_path / "no" / "preview.png"), "no")
    assert not list(tmp_path.iterdir())


def test_features_of_validation_are_those_of_every_amount(npz, monkeypatch, tmp_path):
    import keras

    from transfer import features
    from transfer.batches import Batches

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    image = keras.Input((8, 8, 3))
    prefix = keras.Model(image, [keras.layers.GlobalAveragePooling2D()(image)])

    def markers(images_per_class):
        dataset = data.load(str(npz()), images_per_class=images_per_class)
        cache = features.Cache(prefix, dataset)
        batches = Batches(dataset.validation, 5)
        return [cache._marker((split, batches)) for split in ("train", "validation", "test")]

    whole, few = markers(0), markers(2)
    assert whole[0] != few[0]
    assert whole[1:] == few[1:]
    assert whole[1] != whole[2]
