import dataclasses
import json
import subprocess
import sys

import pytest
from conftest import ROOT, TINY

SECTIONS = {
    "frozen": [{
        "regime": "frozen", "seconds": 40.0, "validation_accuracy": 0.8, "precision": "float32",
        "plain_seconds": 400.0, "plain_validation_accuracy": 0.81,
    }],
    "step": [{
        "precision": "float32", "milliseconds": 2.0, "gigaflops": 100.0, "product": 200.0,
        "torch": 3.0,
    }],
    "pipeline": [{"regime": "full", "real": 19.0, "fixed": 20.0}],
    "images": [
        {"images": count, "frozen": 1 + count / 1e3, "last_fire": 2.0, "full": count / 1e2}
        for count in (1000, 2000, 4000)
    ],
    "sizes": [
        {"image_size": size, "frozen": 1.0, "last_fire": 2.0, "full": 3 + size**2 / 1e4}
        for size in (100, 200)
    ],
    "memory": [{"regime": "full", "one_epoch": 1.25, "three_epochs": 1.5}],
}  # fmt: skip


def module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("regime", ["frozen", "full"])
def test_plain_keras_trains_a_regime(regime):
    out = module("benchmarks.plain_keras", regime, *TINY, "--optimizer", "sgd")
    assert "Epoch 2/2" in out
    result = json.loads(out.splitlines()[-1].replace("'", '"'))
    assert result["seconds"] > 0 and 0 <= result["validation_accuracy"] <= 1


def test_tables_and_picture_show_the_figures(tmp_path):
    from benchmarks import speed_report

    results = {
        name: {"title": f"About {name}.", "data": "drawn", "machine": "here", "rows": rows}
        for name, rows in SECTIONS.items()
    }
    speed_report.write(results, tmp_path / "speed.json")
    text = (tmp_path / "speed.md").read_text()
    assert "| frozen | 40 | 400 | 10.0 | float32 | 0.8000 | 0.8100 |" in text
    assert "| float32 | 2.00 | 3.00 | 1.50 | 100 | 200 | 50% |" in text
    assert "| full | 19.0 | 20.0 | 95.0% |" in text
    assert "| full | 1.25 | 1.50 |" in text
    assert "- frozen: 1.0 s and 1.00 s for each 1,000 images; the figures are within 0%" in text
    assert "- full: 3.0 s and 1.00 s for each 10,000 pixels" in text
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_the_tables_kept_are_those_of_the_figures_kept(tmp_path):
    from benchmarks import speed_report

    kept = ROOT / "benchmarks" / "speed.json"
    speed_report.write(json.loads(kept.read_text()), tmp_path / "speed.json")
    assert (tmp_path / "speed.md").read_text() == kept.with_suffix(".md").read_text()


def test_the_ablation_goes_from_report_to_tuned():
    import data
    import experiment
    import train_frozen
    from benchmarks import ablation

    dataset = data.load("shapes")

    def asked(recipe):
        arguments = ["--data", "shapes", "--recipe", recipe]
        config = experiment.parse_config(train_frozen.DEFAULTS, arguments)
        return experiment.follow(config, dataset)[0]

    (_, _, first), *others = ablation.steps("shapes")
    assert first == asked("report")
    assert dataclasses.replace(others[-1][2], recipe="tuned") == asked("tuned")
    configs = [first] + [config for *_, config in others]
    assert len(set(configs)) == len(configs)


def test_tables_and_pictures_of_ablation_and_optimizers(tmp_path):
    from benchmarks import ablation, optimizers

    figures = {"data": "drawn", "accuracies": [0.25, 0.75], "losses": [1.0, 2.0]}
    row = {"change": "a change", "cause": "a cause"} | figures
    ablation.write({"rows": [row, row | {"change": "another"}]}, tmp_path / "ablation.json")
    text = (tmp_path / "ablation.md").read_text()
    assert "| a change | 0.500 (0.2500, 0.7500) | a cause |" in text

    history = {"epoch": [1, 2], "val_loss": [3.0, 2.0]}
    row = {"optimizer": "sgd", "learning_rate": 0.01, "history": history} | figures
    optimizers.write({"rows": [row]}, tmp_path / "optimizers.json")
    text = (tmp_path / "optimizers.md").read_text()
    assert "| sgd | 0.01 | 0.5000 (0.2500, 0.7500) | 1.5000 |" in text
    for name in ("ablation.png", "optimizers.png"):
        assert (tmp_path / name).stat().st_size > 10_000
