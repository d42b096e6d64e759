"""Which optimizer? All of OPTIMIZERS side by side on train_last_fire, each at its default rate.

    python -m benchmarks.optimizers --data cifar10        # ten minutes on two cores

Prints a table; writes it to benchmarks/optimizers.json and .md, and draws the validation loss of each
epoch in optimizers.png. The features of the frozen layers are computed once for all.
"""

import dataclasses
import functools
import itertools
import statistics
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import data
import train_last_fire
from benchmarks import report
from transfer import command_line, run, settings, terminal

RESULTS = Path(__file__).with_name("optimizers.json")
SEEDS = range(1)
# Smaller than the defaults, as there are seven optimizers and only their order matters.
SETTINGS = {"image_size": 96, "epochs": 3}
STYLES = ("o-", "s--", "^:", "D-.", "v-", "x--", "+:")


def main(arguments=None):
    parser = report.parser("All optimizers on train_last_fire.", RESULTS)
    asked = parser.parse_args(arguments)
    with terminal.one_line_errors():
        rows = report.Rows(asked.output)
        fingerprint = data.load(asked.data).fingerprint
    with tempfile.TemporaryDirectory() as logs:
        given = ["--data", asked.data, "--logs", logs]
        shown = [
            rows.measured(
                {"optimizer": optimizer, "sha256": fingerprint},
                functools.partial(measure, optimizer, given),
            )
            for optimizer in settings.OPTIMIZERS
        ]
    shown.sort(key=mean, reverse=True)
    write(shown, asked.output)
    print(table(shown))


def measure(optimizer, given):
    made = [
        run.run(
            f"Optimizer: {optimizer}",
            train_last_fire.trainable,
            command_line.parse_config(
                dataclasses.replace(train_last_fire.DEFAULTS, **SETTINGS),
                [*given, "--optimizer", optimizer, "--seed", str(seed)],
            ),
        )
        for seed in SEEDS
    ]
    return {
        "data": made[0]["data"]["description"],
        "learning_rate": made[0]["config"]["learning_rate"],
        "accuracies": [metrics["validation_accuracy"] for metrics in made],
        "losses": [metrics["validation_loss"] for metrics in made],
        "history": made[0]["history"],
    }


def mean(row):
    return statistics.fmean(row["accuracies"])


def table(rows):
    return terminal.markdown_table(
        ("optimizer", "learning rate", "validation accuracy, seeds", "validation loss"),
        [
            (
                row["optimizer"],
                f"{row['learning_rate']:g}",
                report.over_seeds(row["accuracies"], 4),
                f"{statistics.fmean(row['losses']):.4f}",
            )
            for row in rows
        ],
    )


def write(rows, path):
    """Writes the table (.md) and the plot (.png) beside `path`, the file of the figures."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, (row, style) in enumerate(zip(rows, itertools.cycle(STYLES), strict=False)):
        losses = row["history"]["val_loss"]
        line = {"color": f"{place / max(10, len(rows))}", "label": row["optimizer"]}
        axes.plot(row["history"]["epoch"], losses, style, **line)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=f"validation loss (nats), {rows[0]['data']}")
    figure.legend(title="best accuracy first", loc="outside right center")
    about = (
        "# Optimizers\n\n"
        "Made by `python -m benchmarks.optimizers`: train_last_fire.py on "
        f"{rows[0]['data']} at {SETTINGS['image_size']} px, {SETTINGS['epochs']} epochs, each optimizer at "
        "its default rate."
    )
    report.write(path, about, table(rows), figure)


if __name__ == "__main__":
    main()
