"""compare.py ranks finished runs and looks at the test images once."""

import csv
import errno
import itertools
import json
import os
import re
import shutil
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REGIMES
from PIL import Image

import compare
import data
import predict
from transfer import depths, files, plots, results, runs, table


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
        "regime", "recipe", "epochs", "trainable parameters", "validation loss",
        "validation accuracy", "gap", "seconds", "images/s", "seeds",
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


def test_runs_without_near_duplicates_are_in_a_table_of_their_own(logs, script, one_line):
    path = logs / "full" / "tiny" / "metrics.json"
    config = json.loads(path.read_text())["config"]
    edit(path.parent, config=config | {"near_duplicates": "drop"})
    tables = script("compare.py", "--logs", logs).out
    assert (
        tables.count("validation accuracy  ") == 2
        and "near duplicates" not in tables.split("\n")[0]
    )
    assert "without near duplicates" in (logs / "comparison.md").read_text()
    result = script("predict.py", "--logs", logs, "photo.png")
    one_line(result, "used different images", "--run")


@pytest.mark.parametrize("kind", ["md", "csv"])
def test_a_folder_in_the_place_of_a_table_is_named(logs, script, kind):
    (logs / f"comparison.{kind}").mkdir()
    result = script("compare.py", "--logs", logs)
    assert result.status == 2
    assert f"{logs / 'comparison'}.{kind} can't be used: Is a directory" in result.err


def test_a_folder_in_the_place_of_metrics_is_named(logs, script):
    (logs / "full" / "tiny" / "metrics.json").unlink()
    (logs / "full" / "tiny" / "metrics.json").mkdir()
    result = script("compare.py", "--logs", logs)
    assert result.status == 0 and "metrics.json is damaged (it is a folder)" in result.out


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
    assert float(first["validation_accuracy_sd"]) == pytest.approx(
        statistics.stdev([0.3, 0.4, 0.5])
    )
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
    seen = {}
    monkeypatch.setattr(plots, "comparison", lambda *shown: seen.update(shown=shown))
    monkeypatch.setattr(plots, "save", lambda *_: None)
    compare.main(["--logs", str(logs)])
    _, curves, points, matrix, _, mistakes = seen["shown"]
    dataset = data.load("shapes")
    assert matrix.sum() == len(dataset.validation.labels)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(dataset.validation.labels))
    best = max(
        json.loads(p.read_text())["validation_accuracy"] for p in logs.glob("*/*/metrics.json")
    )
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
    assert regimes("--regime", "head", "all") == {"frozen", "full"}  # by their depths
    assert regimes("--data", "shapes", "--recipe", "tuned") == set(REGIMES)
    result = script("compare.py", "--logs", logs, "--recipe", "report")
    one_line(result, "none of the 3 finished runs")
    one_line(result, "match --recipe: without this option, compare.py lists all")
    result = script("compare.py", "--logs", logs, "--recipe", "report", "--regime", "full")
    one_line(result, "match --regime and --recipe: without these options, compare.py lists all")


def test_runs_on_different_data_are_not_ranked_against_each_other(logs, script):
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    other = metrics["data"] | {"sha256": "0" * 64, "description": "others"}
    edit(logs / "full" / "tiny", data=other, validation_accuracy=1.0)
    edit(logs / "frozen" / "tiny", validation_accuracy=0.9)
    edit(logs / "last_fire" / "tiny", validation_accuracy=0.1)
    (logs / "full" / "tiny" / "test.json").write_text('{"loss": 0.5, "accuracy": 0.25}')
    result = script("compare.py", "--logs", logs)
    assert result.out.count("regime ") == 2
    assert result.out.count("Best by validation accuracy") == 2
    # The others can't be drawn, their images being different ones; the rest goes on.
    assert result.status == 0, result.err
    assert "Not evaluated or drawn: shapes has changed since" in result.out
    assert result.out.count("Plot: ") == 1
    text = (logs / "comparison.md").read_text()
    assert text.count("| regime |") == 2 and "## others" in text
    # Each block is of the images that it names, as each table is.
    first, second = re.findall(r"(.+)\nregime ", result.out)
    assert first == "others" and second.startswith("shapes")
    for description, regime in ((first, "full"), (second, "frozen")):
        best = f"Best by validation accuracy: {logs / regime / 'tiny'}\n"
        assert f"\n\n{description}\n{best}" in result.out


def test_the_same_images_under_another_name_are_in_one_table(logs, script):
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    renamed = metrics["data"] | {"description": "renamed"}
    edit(logs / "full" / "tiny", data=renamed, validation_accuracy=1.0)
    result = script("compare.py", "--logs", logs)
    assert result.out.count("regime ") == result.out.count("Best by validation accuracy") == 1
    assert "## renamed" in (logs / "comparison.md").read_text()


def test_unfinished_and_damaged_runs_are_listed_and_skipped(logs, script):
    (logs / "full" / "tiny" / "metrics.json").unlink()
    (logs / "frozen" / "tiny" / "metrics.json").write_text('{"regime": "fro')
    result = script("compare.py", "--logs", logs)
    assert result.status == 0
    assert f"skipped {logs / 'full' / 'tiny'}: not finished" in result.out
    assert f"skipped {logs / 'frozen' / 'tiny' / 'metrics.json'} is damaged" in result.out
    edit(logs / "last_fire" / "tiny", epochs="ten")
    result = script("compare.py", "--logs", logs)
    assert "metrics.json has an unknown layout: it lacks epochs (int)" in result.out
    assert result.status == 2


def test_damaged_probabilities_are_named(logs, script, one_line):
    for path in logs.glob("*/*/validation.npz"):
        path.write_bytes(b"text")
    one_line(script("compare.py", "--logs", logs), "validation.npz is damaged: remove it")


def test_no_runs(command, script, one_line, tmp_path):
    one_line(command("compare.py", "--logs", tmp_path), str(tmp_path), "train one first")
    (tmp_path / "fire9" / "run").mkdir(parents=True)
    (tmp_path / "fire9" / "run" / "config.json").touch()
    one_line(script("compare.py", "--logs", tmp_path), "--resume, or the same sweep, continues one")


def test_the_folder_of_a_regime_is_not_that_of_all_runs(logs, script, one_line):
    for folder in (logs / "frozen", logs / "frozen" / "tiny"):
        one_line(script("compare.py", "--logs", folder), "expected the folder of all runs")


def test_images_that_have_changed_since_the_run_are_not_its_images(logs, script):
    for regime in REGIMES:
        folder = logs / regime / "tiny"
        metrics = json.loads((folder / "metrics.json").read_text())
        edit(folder, data=metrics["data"] | {"sha256": "0" * 64})
    result = script("compare.py", "--logs", logs)
    assert (
        "shapes has changed since: its images, or their splits, are no longer the run's"
        in result.out
    )
    assert "Test accuracy" not in result.out
    assert not list(logs.glob("*/*/test.json"))


def test_images_in_another_order_are_split_otherwise_and_not_the_runs(logs, script):
    for regime in REGIMES:
        folder = logs / regime / "tiny"
        metrics = json.loads((folder / "metrics.json").read_text())
        order = metrics["data"]["order"] | {"test": "0" * 64}
        edit(folder, data=metrics["data"] | {"order": order})
    result = script("compare.py", "--logs", logs)
    assert "its images, or their splits, are no longer the run's" in result.out
    assert "Test accuracy" not in result.out


def test_runs_of_classes_of_other_names_are_not_one_row(logs, script):
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    edit(logs / "full" / "tiny", data=metrics["data"] | {"class_names": [*"abcdefghij"]})
    result = script("compare.py", "--logs", logs)
    assert result.out.count("regime  ") == 2 and result.out.count("Test accuracy") == 1


def test_a_model_that_is_damaged_is_refused(logs, script, one_line):
    for regime in REGIMES:
        path = logs / regime / "tiny" / "model.keras"
        path.write_bytes(path.read_bytes()[:1000])
    one_line(script("compare.py", "--logs", logs), "model.keras")
    assert not list(logs.glob("*/*/test.json"))


DATA = {"source": "", "sha256": "", "description": "", "class_names": ["a", "b"]}
SETTINGS = {
    "optimizer": "adam", "image_size": 32, "seed": 0, "learning_rate": 0.001, "mirror": True,
    "name": "", "logs": "logs",
}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Writes a finished run that nothing trained, on images that are gone; returns its folder."""

    def write(
        name, accuracy, images=None, regime="frozen", recipe="tuned", source="/gone", **config
    ):
        folder = tmp_path / regime / name
        folder.mkdir(parents=True)
        figures = {key: [0.5, 0.25] for key in ("loss", "accuracy", "val_loss", "val_accuracy")}
        metrics = {
            "regime": regime,
            "recipe": recipe,
            "validation_loss": 1.0,
            "validation_accuracy": accuracy,
            "trainable_params": 1000,
            "epochs": 2,
            "seconds": 10.0,
            "images_per_second": 100.0,
            "precision": "float32",
            "history": figures,
            "data": DATA | {"source": source, "sha256": f"{source:0<64}", "description": source},
            "config": SETTINGS | {"regime": regime, "recipe": recipe, "data": source} | config,
        }
        if images is not None:
            metrics["validation_images"] = images
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return write


@pytest.fixture
def shown(script, tmp_path):
    """Compares; returns the output and, each as a list of rows by title, the three tables."""

    def compared():
        result = script("compare.py", "--logs", tmp_path)
        first = result.out.split("\n\n")[0].splitlines()
        head = next(line for line in first if line.startswith("regime"))
        result.rows = [re.split(r" {2,}", line) for line in first[first.index(head) + 1 :]]
        result.head = re.split(r" {2,}", head)
        lines = (tmp_path / "comparison.md").read_text().splitlines()
        result.markdown = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
        assert result.markdown[0] == result.head
        assert result.markdown[2:] == result.rows
        with (tmp_path / "comparison.csv").open(newline="") as file:
            result.csv = list(csv.DictReader(file))
        return result

    return compared


def column(shown, title):
    place = shown.head.index(title)
    return [row[place] for row in shown.rows]


def test_wilsons_interval():
    # The examples and ends of Newcombe 1998 (Statistics in Medicine 17, 857-872, table I, method 3).
    assert results.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert results.wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert results.wilson(0.0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert results.wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert results.wilson(13 / 15, 15) == pytest.approx((0.621, 0.963), abs=5e-4)
    for images in (1, 2, 3, 4, 10_000, 2**62):
        for accuracy in (0.0, 1 / 3, 0.5, 1.0):
            low, high = results.wilson(accuracy, images)
            assert 0 <= low <= accuracy <= high <= 1
        assert results.wilson(0.0, images)[0] == 0 and results.wilson(1.0, images)[1] == 1


def test_a_single_run_shows_its_interval(write, shown):
    write("few", 13 / 15, images=15)
    write("uncounted", 0.5, regime="full")
    for seed, accuracy in enumerate((0.1, 0.2)):
        write(f"seed-{seed}", accuracy, images=15, regime="last_fire", seed=seed)
    result = shown()
    cells = ["0.8667 [0.621, 0.963]", "0.5000", "0.1500 ± 0.0707"]
    assert column(result, "validation accuracy") == cells
    assert column(result, "seconds")[2] == "10 ± 0" and column(result, "epochs")[2] == "2"
    few, uncounted, several = result.csv
    low, high = (float(few[f"validation_accuracy_{end}"]) for end in ("low", "high"))
    assert (low, high) == pytest.approx(results.wilson(13 / 15, 15))
    assert uncounted["validation_accuracy_low"] == uncounted["validation_accuracy_high"] == ""
    # Its seeds validated on the same 15 images, not on 30.
    assert float(several["validation_accuracy_low"]) == pytest.approx(results.wilson(0.15, 15)[0])
    text = (write("other", 0.5).parents[1] / "comparison.md").read_text()
    assert "95 % Wilson score interval" in text and "conservative" in text


@pytest.mark.parametrize(
    "accuracies, images, words",
    [
        ((0.9, 0.8, 0.7), 10_000, "Best by validation accuracy: {}\n"),
        (
            (0.9, 0.8, 0.1),
            15,
            "Highest validation accuracy: {} (not distinguishable from 1 other row: ",
        ),
        (
            (0.9, 0.8, 0.7),
            15,
            "Highest validation accuracy: {} (not distinguishable from 2 other rows: ",
        ),
        ((0.9, 0.8, 0.7), None, "Best by validation accuracy: {}\n"),
        ((0.9,), 15, "Best by validation accuracy: {}\n"),
    ],
)
def test_rows_whose_intervals_overlap_are_not_called_better(
    accuracies, images, words, write, shown
):
    folders = [
        write("run", accuracy, images, regime)
        for regime, accuracy in zip(REGIMES, accuracies, strict=False)
    ]
    out = shown().out
    assert words.format(folders[0]) in out
    assert ("Best by" in out) != ("intervals overlap)" in out)


def test_two_seeds_tell_less_than_five(write, shown):
    def rows(seeds):
        for seed in seeds:
            write(f"a-{seed}", 0.90 + 0.01 * (seed % 2), 10**6, seed=seed)
            write(f"b-{seed}", 0.85 + 0.01 * (seed % 2), 10**6, regime="full", seed=seed)
        return shown().out

    # By Student's t, the means of two are uncertain by 12.7 of their standard errors, of six by 2.6.
    assert "not distinguishable from 1 other row" in rows((0, 1))
    assert "Best by validation accuracy" in rows((2, 3, 4, 5))


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize(("count", "words"), [(2, "not distinguishable"), (5, "Best by")])
def test_two_folds_or_splits_tell_less_than_five(folds, count, words, write, shown):
    for regime, accuracy in (("frozen", 0.90), ("full", 0.85)):
        for number in range(count):
            own = {"seed": 0, "folds": folds, "fold": number + 1} if folds else {"seed": number}
            accurate = accuracy + 0.01 * (number % 2)
            folder = write(f"{number}", accurate, 10**6, regime=regime, **own)
            edit(folder, data=DATA | {"validation_pool": f"{own['seed']}"})
    assert words in shown().out


def test_eleven_seeds_tell_less_than_a_thousand(write, shown):
    """Without the factor of Student's t, 1.137, the intervals would not overlap."""
    for regime, mean in (("frozen", 0.9), ("full", 0.862)):
        for seed in range(11):
            accuracy = mean + (0.03, -0.03)[seed % 2] * (seed < 10)
            write(f"{seed}", accuracy, 10**7, regime=regime, seed=seed)
    assert "not distinguishable from 1 other row" in shown().out


@pytest.mark.parametrize(
    ("freedom", "factor"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (60, 2.0)]
)
def test_students_t(freedom, factor):
    assert table.student(freedom) == pytest.approx(factor / 1.96, rel=0.01)


def test_the_best_model_is_that_of_the_best_row_not_of_the_luckiest_seed(write, shown, tmp_path):
    """predict.py and export.py take the run that compare.py names."""
    for seed, accuracy in enumerate((0.9, 0.7)):
        write(f"seed-{seed}", accuracy, seed=seed)
    steady = [write(f"steady-{seed}", 0.85, regime="full", seed=seed) for seed in (0, 1)]
    # An older run of the same settings and seed, which compare.py leaves out.
    older = write("older", 0.95, regime="full", seed=0)
    os.utime(older / "metrics.json", (0, 0))
    assert f"Best by validation accuracy: {steady[0]}\n" in shown().out
    asked = SimpleNamespace(model=None, run=None, logs=tmp_path, data=None)
    assert predict.choose_model(asked)[1].folder == steady[0]
    assert table.best(tmp_path, None, "RUN").folder == steady[0]


def test_other_images_of_the_same_name_are_told_apart(write, script, tmp_path):
    for number, accuracy in enumerate((0.5, 0.6)):
        folder = write(f"run-{number}", accuracy)
        about = json.loads((folder / "metrics.json").read_text())["data"]
        edit(folder, data=about | {"sha256": f"{number}" * 64})
    out = script("compare.py", "--logs", tmp_path).out
    text = (tmp_path / "comparison.md").read_text()
    with (tmp_path / "comparison.csv").open(newline="") as file:
        lines = [line["data"] for line in csv.DictReader(file)]
    names = [f"/gone, sha256 {number * 12}" for number in "01"]
    assert lines == names
    for name in names:
        assert f"{name}\n" in out and f"## {name}\n" in text


def test_a_folder_with_a_joiner_in_its_name(write, shown):
    folder = write("run", 0.5)
    about = json.loads((folder / "metrics.json").read_text())["data"]
    edit(folder, data=about | {"description": "می\u200cخک/"})
    assert column(shown(), "run") == ["run"]


def test_a_name_that_chooses_nothing_is_said(write, script, one_line, tmp_path):
    write("run", 0.5)
    chosen = "--regime", "frozen", "ful", "--data", "/gone", "/nope"
    result = script("compare.py", "--logs", tmp_path, *chosen)
    assert result.status == 0 and result.out.count("frozen")
    assert result.err.splitlines() == [
        f"compare.py: no finished run under {tmp_path} matches --{option}"
        for option in ("regime ful", "data /nope")
    ]


def test_folds_are_one_row(write, shown):
    accuracies = (0.5, 0.6, 0.7, 0.8, 0.9)
    for fold, accuracy in enumerate(accuracies, 1):
        write(f"fold-{fold}", accuracy, images=10, folds=5, fold=fold)
        if fold < 4:
            write(f"fold-{fold}", 0.1 * fold, images=10, regime="full", folds=5, fold=fold)
    write("whole", 0.65, images=10, fold=0, folds=0)
    result = shown()
    assert column(result, "folds") == ["5 of 5", "none", "3 of 5"]
    assert column(result, "seeds") == ["0", "0", "0"]
    assert column(result, "validation accuracy")[::2] == ["0.7000 ± 0.1581", "0.2000 ± 0.1000"]
    all_folds, _, some = result.csv
    assert (all_folds["folds"], all_folds["runs"], some["runs"]) == ("5", "5", "3")
    # Folds validate on images of their own, 50 in all.
    assert float(all_folds["validation_accuracy_low"]) == pytest.approx(results.wilson(0.7, 50)[0])


def test_folds_under_several_seeds_are_one_row_too(write, shown):
    for seed, finished in ((0, 3), (1, 2)):
        for fold in range(1, finished + 1):
            write(f"{seed}-{fold}", 0.2 * fold, images=10, seed=seed, folds=3, fold=fold)
    result = shown()
    assert column(result, "seeds") == ["0 1"] and column(result, "folds") == ["3, 2 of 3"]
    mean = statistics.fmean((0.2, 0.4, 0.6, 0.2, 0.4))
    assert column(result, "validation accuracy")[0].startswith(f"{mean:.4f} ± ")
    (row,) = result.csv
    assert float(row["validation_accuracy_low"]) == pytest.approx(results.wilson(mean, 30)[0])


def test_what_a_flag_set_has_a_column_though_a_rule_might_have_chosen_it(write, shown):
    write("few", 0.4, images_per_class=10, learning_rate=1e-4)
    write("all", 0.6, images_per_class=0, learning_rate=1e-3)
    assert "learning rate" not in shown().head
    write("fast", 0.5, images_per_class=10, learning_rate=10.0, given="epochs learning_rate")
    assert column(shown(), "learning rate") == ["0.001", "10", "0.0001"]


def test_a_copy_of_a_run_is_called_one(write, shown):
    original = write("original", 0.5)
    copy = shutil.copytree(original, original.parent / "copy")
    (original / "metrics.json").touch()
    out = shown().out
    assert (
        f"skipped {copy}: {original} has the same settings and seed 0, and is a copy of it" in out
    )


def test_means_over_runs_with_different_versions_are_said_to_be_such(write, shown):
    versions = ({"keras": "3.14.0", "python": "3.12"}, {"keras": "3.15.0", "python": "3.12"})
    for seed, known in enumerate(versions):
        edit(write(f"{seed}", 0.5, seed=seed), versions=known)
        write(f"older-{seed}", 0.4, regime="full", seed=seed)
        edit(write(f"row-{seed}", 0.4, optimizer=("sgd", "lion")[seed]), versions=known)
        noted = "different versions (keras 3.14.0, keras 3.15.0)" in shown().out
        assert noted == (seed == 1)


def test_names_of_folders_are_no_markup(write, script, tmp_path):
    write("a_b_*c*", 0.5, source="/my_[images]")
    assert "a_b_*c*" in script("compare.py", "--logs", tmp_path).out
    text = (tmp_path / "comparison.md").read_text()
    assert r"## /my\_\[images\]" in text and r"| a\_b\_\*c\* |" in text


def test_without_folds_there_is_no_column_of_them(write, shown):
    write("older", 0.5)
    write("newer", 0.6, seed=1, folds=0, fold=0, images_per_class=0, averaging=0.0)
    result = shown()
    # What an older run lacks is 0: both are one row.
    assert column(result, "seeds") == ["0 1"]
    assert "folds" not in result.head and "images per class" not in result.head
    assert "folds" not in result.csv[0]


def test_a_run_that_stands_twice_counts_once(write, shown):
    older, newer = write("b", 0.9), write("a", 0.5)
    folds = [write(f"fold-{name}", 0.4, folds=2, fold=2) for name in "ab"]
    os.utime(older / "metrics.json", (1e9, 1e9))
    os.utime(folds[0] / "metrics.json", (1e9, 1e9))
    result = shown()
    assert f"skipped {older}: {newer} has the same settings and seed 0, and is newer" in result.out
    assert (
        f"skipped {folds[0]}: {folds[1]} has the same settings and seed 0 and fold 2" in result.out
    )
    assert column(result, "validation accuracy") == ["0.5000", "0.4000"]
    assert column(result, "folds") == ["none", "1 of 2"]


def test_images_per_class_has_a_column_where_rows_differ_in_it(write, shown):
    amounts = {10: 0.3, 100: 0.5, 0: 0.8}
    for amount, accuracy in amounts.items():
        # As a rule sets them by the amount.
        derived = {"learning_rate": 0.01 / (amount or 4000), "dropout": amount / 1000}
        write(f"of-{amount}", accuracy, images_per_class=amount, **derived)
    result = shown()
    assert column(result, "images per class") == ["all", "100", "10"]
    assert "learning rate" not in result.head and "dropout" not in result.head
    assert [row["images_per_class"] for row in result.csv] == ["0", "100", "10"]
    assert len(result.out.splitlines()[0]) < 160
    # Asked for by a flag beside what the rule gives: two rows of one kind.
    write("asked", 0.2, images_per_class=10, learning_rate=0.5, dropout=0.01)
    result = shown()
    assert column(result, "learning rate") == ["2.5e-06", "0.0001", "0.001", "0.5"]
    assert "dropout" not in result.head
    assert result.csv[-1]["learning_rate"] == "0.5" and "dropout" not in result.csv[-1]


def test_settings_have_columns_where_rows_differ_in_them(write, shown):
    write("plain", 0.5, evaluation="plain", head="conv", batch_size=32)
    write("asked", 0.6, evaluation="mirrored", head="conv", batch_size=32, mirror=False)
    write("full", 0.7, regime="full", evaluation="plain", head="pooled", batch_size=64)
    result = shown()
    fixed = [
        "epochs", "trainable parameters", "validation loss", "validation accuracy", "gap", "seconds",
        "images/s", "seeds", "run",
    ]  # fmt: skip
    # Head and batch size follow from the regime, as far as these runs tell.
    assert sorted(result.head[2 : -len(fixed)]) == ["evaluation", "mirror"]
    assert result.head[-len(fixed) :] == fixed
    assert column(result, "evaluation") == ["plain", "mirrored", "plain"]
    assert column(result, "mirror") == ["yes", "no", "yes"]
    assert result.csv[1]["mirror"] == "False"


def test_other_weights_of_one_name_and_extended_runs_are_other_rows(write, shown):
    for seed, (sha256, extended) in enumerate((("a" * 64, ""), ("b" * 64, ""), ("b" * 64, "10"))):
        config = {"weights": f"/{seed}/mine.h5", "extended_from": extended, "seed": seed}
        folder = write(f"run{seed}", 0.5 + seed / 10, **config)
        edit(folder, weights={"source": "mine.h5", "sha256": sha256})
    result = shown()
    assert column(result, "weights") == ["mine.h5 bbbbbbbb", "mine.h5 bbbbbbbb", "mine.h5 aaaaaaaa"]
    assert column(result, "extended from") == ["10", "none", "none"]


def test_runs_on_classes_of_other_names_are_told_apart(write, script, one_line, tmp_path):
    for number, name in enumerate(("bees", "honeybees")):
        folder = write(f"run{number}", 0.5 + number / 10)
        about = json.loads((folder / "metrics.json").read_text())["data"]
        edit(folder, data=about | {"class_names": ["ants", name]})
    out = script("compare.py", "--logs", tmp_path).out
    assert "classes ants, bees" in out and "classes ants, honeybees" in out
    for source in ((), ("--data", "/gone")):
        result = script("predict.py", "photo.jpg", "--logs", tmp_path, *source)
        one_line(result, "used different images", "run0", "run1", "--run")


def test_folds_of_another_division_are_another_row(write, shown):
    for fold, validation_pool in ((1, "a"), (2, "b")):
        folder = write(f"run{fold}", 0.5, folds=2, fold=fold)
        about = json.loads((folder / "metrics.json").read_text())["data"]
        edit(folder, data=about | {"validation_pool": validation_pool * 64})
    assert column(shown(), "folds") == ["1 of 2", "1 of 2"]


def test_folds_of_images_that_each_seed_drew_are_one_row(write, shown):
    for regime in ("frozen", "full"):
        for seed, fold in itertools.product((0, 1), (1, 2)):
            accuracy = 0.5 + (seed if regime == "full" else 1 - seed) / 10
            folder = write(f"{seed}-{fold}", accuracy, regime=regime, seed=seed, folds=2, fold=fold)
            about = json.loads((folder / "metrics.json").read_text())["data"]
            edit(folder, data=about | {"validation_pool": f"{seed}" * 64})
    result = shown()
    assert column(result, "folds") == ["2 of 2", "2 of 2"]
    assert column(result, "seeds") == ["0 1", "0 1"]
    assert "validation pool" not in result.head


def test_test_images_that_other_seeds_validated_on_are_mentioned(logs, script, tmp_path):
    first = logs / "full" / "tiny"
    other = shutil.copytree(first, logs / "full" / "other")
    metrics = json.loads((first / "metrics.json").read_text())
    for split, said in (("validation", False), ("test", True)):
        metrics["config"]["seed"] = 99
        metrics["data"]["order"][split] = "0" * 64
        edit(other, config=metrics["config"], data=metrics["data"])
        result = script("compare.py", "--logs", logs)
        assert ("A test/ folder prevents that." in result.out) == said


def test_runs_of_one_seed_on_other_splits_are_both_kept(write, shown):
    for number in range(2):
        folder = write(f"run{number}", 0.5 + number / 10)
        about = json.loads((folder / "metrics.json").read_text())["data"]
        edit(folder, data=about | {"order": {"validation": f"{number}" * 64}})
    result = shown()
    assert "skipped" not in result.out + result.err
    assert result.csv[0]["runs"] == "2"


def test_an_extended_run_is_marked_where_it_stands_alone(write, shown):
    write("longer", 0.6, extended_from="10")
    assert column(shown(), "extended from") == ["10"]


def test_settings_that_say_nothing_about_training_make_no_row(write, shown):
    write("one", 0.5, seed=0)
    others = {"features": "none", "histograms": True, "on_bad_image": "skip", "resume": "x"}
    write("other", 0.6, seed=1, **others)
    assert column(shown(), "seeds") == ["0 1"]


def test_optimizer_and_image_size_have_columns_where_rows_differ(write, shown):
    write("small", 0.5)
    write("large", 0.6, regime="full", image_size=1224, optimizer="sgd")
    result = shown()
    assert column(result, "image size (px)") == ["1,224", "32"]
    assert column(result, "optimizer") == ["sgd", "adam"]
    assert list(result.csv[0])[:5] == ["data", "regime", "recipe", "optimizer", "image_size"]
    assert list(result.csv[0])[-1] == "best_run"


def test_what_differs_is_shown_without_control_characters(write, shown):
    write("one", 0.5, weights="a\x1b[2J")
    write("other", 0.6, weights="imagenet")
    result = shown()
    assert column(result, "weights") == ["imagenet", r"'a\x1b[2J'"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"validation_images": 0}, "its validation images"),
        ({"validation_images": "many"}, "its validation images"),
        ({"validation_accuracy": 1.5}, "an accuracy from 0 to 1"),
        ({"config": SETTINGS | {"fold": -1}}, "images per class and folds"),
        ({"config": SETTINGS | {"images_per_class": "all"}}, "images per class and folds"),
        ({"trainable_params": -5}, "positive figures"),
        ({"seconds": -1.0}, "positive figures"),
        ({"total_params": "many"}, "its parameters"),
        ({"data": DATA | {"order": {"validation": []}}}, "the order of its images"),
        ({"data": DATA | {"validation_pool": ["x"]}}, "the images to validate on"),
        ({"config": SETTINGS | {"given": 1}}, "the settings that were given"),
    ],
)
def test_counts_that_are_none_are_refused(changes, words, write, script, tmp_path):
    folder = write("run", 0.5)
    edit(folder, **changes)
    out = script("compare.py", "--logs", tmp_path).out
    assert f"skipped {folder / 'metrics.json'} has an unknown layout: it lacks {words}" in out


def test_a_huge_loss_is_a_loss(write, shown):
    edit(write("run", 0.5), validation_loss=1.7e24)
    assert column(shown(), "run") == ["run"]


def test_the_plot_shows_intervals_of_single_runs_and_deviations_of_several(write, tmp_path):
    write("single", 0.5, images=20)
    for seed in (0, 1):
        write(f"several-{seed}", 0.6 + seed / 10, images=20, regime="full", seed=seed)
    write("uncounted", 0.4, regime="last_fire")
    ((_, rows),) = table.rank(runs.find(tmp_path)[0])
    ends = {regime: ends for regime, *_, ends in compare.points(rows)}
    assert ends["frozen"] == pytest.approx(results.wilson(0.5, 20))
    assert ends["full"] == pytest.approx((0.65 - 0.005**0.5, 0.65 + 0.005**0.5))
    assert ends["last_fire"] is None


def test_error_bars_reach_from_end_to_end():
    from matplotlib.figure import Figure

    def drawn(ends):
        axes = Figure().subplots()
        plots._draw_points(axes, [("full", "full", 10, 5, 0.5, ends)], lambda p: p[2], "seconds")
        bars = [bar.get_segments()[0][:, 1] for bar in axes.collections]
        return axes.get_xlabel(), bars

    caption, (bar,) = drawn((0.25, 0.875))
    assert list(bar) == [0.25, 0.875] and "95 % interval" in caption
    caption, bars = drawn(None)
    assert not bars and "interval" not in caption


def test_a_file_of_weights_is_one_under_any_name(write, shown):
    for seed in (0, 1):
        folder = write(f"{seed}", 0.5, weights=f"/{seed}.h5", seed=seed)
        edit(folder, weights={"source": f"/{seed}.h5", "sha256": 64 * "a"})
    assert column(shown(), "seeds") == ["0 1"]


def test_ties_of_means_are_decided_by_the_loss(write, shown):
    for size, accuracies in ((96, (5 / 6, 5 / 6)), (64, (1.0, 2 / 3))):
        for seed, accuracy in enumerate(accuracies):
            folder = write(f"{size}-{seed}", accuracy, image_size=size, seed=seed)
            edit(folder, validation_loss=size / 100)
    assert statistics.fmean((5 / 6, 5 / 6)) > statistics.fmean((1, 2 / 3))  # by the last digit
    assert column(shown(), "image size (px)") == ["64", "96"]


def test_runs_from_before_images_were_moved_are_on_them_too(write, script, tmp_path):
    for place, accuracy, seed in (("/before", 0.9, 0), ("/after", 0.5, 1)):
        folder = write(place[1:], accuracy, source=place, seed=seed)
        metrics = json.loads((folder / "metrics.json").read_text())
        edit(folder, data=metrics["data"] | {"sha256": 64 * "a"})
    write("others", 0.95)
    result = script("compare.py", "--logs", tmp_path, "--data", "/after")
    assert f"Best by validation accuracy: {tmp_path}/frozen/before" in result.out
    assert "others" not in result.out
    assert table.best(tmp_path, "/after", "--run").folder.name == "before"


def test_runs_a_level_further_down_are_pointed_to(write, script, one_line, tmp_path):
    shutil.move(write("one", 0.5).parent, tmp_path / "demo" / "frozen")
    result = script("compare.py", "--logs", tmp_path)
    one_line(result, f"but under {tmp_path}/demo: give that as --logs")


def test_long_names_of_points_leave_the_plots_their_room():
    names = [f"full, tuned, {'a long name ' * 9}{number}" for number in range(9)]
    points = [("full", name, 10, 5, 0.5, None) for name in names]
    curves = [("full", "full", {"epoch": [1], "accuracy": [0.5], "val_accuracy": [0.5]})]
    figure = plots.comparison("images", curves, points, np.eye(2), ["a", "b"], [])
    plots.to_pixels(figure)
    for axes in figure.axes[:3]:
        assert axes.get_position().width > 0.2
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert [line[:2] for line in shown] == [text.get_text() + " " for text in figure.axes[1].texts]
    assert len(shown) == plots.NAMED_POINTS and shown[0].startswith("1  full, tuned, a long name")


def test_points_are_named_by_the_amount_where_rows_differ_in_it(write, tmp_path):
    for amount in (0, 10):
        write(f"of-{amount}", 0.5 - amount / 100, images_per_class=amount)
    ((_, rows),) = table.rank(runs.find(tmp_path)[0])
    assert [compare.name(row, rows) for row in rows] == [
        "frozen, tuned, all images", "frozen, tuned, 10 per class"
    ]  # fmt: skip
    assert compare.name(rows[0], rows[:1]) == "frozen, tuned"


def test_points_are_named_by_the_weights_where_rows_differ_in_them(write, tmp_path):
    for accuracy, weights in ((0.5, "drawn"), (0.4, "none")):
        write(weights, accuracy, weights=weights)
    ((_, rows),) = table.rank(runs.find(tmp_path)[0])
    names = [compare.name(row, rows) for row in rows]
    assert names == ["frozen, tuned, drawn", "frozen, tuned, random"]


def test_points_are_named_by_whatever_rows_differ_in(write, tmp_path):
    for accuracy, optimizer in ((0.5, "sgd"), (0.4, "adam")):
        write(optimizer, accuracy, optimizer=optimizer)
    ((_, rows),) = table.rank(runs.find(tmp_path)[0])
    names = [compare.name(row, rows) for row in rows]
    assert names == ["frozen, tuned, optimizer sgd", "frozen, tuned, optimizer adam"]
    write("full", 0.6, regime="full", image_size=64)
    ((_, rows),) = table.rank(runs.find(tmp_path)[0])
    assert [compare.name(row, rows) for row in rows] == ["full, tuned", *names]


def test_points_are_named_by_the_epochs_where_rows_differ_in_nothing_else(write, tmp_path):
    for accuracy, epochs in ((0.5, 40), (0.4, 80)):
        write(f"{epochs}", accuracy, epochs=epochs)
    write("full", 0.3, regime="full", epochs=20)
    ((_, rows),) = table.rank(runs.find(tmp_path)[0])
    names = ["frozen, tuned, 40 epochs", "frozen, tuned, 80 epochs", "full, tuned"]
    assert [compare.name(row, rows) for row in rows] == names


def test_points_of_each_depth_have_a_marker_of_their_own():
    styles = [plots._style(depths.regime(depth)) for depth in depths.DEPTHS]
    assert len({marker for marker, _ in styles} | {plots.STYLES[None][0]}) == len(styles) + 1
    assert len({grey for _, grey in styles}) == len(styles)


def test_points_are_named_by_the_folds_where_rows_differ_in_them(write, tmp_path):
    write("whole", 0.5)
    for fold in (1, 2):
        write(f"fold-{fold}", 0.4, folds=2, fold=fold)
    groups = table.rank(runs.find(tmp_path)[0])
    rows = [row for _, own in groups for row in own]
    names = [compare.name(row, rows) for row in rows]
    assert sorted(names) == ["frozen, tuned, 2 folds", "frozen, tuned, no folds"]


def test_a_copy_without_its_model_does_not_displace_the_run(logs, tmp_path):
    whole = logs / "full" / "tiny"
    copy = shutil.copytree(whole, tmp_path / "full" / "copy")
    shutil.copytree(whole, tmp_path / "full" / "run")
    (copy / "model.keras").write_bytes(b"")
    later = (copy / "metrics.json").stat().st_mtime + 60
    os.utime(copy / "metrics.json", (later, later))
    ((kept,), (line,)) = table.one_a_seed(runs.find(tmp_path)[0])
    assert kept.folder.name == "run" and line.startswith(str(copy))
    assert line.endswith("and its model is intact")


def test_planned_epochs_have_a_column_where_runs_stop_early(write, shown, tmp_path):
    for accuracy, epochs in ((0.5, 40), (0.4, 80)):
        write(f"{epochs}", accuracy, epochs=epochs, early_stopping=6)
    assert [row[shown().head.index("planned epochs")] for row in shown().rows] == ["40", "80"]
    write("full", 0.3, regime="full", epochs=80, early_stopping=6, given="epochs")
    shutil.rmtree(tmp_path / "frozen" / "80")
    assert [row[shown().head.index("planned epochs")] for row in shown().rows] == ["40", "80"]


def test_without_near_duplicates_sizes_are_not_compared(write, tmp_path):
    for size in (96, 160):
        folder = write(f"{size}", 0.5, near_duplicates="drop", image_size=size)
        about = json.loads((folder / "metrics.json").read_text())["data"]
        edit(folder, data=about | {"side": size})
    described = [name for name, _ in table.rank(runs.find(tmp_path)[0])]
    assert described == [f"/gone without near duplicates, at {size} px" for size in (160, 96)]


def test_the_best_runs_images_are_read_as_it_read_them(write, tmp_path, monkeypatch):
    how = {"images_per_class": 10, "folds": 5, "fold": 2, "seed": 3}
    write("run", 0.5, source="shapes", on_bad_image="skip", **how)
    write("older", 0.4, source="cifar10", images_per_class=0)
    asked = []

    def load(source, **how):
        asked.append(how)
        raise ValueError("seen")

    monkeypatch.setattr(data, "load", load)
    assert compare.main(["--logs", str(tmp_path)]) == 0
    assert asked == [
        {"image_size": 32, "seed": 0},
        {"image_size": 32, "on_bad_image": "skip", **how},
    ]


def test_runs_that_were_moved_to_another_level_are_said(write, shown, tmp_path):
    write("run", 0.5)
    for place in ("moved", "frozen/backup/moved"):
        shutil.copytree(tmp_path / "frozen" / "run", tmp_path / place)
        expected = f"skipped {tmp_path / place}: expected a run in a folder of its regime"
        assert expected in shown().out
    shutil.copytree(tmp_path / "frozen", tmp_path / "other_logs" / "frozen")
    assert "other_logs" not in shown().out


def test_a_comparison_that_is_interrupted_removes_no_plot(logs, script, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    assert script("compare.py", "--logs", logs).status == 0
    monkeypatch.setattr("transfer.plots.comparison", interrupted)
    assert script("compare.py", "--logs", logs).status == 130
    assert (logs / "comparison.png").exists()


def test_plots_of_an_earlier_table_are_removed(write, script, tmp_path):
    write("run", 0.5)  # its images are gone, so that it isn't drawn
    mine = ["comparison-1.png", "comparison-2024.png", "comparison-mine.png", "comparison2.png"]
    names = ["comparison.png", "comparison-2.png", "comparison-13.png", *mine]
    for name in names:
        (tmp_path / name).touch()
    script("compare.py", "--logs", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == mine


def test_pictures_that_are_none_of_its_plots_stay(logs, script):
    for name in ("comparison.png", "comparison-2.png"):
        Image.new("RGB", (9, 9)).save(logs / name)
    before = {path: path.read_bytes() for path in logs.glob("*.png")}
    result = script("compare.py", "--logs", logs)
    assert result.status == 2 and "Best by" not in result.out
    assert result.status == 2 and "Test accuracy" in result.out
    assert "comparison.png exists and is not a plot of this project: move it" in result.err
    assert {path: path.read_bytes() for path in logs.glob("*.png")} == before


def test_of_equal_accuracies_the_lower_loss_is_the_better(write, shown):
    for name, regime, loss in (("a", "full", 0.4), ("b", "last_fire", 0.1)):
        edit(write(name, 1.0, regime=regime), validation_loss=loss)
    assert column(shown(), "regime") == ["last_fire", "full"]


def test_a_folder_that_cant_be_written_to_is_named_and_the_best_run_too(
    write, script, tmp_path, monkeypatch
):
    write("run", 0.5)

    def full(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.os, "replace", full)
    result = script("compare.py", "--logs", tmp_path)
    assert result.status == 2
    assert f"{tmp_path / 'comparison.md'}" in result.err and result.err.count("\n") == 1
    assert "Best by validation accuracy" in result.out
    assert not list(tmp_path.glob(".*"))


def test_words_that_the_terminal_cant_show_are_no_traceback(write, tmp_path, command):
    for seed in (0, 1):
        edit(write(f"seed-{seed}", 0.5 + seed / 10), config=SETTINGS | {"seed": seed})
    result = command("compare.py", "--logs", tmp_path, PYTHONIOENCODING="ascii")
    assert "0.5500 \\xb1 0.0707" in result.out and result.err == ""
    assert "0.5500 ± 0.0707" in (tmp_path / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"loss": 0.5}', '{"loss": 1.0, "accuracy": "x"}', "{"]
)
def test_a_test_json_of_another_layout_is_computed_again(content, write, monkeypatch):
    folder = write("run", 0.5)
    (folder / "test.json").write_text(content)
    run = runs.Run(folder, results.read_metrics(folder))
    monkeypatch.setattr(compare, "evaluate", lambda run, dataset, split: (None, 0.5, 0.75))
    dataset = data.Dataset(*[None] * 7)
    expected = {"loss": 0.5, "accuracy": 0.75}
    assert compare.test_figures(run, dataset) == expected
    monkeypatch.setattr(compare, "evaluate", None)
    assert compare.test_figures(run, dataset) == expected


def test_ctrl_c(write, script, tmp_path, monkeypatch, one_line):
    write("run", 0.5, source="shapes")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "load", interrupted)
    one_line(script("compare.py", "--logs", tmp_path), "interrupted", status=130)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("gone", "no longer exists"), ("empty", "can no longer be read")],
)
def test_a_run_whose_images_are_gone_does_not_keep_the_others_from_being_looked_at(
    source, reason, logs, script, tmp_path
):
    (tmp_path / "empty").mkdir()
    source = str(tmp_path / source)
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    gone = metrics["data"] | {"sha256": "0" * 64, "description": "a", "source": source}
    edit(logs / "full" / "tiny", data=gone)
    result = script("compare.py", "--logs", logs)
    folder = logs / "full" / "tiny"
    assert result.status == 0, result.err
    assert f"Not evaluated or drawn: {source} {reason}" in result.out
    # Its group, the first, is ranked nevertheless, and the other one evaluated and drawn.
    assert f"Best by validation accuracy: {folder}" in result.out
    assert result.out.count("regime ") == 2 and result.out.count("Test accuracy") == 1
    assert (logs / "comparison-2.png").exists() and not (logs / "comparison.png").exists()


def test_a_plot_that_can_not_be_drawn_again_stays(logs, script, tmp_path):
    assert script("compare.py", "--logs", logs, "--regime", "full").status == 0
    before = (logs / "comparison.png").read_bytes()
    metrics = json.loads((logs / "full" / "tiny" / "metrics.json").read_text())
    gone = metrics["data"] | {"sha256": "0" * 64, "source": str(tmp_path / "gone")}
    edit(logs / "full" / "tiny", data=gone)
    result = script("compare.py", "--logs", logs, "--regime", "full")
    assert result.status == 0, result.err
    assert f"\n{logs / 'comparison.png'} is left as it was\n" in result.out
    assert (logs / "comparison.png").read_bytes() == before


def test_what_is_known_of_the_test_images_is_shown_though_they_are_gone(logs, script):
    folder = logs / "full" / "tiny"
    metrics = json.loads((folder / "metrics.json").read_text())
    edit(folder, data=metrics["data"] | {"sha256": "0" * 64, "source": "/gone/a"})
    (folder / "test.json").write_text('{"loss": 0.25, "accuracy": 0.625}')
    out = script("compare.py", "--logs", logs, "--data", "/gone/a").out
    assert "Test accuracy (NORMALIZED): 0.625\nNot evaluated or drawn: /gone/a" in out


def test_images_that_were_moved_are_found_where_another_run_found_them(logs, script):
    for regime in ("frozen", "last_fire"):
        metrics = json.loads((logs / regime / "tiny" / "metrics.json").read_text())
        edit(logs / regime / "tiny", data=metrics["data"] | {"source": "/gone/a"})
    edit(logs / "frozen" / "tiny", validation_accuracy=0.99)
    result = script("compare.py", "--logs", logs, "--data", "/gone/a", "shapes")
    assert f"Best by validation accuracy: {logs / 'frozen' / 'tiny'}" in result.out
    assert result.out.count("Test accuracy") == 1, result.out + result.err
