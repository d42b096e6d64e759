"""What does test-time augmentation give? Finished runs, evaluated without and with `--evaluation mirrored`.

    python -m benchmarks.mirrored logs/figures/NAME    # those of benchmarks.few_images: ten minutes on two cores

Writes benchmarks/mirrored.json and .md; a model that is there already is not evaluated again.
"""

import functools
from pathlib import Path

from benchmarks import few_images, report
from transfer import runs, terminal

RESULTS = Path(__file__).with_name("mirrored.json")
REGIMES = few_images.REGIMES[1:]


def main(arguments=None):
    parser = terminal.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", metavar="LOGS", type=Path, help="folder of the runs")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="file of the figures [%(default)s]"
    )
    asked = parser.parse_args(arguments)
    with terminal.one_line_errors():
        rows = report.Rows(asked.output)
        finished, _ = runs.find(asked.logs)
        chosen = [
            run
            for run in finished
            if run.metrics["recipe"] == "tuned" and run.metrics["regime"] in REGIMES
        ]
        if not chosen:
            raise OSError(
                f"{asked.logs} has no finished run of frozen, last_fire or full with --recipe tuned: "
                "run benchmarks.few_images first"
            )
        for run in chosen:
            what = {"model": run.metrics["model_weights_sha256"]}
            rows.measured(what, functools.partial(measure, run))
    write(rows.rows, asked.output)
    print(tables(rows.rows))


def measure(run):
    from transfer import evaluation

    dataset = runs.images_of([run])
    model = evaluation.load(run.model)
    row = {
        "regime": run.metrics["regime"],
        "seed": run.config["seed"],
        "data": dataset.description,
        "sha256": dataset.fingerprint,
        "images": dataset.planned,
        "images_per_class": run.config["images_per_class"],
        "validation_images": len(dataset.validation.labels),
    }
    for how in ("plain", "mirrored"):
        _, loss, accuracy = evaluation.judge(model, dataset, "validation", how)
        row[how] = {"validation_accuracy": accuracy, "validation_loss": loss}
    return row


def tables(rows):
    shown = []
    for own in few_images.grouped(rows, "sha256").values():
        lines = []
        for (amount,), some in few_images.grouped(own, "images_per_class").items():
            columns = [[row for row in some if row["regime"] == name] for name in REGIMES]
            lines.append((f"{amount:,}" if amount else "all", *map(cell, columns)))
        table = terminal.markdown_table(("images per class", *REGIMES), lines)
        seeds = report.listed(row["seed"] for row in own)
        shown.append(f"{few_images.measured_on(own)}; seeds {seeds}.\n\n{table}")
    return "\n\n".join(shown)


def cell(rows):
    if not rows:
        return ""
    return " → ".join(few_images.cell([row[how] for row in rows]) for how in ("plain", "mirrored"))


def write(rows, path):
    commits = report.listed(row["commit"] for row in rows)
    about = (
        "# Test-time augmentation\n\n"
        f"Made by `python -m benchmarks.mirrored LOGS` on commit {commits}: validation accuracy, mean ± "
        "standard deviation over the seeds (mean validation loss), of models that are asked once for each "
        "image → of the same models with `--evaluation mirrored`, which averages an image's probabilities "
        "with those of its mirrored copy."
    )
    report.write(path, about, tables(rows))


if __name__ == "__main__":
    main()
