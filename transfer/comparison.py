"""The tables of a comparison: as text, in Markdown and as .csv."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from transfer import files, results, terminal
from transfer.runs import Run
from transfer.table import (
    ACCURACY,
    LOSS,
    PARAMETERS,
    SECONDS,
    Column,
    Row,
    identity,
    metric,
    settings,
)

# Regime, recipe and the number of training images choose the other settings.
KIND = ("regime", "recipe", "images_per_class", "folds")
# Settings that no rule chooses by the number of images: a table shows them wherever rows differ.
ASKED = (
    "images_per_class", "optimizer", "image_size", "weights", "evaluation", "class_weights",
    "early_stopping", "precision",
)  # fmt: skip
# Settings with a column of their own.
STANDING = ("regime", "recipe", "folds")
ABOUT = (
    "± is the standard deviation over seeds and folds. [low, high] is the 95 % Wilson score "
    "interval of a single run's accuracy: how far chance may move it with that many validation "
    "images. comparison.csv has it for every row, for several runs around their mean. "
    "Rows whose intervals overlap, those of several runs widened by their spread (by Student's t, as two "
    "or three runs say little about others), are not called better or worse than each other. Between rows "
    "that validate on the same images this is conservative: what is hard in them is hard for both, so a "
    "difference may be real although the intervals overlap. Runs "
    "from before validation images were counted have no interval.\n\n"
    "The gap is the training accuracy, measured with dropout and augmentation, less the validation "
    "accuracy. A setting gets a column if rows differ in it, unless the difference merely follows from "
    "their regime, recipe and images per class, and no flag set it. If runs "
    "were extended with --resume, a column says so (extended from); if folds divide different images, or "
    "the same ones in another order, another does (validation pool). The column `run` names the best run of a row.\n"
)


def gap(run: Run) -> float:
    """Training accuracy, with dropout and augmentation, less validation accuracy."""
    return results.training_accuracy(run.metrics) - run.metrics["validation_accuracy"]


LABELS = (metric("regime", "regime"), metric("recipe", "recipe"))
FIGURES = (
    metric("epochs", "epochs", "{:.0f}"),
    PARAMETERS,
    LOSS,
    ACCURACY,
    Column("gap", "accuracy_gap", gap, "{:+.3f}"),
    SECONDS,
    metric("images/s", "images_per_second", "{:.0f}"),
)


def differing(rows: Sequence[Row]) -> list[str]:
    """Names the settings in which rows differ, but for what follows from regime, recipe and amount."""
    every = [row.settings for row in rows]
    given = {key for row in rows for key in row.given}
    alike = {}
    for one in every:
        alike.setdefault(tuple(one[key] for key in KIND), []).append(one)

    def differs(key):
        if key == "extended_from":
            return any(one.get(key) for one in every)
        if key in STANDING:
            return False
        if key == "planned_epochs" and not any(one.get("early_stopping") for one in every):
            return False  # as many as were done
        if key == "validation_pool":
            return len({identity(row.runs[0]) for row in rows}) < len(rows)
        asked = key in ASKED or key in given or (key == "planned_epochs" and "epochs" in given)
        groups = [every] if asked else alike.values()
        return any(len({one.get(key) for one in group}) > 1 for group in groups)

    return [key for key in dict.fromkeys(itertools.chain(*every)) if differs(key)]


def setting(key: str) -> Column:
    """Makes the column of a setting."""
    title = key.replace("_", " ") + (" (px)" if key == "image_size" else "")

    def of(run):
        value = settings(run).get(key)
        return "all" if key == "images_per_class" and value == 0 else value

    return Column(title, key, of)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Returns the head and the cells of a table, lists of strings, and which columns are of figures."""
    chosen = [setting(key) for key in differing(rows)]
    columns = [*LABELS, *chosen, *FIGURES]
    folds = ["folds"] if any(row.settings["folds"] for row in rows) else []
    head = [column.title for column in columns] + ["seeds", *folds, "run"]
    body = [
        [row.show(column) for column in columns]
        + [" ".join(map(str, row.seeds)), *(row.folds for _ in folds), row.runs[0].folder.name]
        for row in rows
    ]
    numbers = [
        column.numeric or all(isinstance(column.of(row.runs[0]), int | float) for row in rows)
        for column in columns
    ]
    return head, body, numbers + [False] * (len(head) - len(columns))


def text_table(rows: Sequence[Row]) -> str:
    """Lays rows out as text, a line each; columns of figures are flush right."""
    head, body, numbers = cells(rows)
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in [head, *body]
    )


def markdown(groups: Sequence[tuple[str, list[Row]]]) -> str:
    """Returns the tables in Markdown, and what their figures mean."""
    text = ["# Comparison of runs"]
    for description, rows in groups:
        head, body, _ = cells(rows)
        body = [[*line, terminal.literal(folder)] for *line, folder in body]
        table = terminal.markdown_table(head, body)
        text.append(f"## {terminal.literal(description)}\n\n{table}")
    return "\n\n".join([*text, ABOUT])


def comma_separated(groups: Sequence[tuple[str, list[Row]]]) -> str:
    """Returns all rows as .csv: the columns that are always there, then settings that rows differ in."""
    fixed = ["optimizer", "image_size"]
    differ = itertools.chain(*(differing(rows) for _, rows in groups))
    extra = [key for key in dict.fromkeys(differ) if key not in fixed]
    if any(row.settings["folds"] for _, rows in groups for row in rows):
        extra.append("folds")
    names = [column.key for column in LABELS] + fixed
    for column in FIGURES:
        names += [column.key, f"{column.key}_sd"]
        if column is ACCURACY:
            names += [f"{column.key}_low", f"{column.key}_high"]
    lines = []
    for description, rows in groups:
        for row in rows:
            known = row.settings
            line = [known[column.key] for column in LABELS] + [known[key] for key in fixed]
            for column in FIGURES:
                line += [row.mean(column), row.deviation(column)]
                if column is ACCURACY:
                    line += row.interval or (None, None)
            seeds = " ".join(map(str, row.seeds))
            line += [seeds, len(row.runs), row.runs[0].folder]
            lines.append([description, *line, *(known.get(key) for key in extra)])
    return terminal.csv_table(["data", *names, "seeds", "runs", "best_run", *extra], lines)


def write_tables(groups: Sequence[tuple[str, list[Row]]], logs: Path) -> None:
    """Writes comparison.md and comparison.csv."""
    files.write_text(logs / "comparison.md", markdown(groups))
    files.write_text(logs / "comparison.csv", comma_separated(groups))
