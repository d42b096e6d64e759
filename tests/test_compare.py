"""compare.py ranks finished runs and looks at the test images once."""

import json
import shutil

import pytest
from conftest import REGIMES


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
    for column in ("regime", "recipe", "data", "epochs", "trainable parameters", "seconds"):
        assert column in header
    assert [row.split()[0] for row in rows] == ["last_fire", "full", "frozen"]
    assert all("drawn" in row for row in rows)
    assert f"Best by validation accuracy: {logs / 'last_fire' / 'tiny'}" in result.out


def test_the_best_is_evaluated_on_the_test_images_once(logs, script):
    first = script("compare.py", "--logs", logs)
    remembered = list(logs.glob("*/*/test.json"))
    assert len(remembered) == 1
    figures = json.loads(remembered[0].read_text())
    assert f"Test accuracy (NORMALIZED): {figures['accuracy']}" in first.out
    (remembered[0].parent / "model.keras").unlink()
    assert script("compare.py", "--logs", logs).out == first.out


def test_runs_on_different_data_are_not_ranked_against_each_other(logs, script):
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    other = metrics["data"] | {"sha256": "0" * 64, "description": "others"}
    edit(logs / "full" / "tiny", data=other, validation_accuracy=1.0)
    (logs / "full" / "tiny" / "test.json").write_text('{"loss": 0.5, "accuracy": 0.25}')
    result = script("compare.py", "--logs", logs)
    assert result.out.count("regime ") == 2
    assert result.out.count("Best by validation accuracy") == 2
    assert "Test accuracy (NORMALIZED): 0.25" in result.out


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
