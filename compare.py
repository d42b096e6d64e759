"""Which depth of unfreezing wins? Reads the finished runs, ranks them, never trains.

    python compare.py

Runs are ranked by validation accuracy, each kind of data for itself. The best alone is evaluated
on the test images, once: its folder remembers the figures.
"""

import itertools

import cli
import data
import runs

COLUMNS = {
    "regime": lambda run: run.metrics["regime"],
    "recipe": lambda run: run.metrics["recipe"],
    "data": lambda run: run.metrics["data"]["description"],
    "epochs": lambda run: f"{run.metrics['epochs']}",
    "trainable parameters": lambda run: f"{run.metrics['trainable_params']:,}",
    "validation loss": lambda run: f"{run.metrics['validation_loss']:.4f}",
    "validation accuracy": lambda run: f"{run.metrics['validation_accuracy']:.4f}",
    "seconds": lambda run: f"{run.metrics['seconds']:.0f}",
    "run": lambda run: run.folder.name,
}


def main(arguments=None):
    parser = cli.Parser(description="Compares the finished runs.", allow_abbrev=False)
    parser.add_argument("--logs", default="logs", help="folder of all runs [logs]")
    logs = parser.parse_args(arguments).logs
    finished, others = runs.find(logs)
    for line in others:
        print(f"skipped {line}")
    if not finished:
        cli.stop(f"no finished run under {logs}: train one first, such as by train_frozen.py")
    finished.sort(key=rank)
    for _, group in itertools.groupby(finished, key=fingerprint):
        group = list(group)
        print(table(group), end="\n\n")
        best = group[0]
        with cli.one_line_errors():
            test = test_figures(best)
        print(f"Best by validation accuracy: {best.folder}")
        print(f"Test loss: {test['loss']}")
        print(f"Test accuracy (NORMALIZED): {test['accuracy']}", end="\n\n")


def fingerprint(run):
    return run.metrics["data"]["sha256"]


def rank(run):
    """Sorts runs on the same images together, the best first."""
    metrics = run.metrics
    return fingerprint(run), -metrics["validation_accuracy"], metrics["validation_loss"]


def table(group):
    """Lays runs out as text, a line each; columns of figures are flush right."""
    rows = [list(COLUMNS)] + [[show(run) for show in COLUMNS.values()] for run in group]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [cell.replace(",", "").replace(".", "").isdigit() for cell in rows[1]]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    )


def test_figures(run):
    """Gives a run's loss and accuracy on the test images, evaluated on the first call only.

    Raises:
        OSError, ValueError: The model or its images can't be read, or the images have changed.
    """
    path = run.folder / "test.json"
    if path.exists():
        return runs.read_json(path)
    source = run.metrics["config"]["data"]
    dataset = data.load(source)
    if dataset.fingerprint != fingerprint(run):
        raise ValueError(f"{source} has changed since {run.folder}: its test images are not the run's")
    cli.import_keras()
    from pipeline import evaluate

    mirrored = run.metrics["config"].get("evaluation") == "mirrored"
    classes = len(dataset.class_names)
    loss, accuracy = evaluate(run.folder / "model.keras", dataset.test, classes, mirrored)
    figures = {"loss": loss, "accuracy": accuracy}
    runs.write_json(path, figures)
    return figures


if __name__ == "__main__":
    main()
