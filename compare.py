"""Which depth of unfreezing wins? Reads the finished runs, ranks them, never trains.

    python compare.py                      # --regime, --recipe and --data choose among the runs

Runs of equal settings under several seeds are one row. Rows are ranked by validation accuracy, each
kind of data for itself. Of the best row the best run is evaluated on the test images, once: its
folder remembers the figures. Table and pictures are left beside the runs as comparison.md, .csv
and .png.
"""

import csv
import io
import itertools
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

import cli
import data
import runs

MISTAKES = 18
# What may differ between runs of one row.
NOT_SETTINGS = ("seed", "name", "logs", "data", "features", "histograms", "precision", "on_bad_image")


class Column(NamedTuple):
    """A column: its title and its name in the .csv, its value for a run, and how that is shown."""

    title: str
    key: str
    of: callable
    format: str = "{}"

    @property
    def numeric(self):
        return self.format != "{}"


def metric(title, key, format):
    return Column(title, key, lambda run: run.metrics[key], format)


def setting(title, key, format):
    return Column(title, key, lambda run: run.metrics["config"][key], format)


def gap(run):
    """Training accuracy, with dropout and changed views, less validation accuracy."""
    metrics = run.metrics
    kept = metrics.get("best_epoch", metrics["epochs"])
    return metrics["history"]["accuracy"][kept - 1] - metrics["validation_accuracy"]


COLUMNS = (
    metric("regime", "regime", "{}"),
    metric("recipe", "recipe", "{}"),
    setting("optimizer", "optimizer", "{}"),
    setting("image size (px)", "image_size", "{:.0f}"),
    metric("epochs", "epochs", "{:.0f}"),
    metric("trainable parameters", "trainable_params", "{:,.0f}"),
    metric("validation loss", "validation_loss", "{:.4f}"),
    metric("validation accuracy", "validation_accuracy", "{:.4f}"),
    Column("gap", "accuracy_gap", gap, "{:+.3f}"),
    metric("seconds", "seconds", "{:.0f}"),
    metric("images/s", "images_per_second", "{:.0f}"),
)
BY_KEY = {column.key: column for column in COLUMNS}
ACCURACY = BY_KEY["validation_accuracy"]


class Row(NamedTuple):
    """Runs of equal settings under several seeds, the best first."""

    runs: list

    def values(self, column):
        """Gives the mean of a figure and its standard deviation (None of one run), or the text."""
        values = [column.of(run) for run in self.runs]
        if not column.numeric:
            return values[:1]
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None

    def show(self, column):
        value, *spread = self.values(column)
        shown = column.format.format(value)
        if spread and spread[0]:
            shown += " ± " + column.format.replace("+", "").format(spread[0])
        return shown


def main(arguments=None):
    parser = cli.Parser(description="Compares the finished runs.", allow_abbrev=False)
    parser.add_argument("--logs", default="logs", help="folder of all runs [logs]")
    parser.add_argument("--regime", nargs="+", help="only runs of these regimes")
    parser.add_argument("--recipe", nargs="+", help="only runs of these recipes")
    parser.add_argument("--data", nargs="+", help="only runs on these data, as --data named them")
    asked = parser.parse_args(arguments)

    finished, others = runs.find(asked.logs)
    for line in others:
        print(f"skipped {line}")
    if not finished:
        cli.stop(f"no finished run under {asked.logs}: train one first, such as by train_frozen.py")
    chosen = [run for run in finished if matches(run, asked)]
    if not chosen:
        cli.stop(f"none of the {len(finished)} finished runs under {asked.logs} is of that kind")
    groups = rank(chosen)
    for _, rows in groups:
        print(text_table(rows), end="\n\n")
    with cli.one_line_errors():
        write_tables(groups, Path(asked.logs))
    status = 0
    for number, (description, rows) in enumerate(groups, 1):
        name = "comparison.png" if number == 1 else f"comparison-{number}.png"
        try:
            report_best(description, rows, Path(asked.logs) / name)
        except (OSError, ValueError) as error:
            cli.complain(error)
            status = 2
    return status


def matches(run, asked):
    return (
        (not asked.regime or run.metrics["regime"] in asked.regime)
        and (not asked.recipe or run.metrics["recipe"] in asked.recipe)
        and (not asked.data or run.is_on(asked.data))
    )


def rank(finished):
    """Sorts runs into rows, the best first, for each kind of data a description and its rows."""
    by_settings = {}
    for run in finished:
        by_settings.setdefault(identity(run), []).append(run)
    rows = [Row(sorted(row, key=runs.rank)) for row in by_settings.values()]
    rows.sort(key=lambda row: row.values(ACCURACY)[0], reverse=True)
    groups = {}
    for row in rows:
        best = row.runs[0]
        groups.setdefault((best.metrics["data"]["description"], best.fingerprint), []).append(row)
    return [(description, groups[description, sha256]) for description, sha256 in sorted(groups)]


def identity(run):
    config = run.metrics["config"]
    settings = sorted((key, value) for key, value in config.items() if key not in NOT_SETTINGS)
    return run.fingerprint, run.metrics["precision"], tuple(settings)


def cells(rows):
    """Gives the head and the cells of a table as lists of strings."""
    head = [column.title for column in COLUMNS] + ["seeds", "run"]
    body = [
        [row.show(column) for column in COLUMNS]
        + [" ".join(map(str, sorted(run.metrics["config"]["seed"] for run in row.runs))), row.runs[0].folder.name]
        for row in rows
    ]
    return head, body


def text_table(rows):
    """Lays rows out as text, a line each; columns of figures are flush right."""
    head, body = cells(rows)
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    numeric = [column.numeric for column in COLUMNS] + [False, False]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [head, *body]
    )


def write_tables(groups, logs):
    """Writes comparison.md and comparison.csv."""
    text = ["# Comparison of runs"]
    for description, rows in groups:
        head, body = cells(rows)
        text.append(f"## {description}\n\n{cli.markdown_table(head, body)}")
    text.append(
        "± is the standard deviation over the seeds. The gap is the training accuracy, measured with "
        "dropout and changed views, less the validation accuracy. A row's run is its best."
    )
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [[column.key, f"{column.key}_sd"][: 1 + column.numeric] for column in COLUMNS]
    writer.writerow(["data", *itertools.chain(*names), "runs", "best_run"])
    for description, rows in groups:
        for row in rows:
            values = itertools.chain(*(row.values(column) for column in COLUMNS))
            writer.writerow([description, *values, len(row.runs), row.runs[0].folder])
    for name, content in (("md", "\n\n".join(text) + "\n"), ("csv", file.getvalue())):
        with runs.written_whole(logs / f"comparison.{name}") as part:
            part.write_text(content)


def report_best(description, rows, picture):
    """Says which run is the best and how it does on the test images; draws the picture."""
    best = rows[0].runs[0]
    print(f"Best by validation accuracy: {best.folder}", flush=True)
    config = best.metrics["config"]
    how = {key: config[key] for key in ("image_size", "seed", "on_bad_image") if key in config}
    dataset = data.load(best.metrics["data"]["source"], **how)
    if dataset.fingerprint != best.fingerprint:
        source = best.metrics["data"]["source"]
        raise ValueError(f"{source} has changed since {best.folder}: its images are not the run's")
    test = test_figures(best, dataset)
    print(f"Test loss: {test['loss']}")
    print(f"Test accuracy (NORMALIZED): {test['accuracy']}")
    draw(f"Validation accuracy on {description}", rows, best, dataset, picture)
    print(f"Picture: {picture}", end="\n\n")


def test_figures(run, dataset):
    """Gives a run's loss and accuracy on the test images, evaluated on the first call only.

    Raises:
        OSError, ValueError: The model can't be read.
    """
    path = run.folder / "test.json"
    if path.exists():
        return runs.read_json(path)
    _, loss, accuracy = evaluate(run, dataset.test)
    figures = {"loss": loss, "accuracy": accuracy}
    runs.write_json(path, figures)
    return figures


def evaluate(run, split):
    cli.import_keras()
    import pipeline

    mirrored = run.metrics["config"].get("evaluation") == "mirrored"
    return pipeline.evaluate(run.folder / "model.keras", split, mirrored)


def validation_probabilities(run, dataset):
    """Reads a run's probabilities of the validation images, or computes them once."""
    path = run.folder / "validation.npz"
    if not path.exists():
        probabilities, _, _ = evaluate(run, dataset.validation)
        runs.write_probabilities(path, probabilities)
    shape = (len(dataset.validation.labels), len(dataset.class_names))
    return runs.read_probabilities(path, shape)


def draw(title, rows, best, dataset, path):
    import numpy as np

    import pictures

    probabilities = validation_probabilities(best, dataset)
    images, labels = dataset.validation
    predicted = probabilities.argmax(axis=1)
    matrix = np.zeros((len(dataset.class_names),) * 2, int)
    np.add.at(matrix, (labels, predicted), 1)
    confidence = np.where(predicted == labels, -1, probabilities.max(axis=1))
    worst = np.argsort(-confidence, kind="stable")[: min(MISTAKES, int(np.sum(confidence >= 0)))]
    names = dataset.class_names
    mistakes = [
        (images[i], names[labels[i]], names[predicted[i]], confidence[i]) for i in worst
    ]
    curves, seen = [], set()
    for row in rows:  # the best first
        run = row.runs[0]
        if run.metrics["regime"] not in seen:
            seen.add(run.metrics["regime"])
            curves.append((run.metrics["regime"], name(row), run.metrics["history"]))
    points = []
    for row in rows:
        (parameters, _), (seconds, _) = map(row.values, (BY_KEY["trainable_params"], BY_KEY["seconds"]))
        accuracy, spread = row.values(ACCURACY)
        points.append((row.runs[0].metrics["regime"], name(row), parameters, seconds, accuracy, spread))
    figure = pictures.comparison(title, curves, points, matrix, names, mistakes)
    pictures.save(figure, path)


def name(row):
    metrics = row.runs[0].metrics
    return f"{metrics['regime']}, {metrics['recipe']}"


if __name__ == "__main__":
    sys.exit(main())
