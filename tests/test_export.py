"""A model that is exported answers in every runtime as it does in Keras, or is not kept."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import predicted
from PIL import Image

import data
import export
from transfer import card, deployment, evaluation, files, formats, network, runs, settings
from transfer.splits import Split

pytest.importorskip("ai_edge_litert", reason="needs requirements-export.txt")


@pytest.fixture
def pictures(tmp_path):
    """Five images as a user would have them, larger than the network's and not square."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(data.load("shapes").test.images[:5]):
        Image.fromarray(image).resize((70, 48)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("head", "size", "preprocessing"),
    [
        ("pooled", 48, "caffe"),
        ("pooled", 32, "none"),
        ("conv_relu", 32, "none"),
        ("average", 48, "caffe"),
    ],
)
def test_what_is_folded_changes_nothing(head, size, preprocessing, tmp_path):
    config = settings.Config(
        "full",
        weights="drawn",
        head=head,
        image_size=size,
        dropout=0.5,
        preprocessing=preprocessing,
    )
    keras.utils.set_random_seed(0)
    model, _ = network.build(config, classes=3)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            for statistic in (layer.adapt_mean, layer.adapt_variance):
                statistic.assign(random.uniform(0.1, 5, statistic.shape))
            layer.finalize_state()
    known = {
        "config": {"head": head, "image_size": size},
        "data": {"class_names": ["a", "b", "c"]},
    }
    run = runs.Run(tmp_path, known)
    images = random.integers(0, 256, (4, 40, 40, 3), dtype="uint8")
    expected = model(images, training=False)
    assert np.std(expected) > 0.01
    free, fixed = (deployment.network(model, run, side) for side in (None, 40))
    whole = deployment.network(model, run, side=40, calibration=images)
    for found in (free(images), fixed(images), whole(np.float32(images))):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def exported(in_float32, script, output, *arguments):
    result = script("export.py", in_float32.folder, "--output", output, *arguments)
    assert result.status == 0, result.err
    return result


def test_litert_answers_as_keras_does(in_float32, script, pictures, tmp_path):
    output = tmp_path / "phone"
    result = exported(in_float32, script, output, "--format", "litert")
    assert "| litert | model.tflite |" in result.out and "100.00%" in result.out
    assert {path.name for path in output.iterdir()} == {
        "model.tflite", "labels.txt", "preprocessor_config.json", "README.md",
    }  # fmt: skip
    names = in_float32.metrics["data"]["class_names"]
    assert (output / "labels.txt").read_text().splitlines() == names
    asked = (pictures, "--json", "--top", len(names))
    here = script("predict.py", *asked, "--run", in_float32.folder)
    there = script("predict.py", *asked, "--model", output / "model.tflite")
    assert (here.status, there.status, there.err) == (0, 0, "")
    np.testing.assert_allclose(predicted(there.out), predicted(here.out), atol=1e-4)


def test_a_run_that_was_exported_is_asked_without_keras(
    trained, in_float32, script, pictures, tmp_path, monkeypatch
):
    folder = shutil.copytree(in_float32.folder, tmp_path / "run")
    asked = (pictures, "--json", "--top", 10, "--run", folder)
    expected = predicted(script("predict.py", *asked).out)
    assert script("export.py", folder, "--format", "litert").status == 0
    loaded = []
    monkeypatch.setattr(
        evaluation,
        "load",
        lambda path, load=evaluation.load: loaded.append(load(path)) or loaded[-1],
    )
    found = predicted(script("predict.py", *asked).out)
    assert not loaded
    np.testing.assert_allclose(found, expected, atol=1e-4)

    exported = folder / "export-litert" / "model.tflite"
    changed = bytearray(exported.read_bytes())
    changed[len(changed) // 4] ^= 0x55
    exported.write_bytes(changed)
    result = script("predict.py", *asked)
    assert loaded and result.err == "" and predicted(result.out) == expected
    shutil.copy(trained.frozen.folder / "model.keras", folder)  # the export is of another model
    result = script("predict.py", *asked)
    assert result.err == "" and predicted(result.out) != expected


def test_the_card_says_what_the_run_found(in_float32, script, tmp_path, monkeypatch, capfd):
    yaml = pytest.importorskip("yaml")
    exported(in_float32, script, tmp_path / "made", "--format", "litert")
    text = (tmp_path / "made" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    accuracy = in_float32.metrics["validation_accuracy"]
    figures = {
        each["type"]: each["value"] for each in head["model-index"][0]["results"][0]["metrics"]
    }
    assert figures["accuracy"] == pytest.approx(accuracy, abs=5e-5)
    assert head["pipeline_tag"] == "image-classification"
    assert all(name in text for name in in_float32.metrics["data"]["class_names"])
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "made")
    random = np.random.default_rng(0)
    for mode, size in (("RGB", (301, 200)), ("RGBA", (60, 41)), ("L", (9, 20)), ("P", (50, 32))):
        pixels = random.integers(0, 256, (*size[::-1], 4), "u1")
        Image.fromarray(pixels).convert(mode).save("photo.png")
        seen = {}
        exec(code.replace("photo.jpg", "photo.png"), seen)  # noqa: S102  (the card is ours)
        np.testing.assert_array_equal(seen["images"][0], pictures_of("photo.png", seen["images"]))
        assert capfd.readouterr().out.strip() in in_float32.metrics["data"]["class_names"]


def test_names_in_the_card_are_no_markup(in_float32):
    known = in_float32.metrics
    config = known["config"] | {"weights": "/old/w\udcff_[1].h5"}
    about = known["data"] | {"description": "my_*images*"}
    measured = card.Measured(1, 0.1, np.eye(2))
    rows = [
        card.Row(name, "model", measured, measured, np.arange(2)) for name in ("keras", "litert")
    ]
    dataset = SimpleNamespace(
        class_names=["a", "b"], side=32, train=SimpleNamespace(labels=np.arange(2))
    )
    run = runs.Run(in_float32.folder, known | {"config": config, "data": about})
    text = card.card(run, dataset, rows).encode().decode()
    assert r"trained) on my\_\*images\*: 2 training images" in text
    assert r"fine-tuned from the file w\\udcff\_\[1\].h5" in text


def pictures_of(path, images):
    """Returns the pixels of a file as predict.py would read them, of the side of these images."""
    from transfer.images import read

    return read(path, images.shape[1], enlarge=True)


CI = [pytest.param(name, marks=pytest.mark.ci) for name in ("onnx", "openvino")]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CI, "saved_model"])
def test_other_formats_answer_as_keras_does(
    in_float32, script, pictures, tmp_path, monkeypatch, capfd, name
):
    for package in formats.FORMATS[name].packages + formats.FORMATS[name].writers:
        pytest.importorskip(package, reason="needs requirements-export.txt")
    tmp_path = tmp_path / "[x]*"  # which TensorFlow would take for a pattern
    exported(in_float32, script, tmp_path / "made", "--format", name)
    names = in_float32.metrics["data"]["class_names"]
    asked = (pictures, "--json", "--top", len(names))
    here = script("predict.py", *asked, "--run", in_float32.folder)
    there = script("predict.py", *asked, "--model", tmp_path / "made" / formats.FORMATS[name].file)
    assert (here.status, there.status, there.err) == (0, 0, "")
    np.testing.assert_allclose(predicted(there.out), predicted(here.out), atol=1e-4)
    code = (tmp_path / "made" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    Image.fromarray(data.load("shapes").test.images[0]).save(tmp_path / "made" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "made")
    exec(code, {})  # noqa: S102  (the card is ours)
    assert capfd.readouterr().out.strip() in names


@pytest.mark.slow
def test_int8_is_a_quarter_as_large(in_float32, script, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    result = exported(
        in_float32,
        script,
        tmp_path / "made",
        "--format",
        "litert",
        "--int8",
        "--max-accuracy-drop",
        1,
    )
    file = tmp_path / "made" / "model-int8.tflite"
    assert file.stat().st_size < 0.3 * 4 * in_float32.metrics["total_params"]
    assert "litert int8" in result.out
    found = Interpreter(str(file)).get_tensor_details()
    floats = [tensor["name"] for tensor in found if tensor["dtype"] == np.float32]
    assert len(floats) == 1  # the probabilities, which are converted at the end
    images, _ = data.load("shapes").validation
    expected = evaluation.load(in_float32.folder / "model.keras").predict(images, verbose=0)
    found = formats.Runtime(file).predict_on_batch(images)
    assert np.abs(found - expected).mean() < 0.02


def test_int8_is_calibrated_from_black_to_white_however_dark_the_images():
    dark = np.full((3, 8, 8, 3), 50, "u1")
    for (pixels,) in formats._int8_settings(dark)["representative_dataset"]():
        assert (pixels.min(), pixels.max(), np.median(pixels)) == (0, 255, 50)


def test_what_is_beside_a_file_is_of_that_file(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"new")
    known = {"size": {"height": 32, "width": 32}, formats.HASHES: {"model.onnx": "0" * 64}}
    (tmp_path / formats.PREPROCESSING).write_text(json.dumps(known))
    with pytest.raises(ValueError, match="is not the model that preprocessor_config.json"):
        formats.beside(tmp_path / "model.onnx")
    (tmp_path / "model.bin").write_bytes(b"weights of another")
    known[formats.HASHES] = {"model.bin": "0" * 64}
    (tmp_path / formats.PREPROCESSING).write_text(json.dumps(known))
    with pytest.raises(ValueError, match="model.bin is not the model that"):
        formats.beside(tmp_path / "model.xml")


def test_what_answers_otherwise_is_not_kept(in_float32, script, tmp_path, monkeypatch):
    right = formats.Runtime.predict_on_batch
    wrong = lambda self, images: right(self, images)[:, ::-1]  # noqa: E731
    monkeypatch.setattr(formats.Runtime, "predict_on_batch", wrong)
    arguments = ("--format", "litert", "--output", tmp_path / "made")
    result = script("export.py", in_float32.folder, *arguments)
    assert result.status == 2
    last = result.err.splitlines()[-1]  # under pytest, LiteRT's first message comes before it
    assert "model.tflite disagrees" in last and "not kept" in last
    assert not list(tmp_path.iterdir())


def test_int8_that_litert_can_not_run_costs_no_other_format(
    in_float32, script, tmp_path, monkeypatch
):
    from ai_edge_litert.interpreter import Interpreter

    write = formats.write

    def fail(self):  # as of a head whose outputs are all zero
        raise RuntimeError("failed to create XNNPACK runtime")

    def written(model, name, folder, images):
        if name == "litert":
            write(model, name, folder, images)
        else:
            shutil.copy(folder / "model.tflite", folder / "model-int8.tflite")
            monkeypatch.setattr(Interpreter, "allocate_tensors", fail)

    monkeypatch.setattr(formats, "write", written)
    monkeypatch.setattr(formats, "missing", lambda name: ["x"] * (not name.startswith("litert")))
    arguments = ("--all", "--output", tmp_path / "made")
    result = script("export.py", in_float32.folder, *arguments)
    assert result.status == 1
    last = result.err.splitlines()[-1]  # under pytest, LiteRT's first message comes before it
    reason = "model-int8.tflite can't be loaded (litert): failed to create XNNPACK runtime"
    assert last == f"export.py: {reason}"
    assert [path.name for path in (tmp_path / "made").glob("*.tflite")] == ["model.tflite"]


def test_what_appears_at_the_output_meanwhile_stays(
    in_float32, script, one_line, tmp_path, monkeypatch
):
    output, write = tmp_path / "made", formats.write

    def slowly(*arguments):
        output.mkdir()
        (output / "thesis.txt").write_text("my own")
        write(*arguments)

    monkeypatch.setattr(formats, "write", slowly)
    arguments = ("--format", "litert", "--output", output)
    one_line(script("export.py", in_float32.folder, *arguments), "exists", "--overwrite")
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "thesis.txt"]


def test_the_root_folder_is_no_output(in_float32, script, one_line):
    arguments = ("--format", "litert", "--output", "/")
    one_line(script("export.py", in_float32.folder, *arguments), "/ exists")


def test_what_is_not_kept_leaves_no_folders(in_float32, script, one_line, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no")

    monkeypatch.setattr(formats, "write", fail)
    arguments = ("--format", "litert", "--output", tmp_path / "new" / "inner" / "made")
    one_line(script("export.py", in_float32.folder, *arguments), "no")
    assert not list(tmp_path.iterdir())


def test_a_path_through_a_folder_that_does_not_exist_yet(in_float32, script, one_line, tmp_path):
    (tmp_path / "thesis.txt").write_text("my own")
    arguments = ("--format", "litert", "--output", tmp_path / "new" / "..")
    one_line(script("export.py", in_float32.folder, *arguments), "exists", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_verifies_an_export_has_as_many_of_a_class_as_validation_has():
    labels = np.repeat([0, 1], [900, 100])
    few = export.drawn(Split(np.arange(1000), labels), 200, seed=0)
    assert len(few.images) == 200 and 5 <= few.labels.sum() <= 40


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1.23e-2, "12.3"), (1.23e-3, "1.2"), (9.96e-4, "1.0"), (5.2e-4, "0.52"), (2.03e-5, "0.020")],
)
def test_times_of_small_models_are_shown_in_two_digits(seconds, shown):
    measured = card.Measured(1000, seconds, np.eye(2, dtype="f4"))
    row = card.Row("litert", "model.tflite", measured, measured, np.arange(2))
    assert f"| model.tflite | 1,000 | {shown} | 0 | 100.00% |" in card.table([row])


def test_the_card_has_no_table_of_many_classes():
    names = [f"class {i}" for i in range(21)]
    assert "more than 20 classes" in card._confusion(None, names)


def test_another_export_is_only_replaced_when_asked(in_float32, script, one_line, tmp_path):
    arguments = ("--format", "litert", "--output", tmp_path)
    (tmp_path / "thesis.txt").write_text("my own")
    one_line(script("export.py", in_float32.folder, *arguments), "exists", "--overwrite")
    result = script("export.py", in_float32.folder, *arguments, "--overwrite")
    one_line(result, "thesis.txt", "not replaced")
    assert (tmp_path / "thesis.txt").read_text() == "my own"


def test_a_file_is_no_output(in_float32, script, one_line, tmp_path):
    (tmp_path / "thesis.txt").write_text("my own")
    arguments = ("--format", "litert", "--output", tmp_path / "thesis.txt", "--overwrite")
    one_line(script("export.py", in_float32.folder, *arguments), "thesis.txt is a file")
    assert (tmp_path / "thesis.txt").read_text() == "my own"


def test_hidden_files_stay_when_an_export_is_replaced(in_float32, script, tmp_path):
    page = tmp_path / "page"
    (page / ".git").mkdir(parents=True)
    export.check_output(page, overwrite=False)  # there is nothing to replace
    for name in (".git/README.md", ".nojekyll", "model.onnx", formats.PREPROCESSING):
        (page / name).write_text("earlier")
    (page / ".linked").symlink_to("gone")
    exported(in_float32, script, page, "--format", "litert", "--overwrite")
    assert {path.name for path in page.iterdir()} == {
        ".git", ".nojekyll", ".linked", "model.tflite", "labels.txt", "preprocessor_config.json", "README.md",
    }  # fmt: skip
    assert (page / ".git" / "README.md").read_text() == "earlier"
    assert (page / "README.md").read_text() != "earlier"
    assert (page / ".linked").readlink() == Path("gone")


def test_a_hidden_file_that_cant_be_copied_is_named(tmp_path):
    page = tmp_path / "page"
    (page / ".git").mkdir(parents=True)
    os.mkfifo(page / ".git" / "pipe")
    with pytest.raises(OSError, match=".git/pipe can't be copied to the new export: move it"):
        export.keep_hidden(page, tmp_path / "new")


@pytest.mark.parametrize("output", [".", "../here", "{here}"])
def test_the_current_folder_is_no_output(
    in_float32, script, one_line, tmp_path, monkeypatch, output
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    arguments = ("--format", "litert", "--overwrite", "--output", output.format(here=here))
    one_line(script("export.py", in_float32.folder, *arguments), "here is the current folder")


def test_a_mount_point_is_no_output(in_float32, script, one_line, tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    arguments = ("--format", "litert", "--output", tmp_path)
    result = script("export.py", in_float32.folder, *arguments)
    one_line(result, "mount point", "choose a folder in it")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["--format", "--all"]),
        (("--format", "onnx", "--all"), ["--format", "--all"]),
        (("--format", "onnx", "--int8"), ["--int8", "litert"]),
        (("--format", "litert", "--max-accuracy-drop", "2"), ["--max-accuracy-drop"]),
        (("missing/", "--format", "litert"), ["missing"]),
        (("--format", "litert", "--logs", "nowhere"), ["nowhere"]),
    ],
)
def test_refuses_what_can_not_be_exported(script, one_line, arguments, words):
    one_line(script("export.py", *arguments), *words)


def test_a_missing_package_is_named(in_float32, script, one_line, monkeypatch):
    monkeypatch.setattr(formats, "missing", lambda name: ["onnxruntime"])
    result = script("export.py", in_float32.folder, "--format", "onnx")
    one_line(result, "onnxruntime", "pip install -r requirements-export.txt")


def test_a_run_whose_images_are_gone(in_float32, script, one_line, tmp_path):
    folder = shutil.copytree(in_float32.folder, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["data"]["source"] = str(tmp_path / "moved")
    (folder / "metrics.json").write_text(json.dumps(metrics))
    result = script("export.py", folder, "--format", "litert")
    one_line(result, "verified", str(tmp_path / "moved"), "no longer exists")


def test_a_file_is_known_by_its_content_and_changed_labels_are_said(tmp_path, capsys):
    (tmp_path / "renamed.onnx").write_bytes(b"model")
    (tmp_path / "saved_model" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/data", ".DS_Store"):
        (tmp_path / "saved_model" / name).write_bytes(b"model" + name[:1].encode())
    (tmp_path / formats.LABELS).write_text("cat\ndog\n")
    hashes = {
        "model.onnx": files.digest(tmp_path / "renamed.onnx"),
        formats.LABELS: files.digest(tmp_path / formats.LABELS),
    }
    for name in ("saved_model.pb", "variables/data"):
        hashes[f"saved_model/{name}"] = files.digest(tmp_path / "saved_model" / name)
    known = {"size": {"height": 32, "width": 32}, formats.HASHES: hashes}
    (tmp_path / formats.PREPROCESSING).write_text(json.dumps(known))
    for name in ("renamed.onnx", "saved_model"):
        assert formats.beside(tmp_path / name) == (["cat", "dog"], 32)
    assert capsys.readouterr().err == ""
    (tmp_path / formats.LABELS).write_text("dog\ncat\n")
    assert formats.beside(tmp_path / "renamed.onnx") == (["dog", "cat"], 32)
    assert "labels.txt was changed after the export" in capsys.readouterr().err
    (tmp_path / "saved_model" / "variables" / "data").write_bytes(b"of another")
    (tmp_path / "other.onnx").write_bytes(b"another")
    for name in ("other.onnx", "saved_model"):
        with pytest.raises(ValueError, match="is not the model that preprocessor_config.json"):
            formats.beside(tmp_path / name)


@pytest.mark.parametrize("size", [True, 100_000, 0, {}])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    (tmp_path / formats.PREPROCESSING).write_text(json.dumps({"size": {"height": size}}))
    with pytest.raises(ValueError, match="damaged: expected a size of 1 to 32767"):
        formats.beside(tmp_path / "model.tflite")


def test_what_is_no_model(script, one_line, pictures, tmp_path):
    (tmp_path / "model.onnx").write_text("no model")
    result = script("predict.py", pictures, "--model", tmp_path / "model.onnx")
    one_line(result, "model.onnx", "can't be loaded")
    if not formats.missing("openvino"):
        (tmp_path / "model.xml").write_text("no model")
        (tmp_path / "model.bin").write_bytes(b"")
        result = script("predict.py", pictures, "--model", tmp_path / "model.xml")
        assert result.status == 2
        assert "can't be loaded (openvino): Unable to read the model" in result.err
    one_line(script("predict.py", pictures, "--model", tmp_path / "gone.tflite"), "does not exist")
    one_line(script("predict.py", pictures, "--model", tmp_path), "is a folder", "--run")


def test_a_model_that_cant_take_the_images_it_says_it_takes(script, one_line, pictures, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs requirements-export.txt")
    make, any_size = onnx.helper, ["n", "height", "width", 3]
    nodes = [
        make.make_node("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
        make.make_node("Reshape", ["pixels", "shape"], ["found"]),
    ]
    graph = make.make_graph(
        nodes,
        "model",
        [make.make_tensor_value_info("images", onnx.TensorProto.UINT8, any_size)],
        [make.make_tensor_value_info("found", onnx.TensorProto.FLOAT, [1, 2])],
        [make.make_tensor("shape", onnx.TensorProto.INT64, [2], [1, 2])],
    )
    opset = [make.make_opsetid("", 13)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "model.onnx")
    (tmp_path / formats.LABELS).write_text("cat\ndog\n")
    (tmp_path / formats.PREPROCESSING).write_text(json.dumps({"size": {"height": 32}}))
    result = script("predict.py", pictures, "--model", tmp_path / "model.onnx")
    one_line(result, f"{tmp_path / 'model.onnx'} can't be run: ")
