"""What TensorBoard shows of the runs, asked through its own HTTP API."""

import io
import json
import re
import urllib.parse
import urllib.request

import keras
import numpy as np
import pytest
from conftest import REGIMES, TINY
from PIL import Image

import data


@pytest.fixture(scope="module")
def get(trained):
    """Asks a running TensorBoard."""
    from tensorboard import program

    board = program.TensorBoard()
    # Read once, here: a thread that goes on reading would be killed inside TensorFlow when Python
    # ends, which aborts the process.
    once = {"reload_interval": 0, "reload_task": "blocking"}
    board.configure(logdir=str(trained.logs), host="127.0.0.1", port=0, load_fast="false", **once)
    url = board.launch()

    def raw(path, body=None):
        request = urllib.request.Request(f"{url}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return response.read()

    def ask(path, **query):
        return raw(f"{path}?{urllib.parse.urlencode(query)}").decode()

    ask.url, ask.raw = url, raw
    ask.post = lambda path, query: raw(path, json.dumps(query).encode())
    return ask


@pytest.mark.parametrize("regime", REGIMES)
def test_scalars(get, regime, trained):
    tags = json.loads(get("data/plugin/scalars/tags"))
    train, validation = tags[f"{regime}/tiny/train"], tags[f"{regime}/tiny/validation"]
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"} <= set(train)
    assert {"epoch_loss", "epoch_accuracy"} <= set(validation)
    points = json.loads(
        get("data/plugin/scalars/scalars", run=f"{regime}/tiny/validation", tag="epoch_loss")
    )
    history = getattr(trained, regime).metrics["history"]["val_loss"]
    assert [value for _, _, value in points] == pytest.approx(history, rel=1e-5)


@pytest.mark.parametrize("regime", REGIMES)
def test_graph_of_the_layers(get, regime, trained):
    text = get("data/plugin/graphs/graph", run=f"{regime}/tiny", conceptual="false")
    nodes = {re.search('name: "(.*?)"', node)[1]: node for node in text.split("node {")[1:]}
    model = keras.models.load_model(getattr(trained, regime).folder / "model.keras")
    assert {name.replace("/", "_") for name in nodes} >= {layer.name for layer in model.layers}
    assert {name.split("/")[0] for name in nodes if "/" in name} == {
        "head",
        *(f"fire{number}" for number in range(2, 10)),
    }
    assert 'input: "fire2/squeeze1x1"' in nodes["fire2/expand3x3"]
    for name, last in (
        ("conv1", ("full",)),
        ("fire9/expand3x3", ("full", "last_fire")),
        ("head/logits", REGIMES),
    ):
        assert f'device: "{"trained" if regime in last else "frozen"}"' in nodes[name]


@pytest.mark.parametrize("regime", REGIMES)
def test_graph_of_the_training_steps_operations(get, regime):
    query = {"run": f"{regime}/tiny/train", "tag": "batch_1", "conceptual": "false"}
    graph = get("data/plugin/graphs/graph", **query)
    # The step is that of the tail: what is frozen before it was computed once.
    own = {"frozen": ["MatMul"], "last_fire": ["Conv2D"], "full": ["Conv2D", "MaxPool"]}[regime]
    for operation in ("IteratorGetNextAsOptional", "Softmax", "AssignVariableOp", *own):
        assert f'op: "{operation}"' in graph, operation


@pytest.mark.parametrize("regime", REGIMES)
def test_confusion_matrix_of_each_epoch_and_training_views(get, regime):
    def shown(tag):
        return json.loads(get("data/plugin/images/images", run=f"{regime}/tiny", tag=tag, sample=0))

    assert [image["step"] for image in shown("confusion matrix")] == [0, 1]
    image = Image.open(io.BytesIO(ask_bytes(get, "data/plugin/images/individualImage", regime)))
    assert image.size == (6 * 32, 4 * 32)  # as large as the network sees them
    assert np.asarray(image).std() > 10


def ask_bytes(get, path, regime):
    query = {"run": f"{regime}/tiny", "tag": "training views", "sample": 0}
    (only,) = json.loads(get("data/plugin/images/images", **query))
    return get.raw(f"{path}?{only['query']}")


def test_settings_against_validation_accuracy(get, trained):
    experiment = json.loads(get.post("data/plugin/hparams/experiment", {"experimentName": ""}))
    names = {hparam["name"] for hparam in experiment["hparamInfos"]}
    assert {"regime", "recipe", "optimizer", "learning_rate", "image_size", "seed"} <= names
    metrics = [metric["name"] for metric in experiment["metricInfos"]]
    assert [metric["tag"] for metric in metrics] == ["validation_accuracy", "validation_loss"]
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [],
        "startIndex": 0,
        "sliceSize": 10,
    }
    groups = json.loads(get.post("data/plugin/hparams/session_groups", request))["sessionGroups"]
    found = {
        group["hparams"]["regime"]: {
            metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]
        }
        for group in groups
    }
    for regime in REGIMES:
        metrics = getattr(trained, regime).metrics
        expected = pytest.approx(metrics["validation_accuracy"])
        assert found[regime]["validation_accuracy"] == expected


@pytest.mark.parametrize("regime", REGIMES)
def test_projector(get, regime, trained):
    run = {"run": f"{regime}/tiny"}
    (embedding,) = json.loads(get("data/plugin/projector/info", **run))["embeddings"]
    query = run | {"name": embedding["tensorName"]}
    labels = get("data/plugin/projector/metadata", **query).split()
    names = set("".join(getattr(trained, regime).metrics["data"]["class_names"]).split())
    assert len(labels) >= 500 and names
    values = np.frombuffer(
        get.raw(f"data/plugin/projector/tensor?{urllib.parse.urlencode(query)}"), "f4"
    )
    rows, columns = embedding["tensorShape"]
    assert rows == 500 and values.size == rows * columns and values.std() > 0
    sprite = get.raw(f"data/plugin/projector/sprite_image?{urllib.parse.urlencode(query)}")
    assert Image.open(io.BytesIO(sprite)).size == (23 * 32, 23 * 32)


def test_large_images_are_fewer_in_the_projector(trained, tmp_path, monkeypatch):
    from transfer import board, evaluation

    monkeypatch.setattr(board, "PROJECTED_BYTES", 10 * 32 * 32 * 3)
    model = evaluation.load(trained.frozen.folder / "model.keras")
    board.show_features(tmp_path, model, data.load("shapes"))
    assert len(np.loadtxt(tmp_path / "projector" / "features.tsv")) == 10


def test_weight_histograms(script, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = tmp_path / "logs"
    result = script("train_frozen.py", *TINY, "--logs", logs, "--name", "tiny", "--histograms")
    assert result.status == 0, result.err
    events = EventAccumulator(str(logs / "frozen" / "tiny" / "train"), {"tensors": 0}).Reload()
    tags = [tag for tag in events.Tags()["tensors"] if "head_logits" in tag]
    assert any("kernel" in tag for tag in tags), events.Tags()["tensors"]
    assert len(events.Tensors(tags[0])) == 2  # one an epoch


@pytest.mark.browser
def test_pages_in_a_browser(get, browser):
    """What a reader sees: the layers in Graphs, the runs in Scalars, the settings in HParams."""
    browser.open(f"{get.url}#graphs&run=last_fire%2Ftiny")
    browser.waits_for("conv1", *(f"fire{number}" for number in range(2, 10)), "head")
    browser.click("Device")
    browser.waits_for("unknown device")  # the legend; that of a pooling layer
    browser.expand("fire9", "squeeze1x1")
    browser.waits_for("expand1x1", "expand3x3", "concat")
    browser.open(f"{get.url}#timeseries")
    browser.waits_for("epoch_accuracy", "full/tiny/validation")
    browser.open(f"{get.url}#hparams")
    browser.waits_for("learning_rate", "validation accuracy", "last_fire/tiny")
