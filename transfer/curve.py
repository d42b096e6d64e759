"""What a sweep found: accuracy by depth for each number of images, and which depth to take."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from transfer import runs, terminal
from transfer.depths import DEPTHS
from transfer.grid import Status, Trial
from transfer.runs import Run
from transfer.table import ACCURACY, LOSS, PARAMETERS, SECONDS, Row, mixed_versions, show

ABOUT = (
    "± is the standard deviation over seeds and folds. If other settings vary too, each depth is shown "
    "with the combination that has the highest mean validation accuracy; ties go to the lowest loss. A "
    "combination with unfinished runs is left out, as those that did finish may be the lucky ones. "
    "The depth to take is the shallowest whose mean is within one standard error of the highest mean p. "
    "For k runs of standard deviation s on the same n validation images, the standard error is "
    "sqrt(s² / k + p (1 - p) / n): this covers chance in the seeds (unless k is 1) and in the choice of "
    "validation images. (In p (1 - p), p is Laplace's estimate, (p n + 1) / (n + 2), so that no luck makes "
    "it 0 or 1; if the seeds draw the splits, n is the equivalent number of independent images.) The "
    "spread of runs that validate on different images, such as folds, includes chance in that choice: "
    "(1 - c) p (1 - p) / m is subtracted from s², to 0 at most, where m is the number of validation images "
    "of a run and c the fraction that two runs have in common. The seconds of a run include "
    "computing the features of frozen layers, or waiting for them, unless an earlier run has left them."
)


class Result(NamedTuple):
    """A trial and how it stands.

    `status` is waiting, running, finished, failed, interrupted, impossible, or stopped early by
    --stop-worst; `reason` says why it failed, is impossible or was stopped. A finished one has its `run`.
    `seconds` is an estimate. `images` is the `data.Dataset.identity` of its images, `weights` the
    sha256 of the user's file that it begins with, `epochs` how many it is to train.
    """

    trial: Trial
    status: Status = "waiting"
    reason: str = ""
    run: Run | None = None
    seconds: float = 0.0
    images: dict = {}
    weights: str | None = None
    epochs: int = 0


class Point(NamedTuple):
    """A depth with so many images per class (0 for all): its runs, of equal settings otherwise."""

    amount: int
    depth: str
    settings: dict[str, Any]
    row: Row

    @property
    def accuracy(self) -> float:
        return self.row.mean(ACCURACY)

    @property
    def spread(self) -> float:
        """The standard deviation of the accuracy; 0 of a single run."""
        return self.row.deviation(ACCURACY) or 0.0

    @property
    def seconds(self) -> float:
        return self.row.mean(SECONDS)

    @property
    def parameters(self) -> float:
        return self.row.mean(PARAMETERS)

    @property
    def standing(self) -> tuple[float, float]:
        """The higher, the better."""
        return self.accuracy, -self.row.mean(LOSS)

    @property
    def error(self) -> float:
        """The standard error of the mean accuracy."""
        error = self.row.error
        assert error  # all runs of a sweep say how many images they validate on
        return error


def points(results: Sequence[Result], varied: Sequence[str]) -> dict[int, list[Point]]:
    """Returns for each number of images per class its depths, the shallowest first.

    A combination of settings is left out until all its trials have finished, but for impossible ones,
    which every depth lacks: the seeds that have finished may be the lucky ones.

    Args:
        results: Of the trials.
        varied: Names of the settings in which they differ, but for their depth.
    """
    others = [name for name in varied if name not in ("images_per_class", "seed", "fold")]
    alike: dict[tuple, list[Result]] = {}
    for one in results:
        config = one.trial.config
        settings = tuple((name, getattr(config, name)) for name in others)
        alike.setdefault((config.images_per_class, one.trial.depth, settings), []).append(one)
    best: dict[tuple, Point] = {}
    for (amount, depth, settings), own in alike.items():
        finished = [one.run for one in own if one.run]
        if not finished or not all(one.run or one.status == "impossible" for one in own):
            continue
        point = Point(amount, depth, dict(settings), Row(sorted(finished, key=runs.best_first)))
        known = best.get((amount, depth))
        if known is None or point.standing > known.standing:
            best[amount, depth] = point
    amounts = sorted({amount for amount, _ in best}, key=lambda amount: amount or math.inf)
    return {
        amount: [best[amount, depth] for depth in DEPTHS if (amount, depth) in best]
        for amount in amounts
    }


def amount_of(images_per_class: int) -> str:
    return f"{images_per_class:,} images per class" if images_per_class else "all images"


def answer(found: Sequence[Point], complete: bool = True) -> str:
    """Says which depth to take for one number of images, its cost, and what a deeper one would gain.

    Args:
        found: Points, the shallowest first.
        complete: Whether they are all that the sweep trains.
    """
    best = max(found, key=lambda point: point.accuracy)
    near = [point for point in found if point.accuracy >= best.accuracy - best.error]
    taken = near[0]
    deeper = found[found.index(taken) + 1 :]
    gain = best.accuracy - taken.accuracy
    settings = "".join(
        f", {name.replace('_', ' ')} {show(value)}" for name, value in taken.settings.items()
    )
    cost = f"{taken.seconds:.0f} s per run, {taken.parameters:,.0f} trainable parameters"
    which = f"{taken.depth}{settings}: {taken.accuracy:.4f} ({cost})"
    judged = "" if complete else " that can be judged yet"
    if len(found) == 1:
        said = f"only one depth {'was trained' if complete else 'can be judged'}, {which}"
    elif len(near) == len(found):
        where = "with these seeds and validation images"
        if not complete:
            where = f"between the depths{judged}"
        said = f"no difference is measurable {where}; take the shallowest, {which}"
    elif not deeper:
        said = f"take {which}; it is the deepest{judged or ' one'}"
    elif gain <= 0:
        said = f"take {which}; nothing deeper{judged} was more accurate"
    else:
        said = (
            f"take {which}; a deeper one{judged} gains {gain:.4f} at most, within the standard error "
            f"of {best.error:.4f}"
        )
    return f"{amount_of(taken.amount)}: {said}"


def answers(results: Sequence[Result], varied: Sequence[str]) -> list[str]:
    """Returns a line for each number of images: which depth to take, and what is missing.

    Further lines say what differs between runs of one mean, but should not.
    """
    found, lines = points(results, varied), []
    for amount in dict.fromkeys(one.trial.config.images_per_class for one in results):
        asked = [one for one in results if one.trial.config.images_per_class == amount]
        own = [one.status for one in asked]
        stopped, impossible = own.count("stopped"), own.count("impossible")
        missing = len(own) - own.count("finished") - stopped - impossible
        line = f"{amount_of(amount)}: no depth can be judged{' yet' if missing else ''}"
        if amount in found:
            complete = not missing and len(found[amount]) == len({one.trial.depth for one in asked})
            line = answer(found[amount], complete)
        for count, what, of_one in (
            (stopped, "were stopped early", "was stopped early"),
            (impossible, "need more images than there are", "needs more images than there are"),
            (missing, "are missing", "is missing"),
        ):
            if count:
                line += (
                    f"; {count} of {len(own)} runs {what}"
                    if len(own) > 1
                    else f"; its run {of_one}"
                )
        lines.append(line)
    rows = [point.row for own in found.values() for point in own]
    every = Row([run for row in rows for run in row.runs])
    if len(_precisions(every)) > 1 and "precision" not in varied:
        names = " and ".join(sorted(_precisions(every)))
        if any(len(_precisions(row)) > 1 for row in rows):
            lines.append(f"the means are over runs in {names}; compare.py lists them separately")
        else:
            lines.append(
                f"runs in {names} are compared: accuracies and seconds may differ for that reason alone"
            )
    if versions := mixed_versions(rows) or mixed_versions([every], "the comparison is between"):
        lines.append(versions)
    return lines


def _precisions(row):
    return {run.metrics.get("precision", "") for run in row.runs}


def markdown(results: Sequence[Result], varied: Sequence[str]) -> str:
    """Returns sweep.md: for each number of images the answer and a table, then what failed."""
    text = ["# How deep to unfreeze"]
    text.append("\n".join(f"- {terminal.literal(line)}" for line in answers(results, varied)))
    for amount, found in points(results, varied).items():
        names = [name.replace("_", " ") for name in found[0].settings]
        figures = (ACCURACY, LOSS, SECONDS, PARAMETERS)
        body = [
            [
                point.depth,
                *(terminal.literal(show(value)) for value in point.settings.values()),
                *map(point.row.show, figures),
                f"{len(point.row.runs)}",
            ]
            for point in found
        ]
        head = ["depth", *names, *(column.title for column in figures), "runs"]
        table = terminal.markdown_table(head, body)
        text.append(f"## {amount_of(amount).capitalize()}\n\n{table}")
    missing = [one for one in results if one.run is None]
    if missing:
        lines = [f"{one.trial}: {one.status}, {one.reason}".rstrip(", ") for one in missing]
        items = "\n".join(f"- {terminal.literal(line)}" for line in lines)
        text.append(f"## Not finished\n\n{items}")
    return "\n\n".join([*text, ABOUT]) + "\n"


def comma_separated(results: Sequence[Result], varied: Sequence[str]) -> str:
    """Returns sweep.csv: a line for each trial."""
    fixed = ["images_per_class", "seed"]
    others = [name for name in varied if name not in fixed]
    figures = ["validation_accuracy", "validation_loss", "seconds", "trainable_params"]
    lines = []
    for one in results:
        settings = [getattr(one.trial.config, name) for name in fixed + others]
        values = [one.run.metrics[key] if one.run else "" for key in figures]
        folder = one.trial.folder if one.trial.config.name else ""
        lines.append([one.trial.depth, *settings, one.status, *values, folder])
    head = ["depth", *fixed, *others, "status", *figures, "run"]
    return terminal.csv_table(head, lines)
