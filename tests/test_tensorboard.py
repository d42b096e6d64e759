"""What TensorBoard shows of the runs, asked through its own HTTP API."""

import json
import urllib.parse
import urllib.request

import keras
import pytest
from conftest import REGIMES


@pytest.fixture(scope="module")
def get(trained):
    """Asks a running TensorBoard."""
    from tensorboard import program

    board = program.TensorBoard()
    board.configure(logdir=str(trained.logs), host="127.0.0.1", port=0, load_fast="false")
    url = board.launch()

    def ask(path, **query):
        with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(query)}") as response:
            return response.read().decode()

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
    query = {"run": f"{regime}/tiny/train", "tag": "keras", "conceptual": "true"}
    graph = get("data/plugin/graphs/graph", **query)
    model = keras.models.load_model(getattr(trained, regime).folder / "model.keras")
    for layer in model.layers:
        assert f"/{layer.name}\"" in graph, layer.name
    assert 'input: "squeezenet/fire2_squeeze1x1"' in graph


@pytest.mark.parametrize("regime", REGIMES)
def test_graph_of_the_training_steps_operations(get, regime):
    query = {"run": f"{regime}/tiny/train", "tag": "train_step", "conceptual": "false"}
    graph = get("data/plugin/graphs/graph", **query)
    # The step is that of the tail: what is frozen before it was computed once.
    own = {"frozen": ["MatMul"], "last_fire": ["Conv2D"], "full": ["Conv2D", "MaxPool"]}[regime]
    for operation in ("IteratorGetNextAsOptional", "Softmax", "AssignVariableOp", *own):
        assert f'op: "{operation}"' in graph, operation
