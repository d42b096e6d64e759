"""What a sweep found: accuracy by depth for each number of images, and which depth to take."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from transfer import terminal
from transfer.depths import DEPTHS
from transfer.grid import Trial
from transfer.table import show

ABOUT = (
    "± is the standard deviation over seeds and folds. Where other settings vary too, each depth is "
    "shown with those whose mean validation accuracy is highest. The depth to take is the shallowest "
    "whose mean is within one standard error of the highest mean p. For k runs of standard deviation s "
    "on n validation images, that is sqrt(s² / k + p (1 - p) / n): "
    "chance through the seeds, and through which images happen to be there."
)


class Result(NamedTuple):
    """A trial and how it stands.

    `status` is waiting, running, finished, failed, interrupted or impossible; `reason` says why it is
    none of the first three. A finished one has the `metrics` of its run. `seconds` is an
    estimate.
    """

    trial: Trial
    status: str = "waiting"
    reason: str = ""
    metrics: dict | None = None
    seconds: float = 0.0


class Point(NamedTuple):
    """A depth with so many images per class (0 for all): its runs, of equal settings otherwise."""

    amount: int
    depth: str
    settings: dict[str, Any]
    metrics: list[dict]

    def mean(self, key: str) -> float:
        return statistics.fmean(one[key] for one in self.metrics)

    @property
    def accuracy(self) -> float:
        return self.mean("validation_accuracy")

    @property
    def spread(self) -> float | None:
        """The standard deviation of the accuracy, or None of a single run."""
        values = [one["validation_accuracy"] for one in self.metrics]
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def error(self) -> float:
        """The standard error of the mean accuracy, by chance in the seeds and in the images."""
        # Seeds validate on the same images, unless the seed draws them; folds on others.
        images = {
            (one["config"]["fold"], one["data"].get("order", {}).get("validation")): one[
                "validation_images"
            ]
            for one in self.metrics
        }
        count = sum(images.values())
        # Laplace's estimate, which is neither 0 nor 1 where all or none were right.
        right = (self.accuracy * count + 1) / (count + 2)
        by_seed = (self.spread or 0) ** 2 / len(self.metrics)
        return math.sqrt(by_seed + right * (1 - right) / count)


def points(results: Sequence[Result], varied: Sequence[str]) -> dict[int, list[Point]]:
    """Gives for each number of images per class its depths, the shallowest first.

    Args:
        results: Of the trials.
        varied: Names of the settings in which they differ, but for their depth.
    """
    others = [name for name in varied if name not in ("images_per_class", "seed", "fold")]
    alike: dict[tuple, list[dict]] = {}
    for one in results:
        if one.metrics is not None:
            config = one.trial.config
            settings = tuple((name, getattr(config, name)) for name in others)
            key = (config.images_per_class, one.trial.depth, settings)
            alike.setdefault(key, []).append(one.metrics)
    best: dict[tuple, Point] = {}
    for (amount, depth, settings), metrics in alike.items():
        point = Point(amount, depth, dict(settings), metrics)
        known = best.get((amount, depth))
        # A mean over fewer seeds is no better for being higher.
        if known is None or (len(metrics), point.accuracy) > (len(known.metrics), known.accuracy):
            best[amount, depth] = point
    amounts = sorted({amount for amount, _ in best}, key=lambda amount: amount or math.inf)
    return {
        amount: [best[amount, depth] for depth in DEPTHS if (amount, depth) in best]
        for amount in amounts
    }


def amount_of(images_per_class: int) -> str:
    return f"{images_per_class:,} images per class" if images_per_class else "all images"


def answer(found: Sequence[Point]) -> str:
    """Says which depth to take, of points of one number of images, what it costs and what is left.

    Args:
        found: Points, the shallowest first.
    """
    best = max(found, key=lambda point: point.accuracy)
    near = [point for point in found if point.accuracy >= best.accuracy - best.error]
    taken = near[0]
    deeper = found[found.index(taken) + 1 :]
    gain = best.accuracy - taken.accuracy
    settings = "".join(
        f", {name.replace('_', ' ')} {show(value)}" for name, value in taken.settings.items()
    )
    cost = f"{taken.mean('seconds'):.0f} s a run, {taken.mean('trainable_params'):,.0f} parameters"
    which = f"{taken.depth}{settings}: {taken.accuracy:.4f} ({cost})"
    if len(found) == 1:
        said = f"only one depth was trained, {which}"
    elif len(near) == len(found):
        said = (
            "no difference is measurable with these seeds and validation images; take the "
            f"shallowest, {which}"
        )
    elif not deeper:
        said = f"take {which}; it is the deepest one"
    elif gain <= 0:
        said = f"take {which}; nothing deeper was more accurate"
    else:
        said = (
            f"take {which}; a deeper one gains {gain:.4f} at most, within the standard error of "
            f"{best.error:.4f}"
        )
    return f"{amount_of(taken.amount)}: {said}"


def answers(results: Sequence[Result], varied: Sequence[str]) -> list[str]:
    """Gives a line for each number of images: which depth to take, and what is missing."""
    lines = []
    for amount, found in points(results, varied).items():
        own = [one for one in results if one.trial.config.images_per_class == amount]
        missing = sum(one.metrics is None for one in own)
        note = f"; {missing} of {len(own)} runs are missing" if missing else ""
        lines.append(answer(found) + note)
    return lines


def markdown(results: Sequence[Result], varied: Sequence[str]) -> str:
    """Gives sweep.md: for each number of images the answer and a table, then what failed."""
    text = ["# How deep to unfreeze"]
    said = answers(results, varied)
    for line, (amount, found) in zip(said, points(results, varied).items(), strict=True):
        names = [name.replace("_", " ") for name in found[0].settings]
        head = ["depth", *names, "validation accuracy", "validation loss", "seconds"]
        body = [
            [
                point.depth,
                *map(show, point.settings.values()),
                f"{point.accuracy:.4f}"
                + ("" if point.spread is None else f" ± {point.spread:.4f}"),
                f"{point.mean('validation_loss'):.4f}",
                f"{point.mean('seconds'):.0f}",
                f"{point.mean('trainable_params'):,.0f}",
                f"{len(point.metrics)}",
            ]
            for point in found
        ]
        table = terminal.markdown_table([*head, "trainable parameters", "runs"], body)
        text.append(f"## {amount_of(amount).capitalize()}\n\n{line}.\n\n{table}")
    missing = [one for one in results if one.metrics is None]
    if missing:
        lines = [f"- {one.trial}: {one.status}, {one.reason}".rstrip(", ") for one in missing]
        text.append("## Not finished\n\n" + "\n".join(lines))
    return "\n\n".join([*text, ABOUT]) + "\n"


def comma_separated(results: Sequence[Result], varied: Sequence[str]) -> str:
    """Gives sweep.csv: a line for each trial."""
    fixed = ["images_per_class", "seed"]
    others = [name for name in varied if name not in fixed]
    figures = ["validation_accuracy", "validation_loss", "seconds", "trainable_params"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["depth", *fixed, *others, "status", *figures, "run"])
    for one in results:
        settings = [getattr(one.trial.config, name) for name in fixed + others]
        values = [one.metrics[key] if one.metrics else "" for key in figures]
        writer.writerow([one.trial.depth, *settings, one.status, *values, one.trial.folder])
    return file.getvalue()
