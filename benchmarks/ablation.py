"""What made 13 %? From the recipe `report` to `tuned`, one change at a time, for train_frozen.

    python -m benchmarks.ablation --data cifar10      # seven minutes on two cores

Prints a table; writes it to benchmarks/ablation.json and .md, and draws it in ablation.png. All
accuracies are of the validation images.
"""

import dataclasses
import functools
import statistics
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import data
import train_frozen
from benchmarks import report
from transfer import run, settings, terminal

RESULTS = Path(__file__).with_name("ablation.json")
SEEDS = range(1)


def tuned(*names):
    return lambda goal: {name: getattr(goal, name) for name in names}


# A name, the settings that change towards the goal, and why that matters.
CHANGES = (
    (
        "BGR, means subtracted",
        tuned("preprocessing"),
        "The weights were trained on BGR pixels with ImageNet's means subtracted; of other pixels "
        + "the filters make little sense.",
    ),
    (
        "no ReLU on the logits",
        lambda goal: {"head": "conv"},
        "A logit whose ReLU is off gets no gradient and never comes back: a class that is off for "
        + "all images is lost, and where all are, the loss stays at ln(classes).",
    ),
    (
        "larger images",
        tuned("image_size", "precision"),
        "The filters know objects that fill 224 pixels; at 32 pixels the last map is 1x1, computed "
        + "mostly from zero padding. (In bfloat16 from here on, where the hardware supports it.)",
    ),
    (
        "head on all fire modules",
        tuned("head", "dropout"),
        "Early fire modules see what the last ones, trained to name ImageNet's objects, have "
        + "discarded; a hidden layer combines them.",
    ),
    (
        "mirrored copies",
        tuned("mirror"),
        "A mirrored truck is a truck: twice the images for one more pass through the frozen layers.",
    ),
    (
        "learning rate, batch, epochs",
        tuned("learning_rate", "schedule", "batch_size", "epochs", "weight_decay"),
        "A new classifier tolerates ten times the rate, if that decays to zero; with features "
        + "computed once, more epochs are cheap, and weight decay keeps them from overfitting.",
    ),
)


def steps(source, dataset):
    """Returns for each step its name, its cause and its `Config`; the first is report, the last tuned."""
    tuned_by_default = dataclasses.replace(train_frozen.DEFAULTS, data=source)
    goal, _ = settings.follow(tuned_by_default, dataset)
    report_settings = {"recipe": "report"} | settings.RECIPES["report"]
    config, _ = settings.follow(dataclasses.replace(tuned_by_default, **report_settings), dataset)
    yield "report (2018)", "", config
    for name, changed, cause in CHANGES:
        config = dataclasses.replace(config, **changed(goal))
        yield name, cause, config
    if dataclasses.replace(config, recipe="tuned") != goal:
        raise ValueError("the ablation does not end at the recipe tuned: a setting is missing")


def main(arguments=None):
    parser = report.parser("From report to tuned, one change at a time.", RESULTS)
    asked = parser.parse_args(arguments)
    with terminal.one_line_errors():
        rows = report.Rows(asked.output)
        dataset = data.load(asked.data)
    shown = []
    with tempfile.TemporaryDirectory() as logs:
        planned = list(steps(asked.data, dataset))  # all, so that a slip shows at once
        for name, cause, config in planned:
            what = {"change": name, "sha256": dataset.fingerprint}
            row = rows.measured(what, functools.partial(measure, name, cause, config, logs))
            shown.append(row)
    write(shown, asked.output)
    print(table(shown))


def measure(name, cause, config, logs):
    made = [
        run.run(
            f"Ablation: {name}",
            train_frozen.trainable,
            dataclasses.replace(config, logs=logs, seed=seed),
        )
        for seed in SEEDS
    ]
    return {
        "cause": cause,
        "data": made[0]["data"]["description"],
        "accuracies": [metrics["validation_accuracy"] for metrics in made],
    }


def table(rows):
    return terminal.markdown_table(
        ("change", "validation accuracy, seeds", "why"),
        [(row["change"], report.over_seeds(row["accuracies"], 3), row["cause"]) for row in rows],
    )


def write(rows, path):
    """Writes the table (.md) and the plot (.png) beside `path`, the file of the figures."""
    figure = Figure(figsize=(8, 0.5 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    names = [row["change"] if i == 0 else f"+ {row['change']}" for i, row in enumerate(rows)]
    bars = axes.barh(names, [statistics.fmean(row["accuracies"]) for row in rows], color="0.65")
    axes.bar_label(bars, fmt="%.3f", padding=3)
    for i, row in enumerate(rows):
        axes.plot(row["accuracies"], [i] * len(row["accuracies"]), "k|")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"validation accuracy, {rows[0]['data']} (strokes: seeds)")
    about = (
        "# From the 2018 report to tuned, one change at a time\n\n"
        "Made by `python -m benchmarks.ablation`: train_frozen.py on "
        f"{rows[0]['data']}, each row with all changes of the rows above."
    )
    report.write(path, about, table(rows), figure)


if __name__ == "__main__":
    main()
