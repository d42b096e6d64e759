"""Which optimizer? All of OPTIMIZERS side by side on train_last_fire, each at its default rate.

    python -m benchmarks.optimizers --data cifar10        # three quarters of an hour on two cores

Prints a table; writes it to benchmarks/optimizers.json and .md, and draws the validation loss of each
epoch in optimizers.png. The features of the frozen layers are computed once for all.
"""

import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import cli
import experiment
import runs
import train_last_fire

RESULTS = Path(__file__).with_name("optimizers.json")
STYLES = ("o-", "s--", "^:", "D-.", "v-", "x--", "+:")


def main(arguments=None):
    parser = cli.Parser(description="All optimizers on train_last_fire.", allow_abbrev=False)
    parser.add_argument("--data", default="cifar10", help="source of images [cifar10]")
    parser.add_argument("--epochs", help="of each run [those of the recipe]")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each optimizer [1]")
    parser.add_argument("--output", default=str(RESULTS), help="file of the figures [%(default)s]")
    asked = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as logs:
        for optimizer in experiment.OPTIMIZERS:
            given = ["--data", asked.data, "--logs", logs, "--optimizer", optimizer]
            given += ["--epochs", asked.epochs] if asked.epochs else []
            made = [
                experiment.run(
                    f"Optimizer: {optimizer}",
                    train_last_fire.trainable,
                    experiment.parse_config(
                        train_last_fire.DEFAULTS, [*given, "--seed", str(seed)]
                    ),
                )
                for seed in range(asked.seeds)
            ]
            rows.append(
                {
                    "optimizer": optimizer,
                    "learning_rate": made[0]["config"]["learning_rate"],
                    "data": made[0]["data"]["description"],
                    "accuracies": [metrics["validation_accuracy"] for metrics in made],
                    "losses": [metrics["validation_loss"] for metrics in made],
                    "history": made[0]["history"],
                }
            )
    rows.sort(key=mean, reverse=True)
    write({"rows": rows}, Path(asked.output))
    print(table(rows))


def mean(row, key="accuracies"):
    return sum(row[key]) / len(row[key])


def table(rows):
    lines = [
        "| optimizer | learning rate | validation accuracy, seeds | validation loss |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['optimizer']} | {row['learning_rate']:g} | {mean(row):.4f} "
        f"({', '.join(f'{a:.4f}' for a in row['accuracies'])}) | {mean(row, 'losses'):.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


def write(results, path):
    """Writes the figures to `path` (.json), the table beside it (.md) and the picture (.png)."""
    rows = results["rows"]
    runs.write_json(path, results)
    about = (
        "Made by `python -m benchmarks.optimizers`: train_last_fire.py on "
        f"{rows[0]['data']}, each optimizer at its default rate."
    )
    path.with_suffix(".md").write_text("\n\n".join(["# Optimizers", about, table(rows)]) + "\n")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for row, style in zip(rows, STYLES, strict=False):
        losses = row["history"]["val_loss"]
        axes.plot(range(1, len(losses) + 1), losses, style, label=row["optimizer"])
    axes.set(xlabel="epoch", ylabel=f"validation loss (nats), {rows[0]['data']}")
    axes.legend(title="best accuracy first")
    figure.savefig(path.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
