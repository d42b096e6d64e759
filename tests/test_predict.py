"""predict.py names what is on pictures of any kind."""

import json
import os
import shutil
import struct
import zlib

import keras
import numpy as np
import pytest
from conftest import REGIMES, TINY, predicted, start
from PIL import Image, features

import predict
from transfer import images, network, settings


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")


@pytest.fixture
def model(trained):
    return trained.full.folder / "model.keras"


@pytest.fixture
def picture(pixels, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path


def test_prints_a_line_a_picture_with_the_models_own_probabilities(
    trained, script, pixels, picture
):
    run = trained.full.folder
    result = script("predict.py", picture, picture, "--run", run, "--top", 10, "--json")
    assert result.status == 0, result.err
    first, second = map(json.loads, result.out.splitlines())
    assert first["image"] == second["image"]
    for one, other in zip(first["classes"], second["classes"], strict=True):
        # A batch's first and last images may differ in the last bit.
        assert one == other | {"probability": pytest.approx(other["probability"], rel=1e-4)}
    assert first["image"] == str(picture)
    model = keras.models.load_model(run / "model.keras")
    side = trained.full.metrics["data"]["side"]
    square = Image.fromarray(pixels[:, 5:25]).resize((side, side))
    expected = model.predict(np.asarray(square)[np.newaxis], verbose=0)[0]
    found = {entry["class"]: entry["probability"] for entry in first["classes"]}
    names = trained.full.metrics["data"]["class_names"]
    np.testing.assert_allclose([found[name] for name in names], expected, rtol=1e-2, atol=1e-4)
    shown = [entry["probability"] for entry in first["classes"]]
    assert shown == sorted(shown, reverse=True)


def test_takes_the_best_finished_run(trained, script, picture):
    best = max(REGIMES, key=lambda r: getattr(trained, r).metrics["validation_accuracy"])
    runs = {regime: getattr(trained, regime).folder for regime in REGIMES}
    out = {r: script("predict.py", picture, "--run", folder).out for r, folder in runs.items()}
    result = script("predict.py", picture, "--logs", trained.logs)
    assert result.out == out[best]
    assert result.err == f"predict.py: using the model of {runs[best]}\n"
    assert script("predict.py", picture, "--model", runs[best] / "model.keras").out == out[best]
    assert len(set(out.values())) > 1


@pytest.mark.parametrize(
    ("evaluation", "precision"),
    [("plain", "float32"), ("mirrored", "float32"), ("mirrored", "mixed_bfloat16")],
)
def test_answers_as_the_run_was_evaluated(evaluation, precision, script, tmp_path):
    """Also about images that are smaller than others of the folder, and enlarged to train on."""
    random = np.random.default_rng(0)
    for name in ("left", "right"):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(12):
            side = (48, 30, 21)[number % 3]
            pixels = random.integers(0, 256, (side, side, 3), "uint8")
            Image.fromarray(pixels).save(folder / f"{number}.png")
    arguments = ("--logs", tmp_path / "logs", "--name", "tiny", "--evaluation", evaluation)
    given = ("--data", tmp_path / "images", *TINY[2:], "--image-size", 64, "--precision", precision)
    result = script("train_frozen.py", *given, *arguments)
    assert result.status == 0, result.err
    run = tmp_path / "logs" / "frozen" / "tiny"
    assert json.loads((run / "metrics.json").read_text())["data"]["side"] == 48
    files = [row["file"] for row in json.loads((run / "split.json").read_text())["validation"]]
    paths = [tmp_path / "images" / file for file in files]
    out = script("predict.py", *paths, "--run", run, "--json", "--top", 2).out
    with np.load(run / "validation.npz") as file:
        kept = file["probabilities"]
    np.testing.assert_allclose(kept.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(predicted(out), kept, atol=1e-5 if precision == "float32" else 0.01)


def test_of_equal_probabilities_the_first_counts_as_where_accuracy_is_measured(
    trained, script, picture, tmp_path
):
    run = shutil.copytree(trained.frozen.folder, tmp_path / "run")
    model = keras.models.load_model(run / "model.keras")
    logits = model.get_layer("head_logits")
    logits.set_weights([np.zeros_like(weights) for weights in logits.get_weights()])
    model.save(run / "model.keras")
    result = script("predict.py", picture, "--run", run, "--top", 3, "--json")
    names = trained.frozen.metrics["data"]["class_names"]
    assert [entry["class"] for entry in json.loads(result.out)["classes"]] == names[:3]


def test_folders_and_patterns(trained, script, picture, tmp_path):
    folder = tmp_path / "below" / "deep"
    folder.mkdir(parents=True)
    for name in ("b.png", "a.PNG", "c.txt"):
        (folder / name).write_bytes(picture.read_bytes())
    run = trained.full.folder
    (folder / "empty.png").mkdir()
    for given in (tmp_path / "below", f"{tmp_path}/bel*", f"{folder}/[ab].[pP]*"):
        lines = script("predict.py", given, "--run", run).out.splitlines()
        assert [line.split(": ")[0] for line in lines] == [f"{folder}/a.PNG", f"{folder}/b.png"]


def test_a_pattern_finds_what_is_behind_a_circular_link_once(picture, tmp_path):
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture.read_bytes())
    (folder / "up").symlink_to(tmp_path)
    assert images.find([f"{tmp_path}/**/*.png"]).count(folder / "a.png") == 1
    found = images.find([f"{folder}/**/*.png"])
    assert found == [folder / "a.png", folder / "up" / "picture.png"]


def test_a_pattern_finds_images_and_their_folders_once(picture, tmp_path):
    paths = [tmp_path / "photos" / name for name in ("a.png", "in/b.png", "in/deep/c.png")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.read_bytes())
    assert images.find([f"{tmp_path}/photos/**"]) == paths


def test_a_name_that_cant_be_looked_at_is_reported(trained, script, picture, tmp_path):
    long = tmp_path / f"{'x' * 300}.png"
    result = script("predict.py", picture, long, "--run", trained.full.folder)
    assert result.status == 1 and result.out.startswith(f"{picture}: ")
    assert "x.png can't be read: File name too long" in result.err


def smooth(height=48, width=48):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, np.full_like(rows, 90)], axis=-1).astype("uint8")


def png(width, height, pixels, depth=8):
    """Makes a PNG in RGB of a header and compressed pixels that need not fit it."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


NOTHING = zlib.compress(b"\0" * 1000)

MODES = {
    "grey.png": lambda image: image.convert("L"),
    "bits.png": lambda image: image.convert("1"),
    "palette.gif": lambda image: image.quantize(256),
    "alpha.png": lambda image: image.convert("RGBA"),
    "grey_alpha.png": lambda image: image.convert("LA"),
    "cmyk.jpg": lambda image: image.convert("CMYK"),
    "plain.jpg": lambda image: image,
    "plain.webp": lambda image: image,
    "plain.bmp": lambda image: image,
    "plain.tif": lambda image: image,
    "grey.TIFF": lambda image: image.convert("L"),
    "plain.jfif": lambda image: image,
    "plain.avif": lambda image: image,
}


@pytest.mark.parametrize("name", MODES)
def test_modes_and_formats(name, tmp_path):
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    image = MODES[name](Image.fromarray(smooth()))
    image.save(tmp_path / name)
    seen = images.read(tmp_path / name, largest=64).astype(int)
    assert seen.shape == (48, 48, 3)
    if name == "bits.png":
        assert set(np.unique(seen)) == {0, 255}
        return
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert abs(seen - expected).mean() < 6


def test_links_to_folders_are_followed_once(tmp_path):
    for name in ("in/a", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "b" / "up").symlink_to(tmp_path / "in")
    folder = tmp_path / "in"
    assert images.find([folder]) == [folder / "a" / "1.png", folder / "b" / "1.png"]


def test_sixteen_bits_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((9, 9), 257 * 100, "uint16")).save(tmp_path / "deep.png")
    assert (images.read(tmp_path / "deep.png", largest=64) == 100).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((9, 9), 4000, "uint16"), "14 of them or fewer"),
        (np.full((9, 9), 16_383, "uint16"), "14 of them or fewer"),
        (np.full((9, 9), 70_000, "int32"), "beyond those of 16 bits"),
        (np.full((9, 9), -1, "int32"), "beyond those of 16 bits"),
        (np.full((9, 9), 0.5, "float32"), "would be dark"),
        (np.full((9, 9), np.nan, "float32"), "beyond those of 16 bits"),
    ],
)
def test_values_that_are_no_brightness_are_named(values, words, tmp_path):
    Image.fromarray(values).save(tmp_path / "scan.tif")
    with pytest.raises(ValueError, match=words):
        images.read(tmp_path / "scan.tif", largest=64)


def test_fourteen_bits_of_a_colour_are_named(tmp_path):
    for value, name in ((16_383, "dark.png"), (40_000, "light.png"), (0, "black.png")):
        row = b"\0" + struct.pack(">H", value) * 3 * 8
        (tmp_path / name).write_bytes(png(8, 8, zlib.compress(row * 8), depth=16))
    with pytest.raises(ValueError, match="14 of them or fewer"):
        images.read(tmp_path / "dark.png", largest=64)
    assert (images.read(tmp_path / "light.png", largest=64) == 156).all()
    assert (images.read(tmp_path / "black.png", largest=64) == 0).all()


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (images.read(tmp_path / "clear.png", largest=64) == 255).all()


def test_exif_rotation_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(smooth()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        images.read(tmp_path / "turned.png", largest=64), np.rot90(smooth(), -1)
    )


def test_the_middle_square_is_seen_and_shrunk(tmp_path):
    wide = np.zeros((100, 400, 3), "uint8")
    wide[:, 150:250] = 200
    for name in ("wide.png", "wide.jpg"):
        Image.fromarray(wide).save(tmp_path / name, quality=95)
        seen = images.read(tmp_path / name, largest=50)
        assert seen.shape == (50, 50, 3)
        assert seen[:, 2:-2].min() > 190


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (images.read(tmp_path / "moving.gif", largest=64) == (255, 0, 0)).all()


def test_a_picture_that_cant_be_read_is_reported_and_the_rest_go_on(
    trained, script, picture, tmp_path
):
    names = ("empty.png", "cut.png", "text.jpg", "bomb.png", "area.png", "pipe.png")
    bad = {name: tmp_path / name for name in names}
    bad["empty.png"].touch()
    bad["cut.png"].write_bytes(picture.read_bytes()[:900])
    bad["text.jpg"].write_text("no picture")
    bad["bomb.png"].write_bytes(png(60_000, 10, NOTHING))
    bad["area.png"].write_bytes(png(20_000, 20_000, NOTHING))
    os.mkfifo(bad["pipe.png"])
    missing, empty = tmp_path / "missing.png", tmp_path / "empty"
    empty.mkdir()
    run, pattern = trained.full.folder, tmp_path / "no[x]*"
    result = script("predict.py", *bad.values(), missing, pattern, empty, picture, "--run", run)
    assert result.status == 1
    assert result.out.startswith(f"{picture}: ") or f"\n{picture}: " in result.out
    lines = [line for line in result.err.splitlines() if line.startswith("predict.py: ")]
    assert lines == result.err.splitlines()
    for path, words in {
        bad["empty.png"]: "is empty: expected JPEG",
        bad["cut.png"]: "is damaged",
        bad["text.jpg"]: "is not an image: expected JPEG",
        bad["bomb.png"]: "60,000 x 10 pixels",
        bad["area.png"]: "20,000 x 20,000 pixels",
        bad["pipe.png"]: "is a pipe: expected a file",
        missing: "can't be read: No such file",
        pattern: "matches no file",
        empty: "is a folder without images",
    }.items():
        assert any(f"{path} " in line and words in line for line in lines), path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_picture_without_permission(trained, script, picture):
    picture.chmod(0)
    result = script("predict.py", picture, "--run", trained.full.folder)
    assert result.status == 1 and "Permission denied" in result.err


@pytest.mark.parametrize("head", ["conv", "average", "pooled"])
def test_explains(head, trained, script, picture, tmp_path):
    given = {"weights": "none", "head": head, "image_size": 64, "dropout": 0.5}
    config = settings.Config(regime="any", **given)
    model, _ = network.build(config, classes=3)
    model.save(tmp_path / "model.keras")
    out = tmp_path / "why.png"
    result = script(
        "predict.py", picture, picture, "--model", tmp_path / "model.keras", "--explain", out
    )
    assert result.status == 0, result.err
    assert "has no metrics.json beside it" in result.err and result.err.count("\n") == 1
    assert "class " in result.out
    width, height = Image.open(out).size
    assert width > 2 * height > 400


def test_a_pipe_in_a_folder_is_reported_rather_than_waited_for(trained, script, picture, tmp_path):
    os.mkfifo(tmp_path / "a.png")
    shutil.copy(picture, tmp_path / "b.png")
    result = script("predict.py", tmp_path, "--run", trained.full.folder)
    assert result.status == 1
    assert "a.png is a pipe: expected a file" in result.err and "b.png: " in result.out


def test_a_photograph_that_icloud_has_not_downloaded_is_reported(
    trained, script, picture, tmp_path
):
    (tmp_path / ".a.jpg.icloud").touch()
    shutil.copy(picture, tmp_path / "b.png")
    result = script("predict.py", tmp_path, "--run", trained.full.folder)
    assert result.status == 1
    assert ".a.jpg.icloud" in result.err and "b.png: " in result.out


def test_a_plot_of_too_many_images_is_refused_first(script, one_line, tmp_path):
    for number in range(101):
        (tmp_path / f"{number}.png").touch()
    result = script("predict.py", tmp_path, "--explain", tmp_path / "why.png")
    one_line(result, "--explain", "101 images", "at most 100")


@pytest.mark.parametrize("name", ["picture.png", "photo.jpg", "notes.png"])
def test_the_evidence_replaces_nothing_but_an_older_plot(
    name, trained, script, one_line, picture, tmp_path
):
    shutil.copy(picture, tmp_path / "photo.jpg")
    (tmp_path / "notes.png").write_text("my own")
    before = (tmp_path / name).read_bytes()
    arguments = (picture, "--run", trained.full.folder, "--explain")
    one_line(script("predict.py", *arguments, tmp_path / name), f"{tmp_path / name}")
    assert (tmp_path / name).read_bytes() == before
    for _ in range(2):
        assert script("predict.py", *arguments, tmp_path / "why.png").status == 0


def test_a_class_map_is_the_evidence_itself(pixels):
    import predict

    for head in ("conv", "average"):
        given = {"weights": "none", "head": head, "image_size": 64, "dropout": 0.5}
        config = settings.Config(regime="any", **given)
        model, _ = network.build(config, classes=3)
        method, evidence = predict.explainer(model)
        assert method == "class map"
        logits = keras.Model(model.inputs[0], model.get_layer("head_softmax").input)
        maps = evidence(pixels, 1)
        assert maps.min() >= 0 and maps.max() in (0, 1)
        if logits(pixels[None])[0, 1] > 0:
            assert maps.max() == 1


def test_no_run_and_no_model(command, one_line, trained, tmp_path, picture):
    no_keras = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "keras.py").write_text("raise SystemExit('Keras was imported')")

    def refused(*arguments):
        return command("predict.py", picture, *arguments, **no_keras)

    one_line(refused("--logs", tmp_path), "no finished run under")
    one_line(refused("--model", tmp_path / "none.keras"), "does not exist")
    one_line(refused("--run", tmp_path), str(tmp_path))
    (tmp_path / "text.keras").write_text("not one")
    one_line(refused("--model", tmp_path / "text.keras"), "is not a Keras file")
    one_line(refused("--run", trained.full.folder, "--top", 0), "--top: expected 1 or more")
    one_line(command("predict.py", "", **no_keras), "IMAGE", "''")


def test_a_model_that_is_cut_short_or_of_another_kind_or_runs_code(
    script, one_line, tmp_path, picture, model
):
    cut = tmp_path / "cut.keras"
    cut.write_bytes(model.read_bytes()[:5000])
    one_line(script("predict.py", picture, "--model", cut), "was cut short")
    inputs = keras.Input((8,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "other.keras")
    one_line(script("predict.py", picture, "--model", tmp_path / "other.keras"), "resize")
    pixels = keras.Input((None, None, 3), dtype="uint8")
    for layer, word in (
        (keras.layers.Resizing(32, 32, name="resize"), "head_softmax"),
        (keras.layers.Identity(name="resize"), "height"),
    ):
        outputs = keras.layers.GlobalAveragePooling2D()(layer(keras.ops.cast(pixels, "float32")))
        keras.Model(pixels, outputs).save(tmp_path / "foreign.keras")
        result = script("predict.py", picture, "--model", tmp_path / "foreign.keras")
        one_line(result, "foreign.keras can't be loaded as a model of this project", word)
    outputs = keras.layers.Lambda(lambda x: x * 2)(inputs)
    keras.Model(inputs, outputs).save(tmp_path / "code.keras")
    one_line(
        script("predict.py", picture, "--model", tmp_path / "code.keras"),
        "code.keras can't be loaded",
    )


def test_runs_on_different_images_are_not_ranked(script, one_line, trained, tmp_path, picture):
    import shutil

    logs = shutil.copytree(trained.logs, tmp_path / "logs")
    path = logs / "full" / "tiny" / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["data"] |= {"sha256": "0" * 64, "source": "mine"}
    path.write_text(json.dumps(metrics))
    one_line(script("predict.py", picture, "--logs", logs), "different images", "--data or --run")
    by_data = script("predict.py", picture, "--logs", logs, "--data", "mine").out
    assert by_data == script("predict.py", picture, "--run", path.parent).out != ""
    one_line(script("predict.py", picture, "--logs", logs, "--data", "none"), "is on none")


def test_data_that_exist_are_told_apart_by_their_path(
    trained, script, one_line, tmp_path, picture, monkeypatch
):
    logs = shutil.copytree(trained.logs, tmp_path / "logs")
    path = logs / "full" / "tiny" / "metrics.json"
    metrics = json.loads(path.read_text())
    source = str(tmp_path / "elsewhere" / "photos")
    metrics["data"] |= {"sha256": "0" * 64, "source": source, "description": "photos/"}
    path.write_text(json.dumps(metrics))
    monkeypatch.chdir(tmp_path)
    arguments = (picture, "--logs", logs, "--data")
    for name in ("photos/", source, "elsewhere/photos"):
        assert script("predict.py", *arguments, name).status == 0
    (tmp_path / "photos").mkdir()
    one_line(script("predict.py", *arguments, "photos/"), "is on photos/")
    metrics["data"] |= {"source": str(tmp_path / "cifar10")}
    path.write_text(json.dumps(metrics))
    one_line(script("predict.py", *arguments, "cifar10"), "is on cifar10")
    assert script("predict.py", *arguments, "./cifar10").status == 0


def test_images_in_a_folder_that_cant_be_read_are_named(trained, script, picture, tmp_path):
    folder = tmp_path / "camera"
    folder.mkdir()
    (folder / "1.HEIC").write_bytes(b"text")
    (folder / "notes.txt").write_text("text")
    (folder / "README").write_text("text")
    shutil.copy(picture, folder / "without")
    result = script("predict.py", folder, "--run", trained.frozen.folder)
    assert result.status == 1 and result.out.startswith(f"{folder / 'without'}: ")
    assert result.out.count("\n") == 1
    assert (
        result.err
        == f"predict.py: {folder / '1.HEIC'} is not an image: expected JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF\n"
    )


def test_what_is_hidden_is_no_picture_and_any_name_is_one_line(trained, script, picture, tmp_path):
    folder = tmp_path / "camera"
    for name in ("one\nname.png", "._one.png", ".thumbnails/two.png", "__MACOSX/three.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder / name)
    (folder / os.fsdecode(b"odd\xff.png")).write_bytes(picture.read_bytes())
    plot = tmp_path / "why.png"
    result = script("predict.py", folder, "--run", trained.frozen.folder, "--explain", plot)
    assert result.status == 0 and plot.exists(), result.err
    names = sorted(line.rsplit(": ", 1)[0] for line in result.out.splitlines())
    assert names == [f"{folder}/odd\\udcff.png", f"{folder}/one\\nname.png"]


def test_metrics_of_another_model_are_refused(trained, script, one_line, picture, tmp_path):
    shutil.copy(trained.full.folder / "metrics.json", tmp_path)
    for name, source in (("model.keras", trained.frozen), ("full.keras", trained.full)):
        shutil.copy(source.folder / "model.keras", tmp_path / name)
    result = script("predict.py", picture, "--model", tmp_path / "model.keras")
    one_line(result, "model.keras is not the model that", "metrics.json")
    assert script("predict.py", picture, "--model", tmp_path / "full.keras").status == 0
    older = {k: v for k, v in trained.full.metrics.items() if k != "model_weights_sha256"}
    (tmp_path / "metrics.json").write_text(json.dumps(older))
    one_line(script("predict.py", picture, "--model", tmp_path / "full.keras"), "full.keras is not")


def test_more_images_than_a_batch(trained, script, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 2)
    for number in range(5):
        shutil.copy(picture, tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_text("no image")
    result = script("predict.py", *sorted(tmp_path.glob("?.png")), "--run", trained.full.folder)
    assert [line.split(": ")[0][-5:] for line in result.out.splitlines()] == [
        f"{number}.png" for number in (0, 1, 2, 4)
    ]
    assert result.status == 1 and "3.png is not an image" in result.err


def test_a_run_whose_model_is_another_one_is_not_exported_or_evaluated(
    trained, script, one_line, tmp_path
):
    folder = shutil.copytree(trained.full.folder, tmp_path / "logs" / "full" / "run")
    shutil.copy(trained.frozen.folder / "model.keras", folder)
    words = (f"{folder / 'model.keras'} is not the model that metrics.json", "put that one back")
    one_line(script("export.py", folder, "--format", "saved_model"), *words)
    (folder / "test.json").unlink(missing_ok=True)
    result = script("compare.py", "--logs", tmp_path / "logs")
    assert words[0] in result.err and not (folder / "test.json").exists()


def test_runs_that_are_passed_over_are_named(trained, script, picture, tmp_path):
    for regime in ("frozen", "full"):
        shutil.copytree(getattr(trained, regime).folder, tmp_path / regime / "run")
    damaged = tmp_path / "full" / "run" / "metrics.json"
    damaged.write_text(damaged.read_text()[:100])
    result = script("predict.py", picture, "--logs", tmp_path)
    assert result.status == 0
    assert f"skipped {damaged} is damaged" in result.err
    assert f"using the model of {tmp_path / 'frozen' / 'run'}" in result.err


def test_a_folder_that_cant_be_opened_is_among_what_is_found(picture, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def scandir(path):
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert images.find([tmp_path]) == [tmp_path / "locked", picture]


def test_errors_are_one_line_that_any_terminal_takes(trained, script, tmp_path):
    (tmp_path / "bad\x1b[2J  two\nthree.png").write_text("text")
    result = script("predict.py", tmp_path, "--run", trained.frozen.folder)
    assert r"bad\x1b[2J  two three.png is not an image" in result.err


def test_a_url_is_refused(script, one_line):
    one_line(script("predict.py", "https://example.org/a.jpg"), "https://example.org/a.jpg", "URL")


def test_a_file_in_place_of_a_run_is_named(script, one_line, trained, picture):
    folder = trained.full.folder
    result = script("predict.py", picture, "--run", folder / "model.keras")
    one_line(result, "model.keras is a file: expected a run's folder", str(folder))


def test_a_run_that_is_not_finished(script, one_line, picture, tmp_path):
    one_line(script("predict.py", picture, "--run", tmp_path), "not a finished run")
    (tmp_path / "config.json").touch()
    result = script("predict.py", picture, "--run", tmp_path)
    one_line(result, "not a finished run", "--resume continues it")
    deep = tmp_path / "fire9" / "run"
    deep.mkdir(parents=True)
    (deep / "config.json").touch()
    result = script("predict.py", picture, "--run", deep)
    one_line(result, "not a finished run", "the same sweep continues it")


def test_a_reader_that_goes_ends_it_quietly(trained, picture):
    process = start("predict.py", *[picture] * 3, "--run", trained.frozen.folder)
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == ""


def test_ctrl_c(trained, script, picture, monkeypatch, one_line):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "find", interrupted)
    result = script("predict.py", picture, "--run", trained.frozen.folder)
    one_line(result, "interrupted", status=130)


def test_an_output_whose_name_is_too_long_is_refused_at_once(script, one_line, picture, tmp_path):
    result = script("predict.py", picture, "--explain", tmp_path / f"{'写' * 79}.png")
    one_line(result, "--explain", "has a name of more than 220 bytes")
