"""compare.py ranks finished runs and looks at the test images once."""

import csv
import json
import shutil
import statistics

import numpy as np
import pytest
from conftest import REGIMES
from PIL import Image


@pytest.fixture
def logs(trained, tmp_path):
    return shutil.copytree(trained.logs, tmp_path / "logs")


def edit(folder, **changes):
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_table_is_ranked_by_validation_accuracy(trained, logs, script):
    for regime, accuracy in zip(REGIMES, (0.25, 0.75, 0.5), strict=True):
        edit(logs / regime / "tiny", validation_accuracy=accuracy)
    result = script("compare.py", "--logs", logs)
    assert result.status == 0, result.err
    header, *rows = result.out.split("\n\n")[0].splitlines()
    for column in (
        "regime", "recipe", "optimizer", "image size (px)", "epochs", "trainable parameters",
        "validation loss", "validation accuracy", "gap", "seconds", "images/s", "seeds",
    ):  # fmt: skip
        assert column in header
    assert [row.split()[0] for row in rows] == ["last_fire", "full", "frozen"]
    assert f"Best by validation accuracy: {logs / 'last_fire' / 'tiny'}" in result.out


def test_the_best_is_evaluated_on_the_test_images_once(logs, script):
    first = script("compare.py", "--logs", logs)
    remembered = list(logs.glob("*/*/test.json"))
    assert len(remembered) == 1
    figures = json.loads(remembered[0].read_text())
    assert f"Test accuracy (NORMALIZED): {figures['accuracy']}" in first.out
    (remembered[0].parent / "model.keras").unlink()
    assert script("compare.py", "--logs", logs).out == first.out


@pytest.fixture
def seeds(logs):
    """Two more runs of frozen, as if under other seeds."""
    for seed, accuracy in ((0, 0.3), (1, 0.5), (2, 0.4)):
        folder = logs / "frozen" / ("tiny" if seed == 0 else f"tiny-{seed}")
        if seed:
            shutil.copytree(logs / "frozen" / "tiny", folder)
        config = json.loads((folder / "metrics.json").read_text())["config"]
        changes = {"config": config | {"seed": seed, "name": folder.name}, "seconds": 10.0 + seed}
        edit(folder, validation_accuracy=accuracy, **changes)
    for regime in ("last_fire", "full"):
        edit(logs / regime / "tiny", validation_accuracy=0.1)
    return logs


def test_runs_under_several_seeds_are_one_row_with_mean_and_spread(seeds, script):
    result = script("compare.py", "--logs", seeds)
    _, first, *others = result.out.split("\n\n")[0].splitlines()
    assert len(others) == 2
    assert "0.4000 ± 0.1000" in first and "11 ± 1" in first and "0 1 2" in first
    # Of the best row it is the best run that is looked at.
    assert f"Best by validation accuracy: {seeds / 'frozen' / 'tiny-1'}" in result.out
    assert [path.parent.name for path in seeds.glob("*/*/test.json")] == ["tiny-1"]


def test_tables_in_markdown_and_csv(seeds, script):
    result = script("compare.py", "--logs", seeds)
    shown = [line.split()[0] for line in result.out.split("\n\n")[0].splitlines()[1:]]
    markdown = (seeds / "comparison.md").read_text()
    rows = [line.split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[2:]] == shown
    assert "0.4000 ± 0.1000" in rows[2]
    with (seeds / "comparison.csv").open(newline="") as file:
        first, *others = csv.DictReader(file)
    assert first["regime"] == "frozen" and len(others) == 2
    assert float(first["validation_accuracy"]) == pytest.approx(0.4)
    assert float(first["validation_accuracy_sd"]) == pytest.approx(statistics.stdev([0.3, 0.4, 0.5]))
    assert first["runs"] == "3" and others[0]["validation_accuracy_sd"] == ""


def test_the_gap_is_that_of_the_epoch_that_is_kept(logs, script):
    folder = logs / "full" / "tiny"
    history = json.loads((folder / "metrics.json").read_text())["history"]
    edit(folder, history=history | {"accuracy": [0.75, 0.9]}, best_epoch=1, validation_accuracy=0.5)
    assert "+0.250" in script("compare.py", "--logs", logs).out


def test_picture_needs_no_model(logs, script):
    script("compare.py", "--logs", logs)
    first = np.asarray(Image.open(logs / "comparison.png"))
    assert first.shape[0] > 1000 and first.shape[1] > 1500
    for path in logs.glob("*/*/model.keras"):
        path.unlink()
    script("compare.py", "--logs", logs)
    np.testing.assert_array_equal(np.asarray(Image.open(logs / "comparison.png")), first)


def test_the_picture_shows_the_confusion_and_the_most_confident_mistakes(logs, monkeypatch):
    import compare
    import data
    import pictures

    seen = {}
    monkeypatch.setattr(pictures, "comparison", lambda *shown: seen.update(shown=shown))
    monkeypatch.setattr(pictures, "save", lambda *_: None)
    compare.main(["--logs", str(logs)])
    _, curves, points, matrix, _, mistakes = seen["shown"]
    dataset = data.load("shapes")
    assert matrix.sum() == len(dataset.validation.labels)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(dataset.validation.labels))
    best = max(json.loads(p.read_text())["validation_accuracy"] for p in logs.glob("*/*/metrics.json"))
    assert np.trace(matrix) / matrix.sum() == pytest.approx(best)
    assert {regime for regime, *_ in curves} == {regime for regime, *_ in points} == set(REGIMES)
    confidence = [probability for *_, probability in mistakes]
    assert confidence == sorted(confidence, reverse=True)
    assert all(true != predicted for _, true, predicted, _ in mistakes)


def test_filters(logs, script, one_line):
    def regimes(*arguments):
        out = script("compare.py", "--logs", logs, *arguments).out
        return {line.split()[0] for line in out.split("\n\n")[0].splitlines()[1:]}

    assert regimes("--regime", "frozen", "full") == {"frozen", "full"}
    assert regimes("--data", "shapes", "--recipe", "tuned") == set(REGIMES)
    result = script("compare.py", "--logs", logs, "--recipe", "report")
    one_line(result, "none of the 3 finished runs")


def test_runs_on_different_data_are_not_ranked_against_each_other(logs, script):
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    other = metrics["data"] | {"sha256": "0" * 64, "description": "others"}
    edit(logs / "full" / "tiny", data=other, validation_accuracy=1.0)
    (logs / "full" / "tiny" / "test.json").write_text('{"loss": 0.5, "accuracy": 0.25}')
    result = script("compare.py", "--logs", logs)
    assert result.out.count("regime ") == 2
    assert result.out.count("Best by validation accuracy") == 2
    # The others can't be drawn, their images being different ones; the rest goes on.
    assert result.status == 2 and "has changed since" in result.err
    assert result.out.count("Picture: ") == 1
    text = (logs / "comparison.md").read_text()
    assert text.count("| regime |") == 2 and "## others" in text


def test_unfinished_and_damaged_runs_are_listed_and_skipped(logs, script):
    (logs / "full" / "tiny" / "metrics.json").unlink()
    (logs / "frozen" / "tiny" / "metrics.json").write_text('{"regime": "fro')
    result = script("compare.py", "--logs", logs)
    assert result.status == 0
    assert f"skipped {logs / 'full' / 'tiny'}: not finished" in result.out
    assert f"skipped {logs / 'frozen' / 'tiny'}: metrics.json is damaged" in result.out
    edit(logs / "last_fire" / "tiny", epochs="ten")
    result = script("compare.py", "--logs", logs)
    assert "metrics.json has another layout, without epochs (int)" in result.out
    assert result.status == 2


def test_no_runs(command, one_line, tmp_path):
    one_line(command("compare.py", "--logs", tmp_path), str(tmp_path), "train one first")


def test_images_that_have_changed_since_the_run_are_refused(logs, script, one_line):
    for regime in REGIMES:
        folder = logs / regime / "tiny"
        metrics = json.loads((folder / "metrics.json").read_text())
        edit(folder, data=metrics["data"] | {"sha256": "0" * 64})
    one_line(script("compare.py", "--logs", logs), "has changed since")


def test_a_model_that_is_damaged_is_refused(logs, script, one_line):
    for regime in REGIMES:
        path = logs / regime / "tiny" / "model.keras"
        path.write_bytes(path.read_bytes()[:1000])
    one_line(script("compare.py", "--logs", logs), "model.keras")
    assert not list(logs.glob("*/*/test.json"))
