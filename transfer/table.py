"""Rows of a comparison: which runs are one row, what is known of it, and which row is best."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from transfer import results, runs, terminal
from transfer.hints import SPLITS
from transfer.runs import Run
from transfer.settings import NOT_LEARNT, WEIGHTS

# What differs between runs of one row, and settings that say nothing about what was trained.
NOT_SETTINGS = ("seed", "fold", *NOT_LEARNT)


class Column(NamedTuple):
    """A column: its title and its name in the .csv, its value for a run, and how that is shown."""

    title: str
    key: str
    of: Callable[[Run], Any]
    format: str = "{}"

    @property
    def numeric(self) -> bool:
        return self.format != "{}"


def metric(title: str, key: str, format: str = "{}") -> Column:
    return Column(title, key, lambda run: run.metrics[key], format)


PARAMETERS = metric("trainable parameters", "trainable_params", "{:,.0f}")
LOSS = metric("validation loss", "validation_loss", "{:.4f}")
ACCURACY = metric("validation accuracy", "validation_accuracy", "{:.4f}")
SECONDS = metric("seconds", "seconds", "{:.0f}")


class Row(NamedTuple):
    """Runs of equal settings under several seeds and on several folds, the best first."""

    runs: list[Run]

    @property
    def settings(self) -> dict[str, Any]:
        return settings(self.runs[0])

    @property
    def given(self) -> set[str]:
        """Settings that a flag set in any of its runs, where the recipe would choose them."""
        return {key for run in self.runs for key in run.config["given"].split()}

    @property
    def seeds(self) -> list[int]:
        return sorted({run.config["seed"] for run in self.runs})

    @property
    def folds(self) -> str:
        """Says how many of its folds are finished, of each seed where that differs."""
        finished = {seed: 0 for seed in self.seeds}
        for run in self.runs:
            finished[run.config["seed"]] += 1
        counts = list(finished.values())
        shown = counts if len(set(counts)) > 1 else counts[:1]
        total = self.settings["folds"]
        return f"{', '.join(map(str, shown))} of {total}" if total else "none"

    @property
    def validation_images(self) -> int | None:
        """The number of images that its runs validate on, or None where they were not counted.

        Seeds validate on the same images, unless the seed draws them. Drawn splits have some images in
        common; their number is then that of independent images which would give the mean the same
        variance. Folds validate on others, but all folds together are the images that they divide, for
        any seed.
        """
        counts = list(self._validated().values())
        if not all(counts):
            return None
        mean = statistics.fmean(counts)
        if folds := max(max(run.config["folds"], run.config["fold"]) for run in self.runs):
            return min(sum(counts), round(mean * folds))
        pool = max(run.metrics["data"].get("validation_drawn_from", 0) for run in self.runs)
        common = mean / pool if pool else 0
        return round(sum(counts) / (1 + (len(counts) - 1) * common))

    def _validated(self):
        """Returns the sizes of the different validation splits of its runs."""
        splits = {}
        for run in self.runs:
            fold, about = run.config["fold"], run.metrics["data"]
            # Older runs don't say what their splits were before near duplicates were dropped.
            dropped = run.config["near_duplicates"] == "drop"
            split = None if dropped else about.get("order", {}).get("validation")
            which = (run.config["seed"], fold) if fold else about.get("validation_pool", split)
            splits[which] = run.metrics.get("validation_images")
        return splits

    @property
    def validates_on_test_images(self) -> bool:
        """Says whether each of its seeds drew its own test images, from among those of other seeds."""
        orders = [run.metrics["data"].get("order", {}) for run in self.runs]
        return all(len({order.get(split) for order in orders}) > 1 for split in SPLITS[1:])

    def _variance(self, count):
        """Estimates p (1 - p), the variance of whether an image is right, from so many images."""
        # Laplace's estimate of p, which is neither 0 nor 1 where all or none were right.
        right = (self.mean(ACCURACY) * count + 1) / (count + 2)
        return right * (1 - right)

    @property
    def error(self) -> float | None:
        """The standard error of the mean accuracy, or None where images were not counted.

        By chance in the seeds and in the validation images; see `_squared_error`.
        """
        count = self.validation_images
        return math.sqrt(self._squared_error(count)) if count else None

    def _squared_error(self, count, caution=1.0):
        """Returns the square of `error`; the part by the spread of runs counts `caution` times.

        The spread of runs that validate on different images has chance in these images in it, but not
        in those that they have in common.
        """
        runs = len(self.runs)
        by_images = self._variance(count) / count
        if runs == 1:
            return by_images
        each = statistics.fmean(run.metrics["validation_images"] for run in self.runs)
        # The mean of r runs on n images each, of which any two have the fraction c in common, is as
        # certain by its images as that of `count` = r n / (1 + (r - 1) c).
        in_common = (runs * each / count - 1) / (runs - 1)
        by_own_images = (1 - in_common) * self._variance(count) / each
        by_seed = max(0.0, (self.deviation(ACCURACY) or 0.0) ** 2 - by_own_images)
        return by_images + caution * by_seed / runs

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean accuracy, or None where images were not counted."""
        count = self.validation_images
        return results.wilson(self.mean(ACCURACY), count) if count else None

    @property
    def widened_interval(self) -> tuple[float, float] | None:
        """The interval as wide as the spread of its runs makes it, or None, to compare rows by."""
        count = self.validation_images
        if not count:
            return None
        # The spread of two or three runs says little about that of many.
        caution = student(len(self.runs) - 1) ** 2 if len(self.runs) > 1 else 1.0
        # The number of images that would give a single run so large a standard error.
        images = self._variance(count) / self._squared_error(count, caution)
        return results.wilson(self.mean(ACCURACY), images)

    def mean(self, column: Column) -> float:
        # Of the same accuracies in another order the last digit differs: a tie would not be one.
        return round(statistics.fmean(column.of(run) for run in self.runs), 12)

    def deviation(self, column: Column) -> float | None:
        """Returns the standard deviation over the runs, or None of one run."""
        values = [column.of(run) for run in self.runs]
        return statistics.stdev(values) if len(values) > 1 else None

    def show(self, column: Column) -> str:
        if not column.numeric:
            return show(column.of(self.runs[0]))
        shown = column.format.format(self.mean(column))
        value = column.of(self.runs[0])
        # Of what is counted, such as parameters, no one expects a spread where there is none.
        if isinstance(value, int) and not self.deviation(column):
            return shown
        if len(self.runs) > 1:
            return f"{shown} ± " + column.format.replace("+", "").format(self.deviation(column))
        if column is ACCURACY and self.interval:
            shown += " [{:.3f}, {:.3f}]".format(*self.interval)
        return shown


def student(freedom: int) -> float:
    """Returns the quantile at 0.975 of Student's t, as a multiple of the normal distribution's.

    From three degrees of freedom on, that is the expansion in Abramowitz and Stegun, 26.7.5, up to the
    third power: less than 1 % too low.
    """
    if freedom < 3:
        return {1: 6.483, 2: 2.195}[freedom]
    return 1 + 1.2104 / freedom + 1.4401 / freedom**2 + 1.3041 / freedom**3


def settings(run: Run) -> dict[str, Any]:
    """Returns the settings by which runs are told apart."""
    metrics = run.metrics
    # Precision as it was: "auto" is another one on other hardware.
    known = run.config | {key: metrics[key] for key in ("regime", "recipe", "precision")}
    known["weights"] = run.weights
    if pool := _pool(run):
        known["validation_pool"] = pool[:8]
    known["planned_epochs"] = known.pop("epochs", None)
    return {key: value for key, value in known.items() if key not in NOT_SETTINGS}


def _pool(run):
    """Identifies the images that a run's folds divide, in their order; empty where there are no folds."""
    return (run.config["fold"] and run.metrics["data"].get("validation_pool")) or ""


def identity(run):
    """Returns what all runs of a row have in common."""
    known = settings(run)
    known.pop("validation_pool", None)  # as seeds may draw it
    if known["weights"] not in WEIGHTS:  # a file, by whatever name
        known["weights"] = run.weights_sha256 or known["weights"]
    return run.fingerprint, frozenset(known.items())


def _divided_alike(group):
    """Separates runs whose folds divide different images, unless each seed's divide the same."""
    pools = {}
    for run in group:
        pools.setdefault(_pool(run), []).append(run)
    seeds = [{run.config["seed"] for run in own} for own in pools.values()]
    apart = sum(map(len, seeds)) == len(set().union(*seeds))
    return [group] if apart else list(pools.values())


def _finished(run):
    return (run.folder / "metrics.json").stat().st_mtime, run.folder


def _has_model(run):
    """Says whether a run's model is there and is the one that was evaluated."""
    try:
        return run.is_its_model(run.model)
    except (OSError, ValueError):
        return False


def one_a_seed(finished: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of runs that differ only in their folder, not even in their splits, keeps one.

    That is the last to finish of those whose model is intact, or of all if none is.

    Returns:
        The runs, and for every other one a line that says why it is not among them.
    """
    alike = {}
    for run in finished:
        splits = frozenset(run.metrics["data"].get("order", {}).items())
        place = (identity(run), run.config["seed"], run.config["fold"], splits)
        alike.setdefault(place, []).append(run)
    last, others = [], []
    for (_, seed, fold, _), same in alike.items():
        if len(same) > 1:
            same.sort(key=lambda run: (_has_model(run), *_finished(run)))
        last.append(same[-1])
        which = f"seed {seed} and fold {fold}" if fold else f"seed {seed}"
        for run in same[:-1]:
            how = "is a copy of it" if run.metrics == same[-1].metrics else "is newer"
            if _finished(run) > _finished(same[-1]):
                how = "its model is intact"
            others.append(
                f"{run.folder}: {same[-1].folder} has the same settings and {which}, and {how}"
            )
    return last, others


def rank(finished: Sequence[Run]) -> list[tuple[str, list[Row]]]:
    """Sorts runs into rows, the best first, for each kind of data a description and its rows."""
    by_settings = {}
    for run in finished:
        by_settings.setdefault(identity(run), []).append(run)
    rows = [
        Row(sorted(row, key=runs.best_first))
        for group in by_settings.values()
        for row in _divided_alike(group)
    ]
    rows.sort(key=lambda row: (-row.mean(ACCURACY), row.mean(LOSS)))
    groups = {}
    for row in rows:
        groups.setdefault(row.runs[0].comparable, []).append(row)
    described = [(_description(rows[0]), rows) for rows in groups.values()]
    # Such as of a folder that has changed since, or that has other names for its classes.
    described = _told_apart(described, lambda run: f"sha256 {run.fingerprint[0][:12]}")
    described = _told_apart(described, lambda run: f"classes {terminal.shown(run.class_names)}")
    return sorted(described, key=itemgetter(0))


def _told_apart(described, more):
    """Says more of the runs of which several groups have the same description."""
    counts = Counter(description for description, _ in described)
    return [
        (
            f"{description}, {more(rows[0].runs[0])}" if counts[description] > 1 else description,
            rows,
        )
        for description, rows in described
    ]


def best(logs: str | Path, source: str | None, option: str) -> Run:
    """Finds the run that compare.py calls the best: the best one of the first row.

    Args:
        logs: Folder of all runs.
        source: Only runs on this data, if given.
        option: What names a run instead, for the messages.

    Raises:
        ValueError: There is none, or the runs are on different images and not to be compared.
    """
    finished, others = runs.find(logs)
    for line in others:
        if not line.endswith(runs.UNFINISHED):
            terminal.complain(f"skipped {line}")
    if not finished:
        raise ValueError(f"{runs.none_under(logs)}, or give {option}")
    chosen = runs.on_data(finished, [source]) if source else finished
    if not chosen:
        known = terminal.shown(sorted({run.metrics["data"]["source"] for run in finished}))
        raise ValueError(
            f"no finished run under {logs} is on {source}: expected one of {known}, or {option}"
        )
    groups = rank(one_a_seed(chosen)[0])
    tops = [(description, rows[0].runs[0]) for description, rows in groups]
    if len(tops) > 1:
        apart = len({run.metrics["data"]["source"] for _, run in tops}) == len(tops)
        which = "--data or " if apart else ""
        choices = "; ".join(
            f"{run.folder} (on {run.metrics['data']['source'] if apart else description})"
            for description, run in tops
        )
        raise ValueError(
            f"the runs under {logs} used different images: choose with {which}{option}. The best of "
            f"each: {choices}"
        )
    return tops[0][1]


def mixed_versions(rows: Sequence[Row], what: str = "some means are over") -> str:
    """Says which versions of packages differ between runs of a row; empty if none do.

    Older runs don't say theirs.
    """
    found: set[tuple[str, str]] = set()
    for row in rows:
        known = [run.metrics.get("versions") for run in row.runs]
        own = {(name, str(each[name])) for each in known if isinstance(each, dict) for name in each}
        counts = Counter(name for name, _ in own)
        found |= {(name, version) for name, version in own if counts[name] > 1}
    if not found:
        return ""
    named = ", ".join(terminal.printable(" ".join(pair)) for pair in sorted(found))
    return (
        f"{what} runs with different versions ({named}); to avoid that, train them all "
        "again in another --logs"
    )


def _description(row):
    """Describes the images of a row; those of the same images may be in folders of other names."""
    description = row.runs[0].metrics["data"]["description"]
    if row.settings["near_duplicates"] == "drop":
        description += " without near duplicates"
        if side := row.runs[0].metrics["data"].get("side"):
            description += f", at {side} px"
    return description


def overlapping(rows: Sequence[Row]) -> int:
    """Counts the rows whose widened_interval overlaps with that of the first, which is the highest."""
    best, *others = [row.widened_interval for row in rows]
    return sum(other[1] >= best[0] for other in others if best and other)


def show(value: str | float | None) -> str:
    """Shows a setting, of which older runs may have none."""
    match value:
        case None:
            return "-"
        case "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
    return value if terminal.is_printable(value) else ascii(value)
