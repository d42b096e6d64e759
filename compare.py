"""Which depth of unfreezing wins? Reads the finished runs, ranks them, never trains.

    python compare.py                      # --regime, --recipe and --data choose among the runs

Runs that differ only in seed or fold form one row. Rows are ranked by validation accuracy, each
data set separately; a single run is shown with its 95 % interval. The best run of the top row is
evaluated on the test images, once: its folder keeps the figures. Table and plots are left beside
the runs as comparison.md, .csv and .png.
"""

import re
import sys
from pathlib import Path

from transfer import depths, files, results, runs, terminal
from transfer.comparison import KIND, differing, text_table, write_tables
from transfer.table import (
    ACCURACY,
    PARAMETERS,
    SECONDS,
    mixed_versions,
    one_a_seed,
    overlapping,
    rank,
    show,
)

MISTAKES = 18
FILTERS = {
    "regime": lambda some, names: [
        run for run in some if run.metrics["regime"] in [*names, *map(depths.regime, names)]
    ],
    "recipe": lambda some, names: [run for run in some if run.metrics["recipe"] in names],
    "data": runs.on_data,
}


def main(arguments=None):
    parser = terminal.Parser(description="Compares the finished runs.")
    parser.add_argument("--logs", type=Path, default="logs", help="folder of all runs [logs]")
    parser.add_argument(
        "--regime", nargs="+", help="only runs of these regimes, or depths of a sweep"
    )
    parser.add_argument("--recipe", nargs="+", help="only runs of these recipes")
    parser.add_argument(
        "--data", nargs="+", help="only runs on this data; same values as --data in training"
    )
    asked = parser.parse_args(arguments)
    with terminal.ends_quietly("the runs are unchanged; run compare.py again for the rest"):
        return compare(asked)


def compare(asked):
    """Prints, writes and draws the comparison that was asked for; returns the exit status."""
    finished, others = runs.find(asked.logs)
    for line in others:
        print(f"skipped {line}")
    if not finished:
        terminal.stop(runs.none_under(asked.logs))
    asked_for = {option: names for option in FILTERS if (names := getattr(asked, option))}
    fitting = [
        {run.folder for run in FILTERS[option](finished, names)}
        for option, names in asked_for.items()
    ]
    chosen = [run for run in finished if all(run.folder in each for each in fitting)]
    if not chosen:
        options = " and ".join(f"--{option}" for option in asked_for)
        terminal.stop(
            f"none of the {len(finished)} finished runs under {asked.logs} match {options}: without "
            f"{'this option' if len(asked_for) == 1 else 'these options'}, compare.py lists all"
        )
    for option, names in asked_for.items():
        for name in names:
            if not FILTERS[option](finished, [name]):
                terminal.complain(f"no finished run under {asked.logs} matches --{option} {name}")
    chosen, others = one_a_seed(chosen)
    for line in others:
        print(f"skipped {line}")
    groups = rank(chosen)
    for description, rows in groups:
        if len(groups) > 1:
            print(description)
        print(text_table(rows), end="\n\n")
        if versions := mixed_versions(rows):
            print(f"note: {versions}", end="\n\n")
    status = 0
    try:
        write_tables(groups, asked.logs)
    except OSError as error:
        terminal.complain(error)
        status = 2
    kept = []
    for number, (description, rows) in enumerate(groups, 1):
        path = asked.logs / ("comparison.png" if number == 1 else f"comparison-{number}.png")
        if len(groups) > 1:
            print(description)
        try:
            report_best(description, rows, path)
            kept.append(path)
        except runs.Gone as gone:
            print(f"Not evaluated or drawn: {gone}")
            if path.exists() and terminal.is_plot(path):  # it could not be drawn again
                kept.append(path)
                print(f"{path} is left as it was")
            print()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            terminal.complain(error)
            status = 2
    try:
        remove_plots(asked.logs, kept)
    except OSError as error:
        terminal.complain(error)
        status = 2
    return status


def is_anothers(picture):
    """Says whether a file has content that this project did not draw."""
    return picture.stat().st_size > 0 and not terminal.is_plot(picture)


def remove_plots(logs, kept):
    """Removes other plots of earlier calls: they are of other tables than those that are there now."""
    for plot in logs.glob("comparison*.png"):
        numbered = re.fullmatch(r"comparison(-[2-9]|-[1-9]\d{1,2})?", plot.stem)
        if numbered and plot not in kept and not is_anothers(plot):
            plot.unlink()


def headline(rows):
    """Says which run is the best, as far as the validation images can tell."""
    folder, others = rows[0].runs[0].folder, overlapping(rows)
    if not others:
        return f"Best by validation accuracy: {folder}"
    rest = "1 other row" if others == 1 else f"{others} other rows"
    return (
        f"Highest validation accuracy: {folder} (not distinguishable from {rest}: their 95 % "
        "intervals overlap)"
    )


def report_best(description, rows, path):
    """Says which run is the best and how it does on the test images; draws the plot.

    Raises:
        runs.Gone: Its images are not there.
        OSError, ValueError: They, or its model, can't be read.
    """
    best = rows[0].runs[0]
    print(headline(rows), flush=True)
    if any(row.validates_on_test_images for row in rows):
        print(
            "Each seed drew its own test images, and others validated on some of them: the test accuracy "
            "may be a little too high. A test/ folder prevents that."
        )
    known = results.read_test(best.folder)
    if known:
        print_test(known)
    dataset = runs.images_of([run for row in rows for run in row.runs])
    if not known:
        test_figures(best, dataset)
    draw(f"Validation accuracy on {description}", rows, best, dataset, path)
    print(f"Plot: {path}", end="\n\n")


def print_test(figures):
    print(f"Test loss: {figures['loss']}")
    print(f"Test accuracy (NORMALIZED): {figures['accuracy']}", flush=True)


def test_figures(run, dataset):
    """Returns a run's loss and accuracy on the test images; evaluates and prints them if not known.

    Raises:
        OSError, ValueError: The model can't be read, or the figures can't be saved.
    """
    figures = results.read_test(run.folder)
    if figures:
        return figures
    _, loss, accuracy = evaluate(run, dataset, "test")
    figures = {"loss": loss, "accuracy": accuracy}
    print_test(figures)  # first, as saving them may fail
    files.write_json(run.folder / "test.json", figures)
    return figures


def evaluate(run, dataset, split):
    run.check_model()
    terminal.import_keras()
    from transfer import evaluation

    return evaluation.evaluate(run.model, dataset, split, run.config["evaluation"])


def validation_probabilities(run, dataset):
    """Reads a run's probabilities of the validation images, or computes them once."""
    path = run.folder / "validation.npz"
    if not path.exists():
        probabilities, _, _ = evaluate(run, dataset, "validation")
        runs.write_probabilities(path, probabilities)
    shape = (len(dataset.validation.labels), len(dataset.class_names))
    return runs.read_probabilities(path, shape)


def draw(title, rows, best, dataset, path):
    if path.exists() and is_anothers(path):
        raise OSError(f"{path} exists and is not a plot of this project: move it elsewhere")
    import numpy as np

    from transfer import plots

    probabilities = validation_probabilities(best, dataset)
    images, labels = dataset.validation
    predicted = probabilities.argmax(axis=1)
    matrix = results.confusion(labels, predicted, len(dataset.class_names))
    confidence, wrong = probabilities.max(axis=1), np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    names = dataset.class_names
    mistakes = [(images[i], names[labels[i]], names[predicted[i]], confidence[i]) for i in worst]
    leaders = {}
    for row in rows:  # the best first
        leaders.setdefault(row.settings["regime"], row)
    curves = [
        (regime, name(row, rows), row.runs[0].metrics["history"]) for regime, row in leaders.items()
    ]
    figure = plots.comparison(title, curves, points(rows), matrix, names, mistakes)
    plots.save(figure, path)


def points(rows):
    """Returns for each row what `plots.comparison` takes."""
    found = []
    for row in rows:
        parameters, seconds, accuracy = map(row.mean, (PARAMETERS, SECONDS, ACCURACY))
        spread, ends = row.deviation(ACCURACY), row.interval
        if spread is not None:
            ends = accuracy - spread, accuracy + spread
        regime = row.runs[0].metrics["regime"]
        found.append((regime, name(row, rows), parameters, seconds, accuracy, ends))
    return found


def name(row, rows):
    """Names a row in a plot of all rows."""
    settings = row.settings
    kind = settings["regime"], settings["recipe"]
    parts = [*kind]
    every = [other.settings for other in rows]
    alike = [each for each in every if (each["regime"], each["recipe"]) == kind]
    same = [each for each in alike if all(each[key] == settings[key] for key in KIND)]
    # The table needs no column of the epochs that were planned: it has one of those that were done.
    for key in dict.fromkeys([*differing(rows), "planned_epochs"]):
        value = settings.get(key)
        if key == "images_per_class":
            parts.append(f"{value:,} per class" if value else "all images")
        elif key == "weights":
            parts.append("random" if value == "none" else value)
        elif key == "planned_epochs":
            if any(each.get(key) != value for each in same):
                parts.append(f"{show(value)} epochs")
        elif any(each.get(key) != value for each in alike):  # else it follows from the kind
            parts.append(f"{key.replace('_', ' ')} {show(value)}")
    if len({each["folds"] for each in alike}) > 1:
        parts.append(f"{settings['folds']} folds" if settings["folds"] else "no folds")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
