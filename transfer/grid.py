"""What a sweep is asked for: its trials, each the settings of an ordinary run."""

import argparse
import dataclasses
import hashlib
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Literal, NamedTuple

import data
from transfer import depths, terminal
from transfer.command_line import FLAGS, add_flag, check_range, option
from transfer.precision import choose_precision
from transfer.resuming import resumed
from transfer.settings import NOT_LEARNT, RECIPES, Config, check_flags, check_weights

# What is trained by default, of depths.DEPTHS.
USUAL_DEPTHS = ("head", "fire9", "fire8", "fire6", "fire4", "all")
SEEDS = (0, 1, 2)
MOST_TRIALS = 10_000  # that are trained without --yes
# Flags of a training script that a sweep takes one value of, or sets itself.
ONCE = ("data", "logs")
OWN = ("resume", "name")
# Settings that change which images all seeds together validate on.
VALIDATED_ON = ("near_duplicates", "folds")


# How a trial stands, or how its training ended; one whose process died may begin again, and one that is
# taken is being trained by another process.
Status = Literal[
    "waiting", "running", "finished", "failed", "interrupted", "impossible", "stopped", "died", "taken",
]  # fmt: skip


class Trial(NamedTuple):
    """A run of a sweep: its depth, its settings, and what the reader calls it."""

    depth: str
    config: Config
    label: str

    def __str__(self):
        return self.label

    def named(self, whole: Config, images: dict, weights: str | None) -> "Trial":
        """Gives it the name that only its settings and images have: the same run is found again.

        Args:
            whole: Its settings, with those that follow from the images.
            images: The `data.Dataset.identity` of its images.
            weights: The sha256 of the file that it begins with, if it is one of the user's.
        """
        settings = dataclasses.asdict(whole)
        for key in ("data", "logs", "name", "given"):
            del settings[key]
        if not whole.training_size:  # older versions had none
            del settings["training_size"]
        for key in settings.keys() & set(NOT_LEARNT):  # whatever they are, it is the same run
            settings[key] = getattr(Config, key)
        settings["weights"] = weights or settings["weights"]
        what = json.dumps([images, settings], sort_keys=True)
        key = hashlib.sha256(what.encode()).hexdigest()[:10]
        amount = self.config.images_per_class or "all"
        name = f"sweep-{amount}-per-class-seed-{self.config.seed}-{key}"
        return self._replace(config=dataclasses.replace(self.config, name=name))

    @property
    def folder(self) -> Path:
        return Path(self.config.logs, self.config.regime, self.config.name)

    @property
    def stopped(self) -> Path:
        """The file that says why it was stopped early, if it was."""
        return self.folder / "stopped.json"

    @property
    def output(self) -> Path:
        """The file of what it prints."""
        return Path(self.config.logs, "sweep", f"{self.config.regime}-{self.config.name}.txt")

    def to_run(self) -> Config:
        """Returns the settings with which to go on, if it was interrupted, or to begin."""
        if (self.folder / "config.json").exists():
            here = self.config.with_absolute_sources()  # the images may have been moved
            may_change = {key: getattr(here, key) for key in ("data", "weights", "histograms")}
            with terminal.one_line_errors():
                known = resumed(self.folder, here.regime, may_change)
            return dataclasses.replace(known, logs=here.logs)
        if (self.folder / "model.keras").exists() or any(self.folder.glob("checkpoint-*")):
            terminal.stop(f"{self.folder} has no config.json: restore it, or remove the folder")
        if self.folder.exists():  # it was interrupted before it had learnt anything
            shutil.rmtree(self.folder)
        return self.config


class Grid(NamedTuple):
    """The trials of a sweep, and the names of the settings in which they differ but for depth."""

    trials: list[Trial]
    varied: list[str]


def parse(parser: terminal.Parser, arguments=None) -> tuple[Grid, argparse.Namespace]:
    """Reads the command line of a sweep: that of a training script, whose flags take several values.

    Returns:
        The grid, and the parser's other arguments. An argument that is out of range, the same value
        twice or too many trials end the program with one line and exit status 2.
    """
    parser.add_argument(
        "--depth",
        nargs="+",
        choices=depths.DEPTHS,
        default=list(USUAL_DEPTHS),
        metavar="DEPTH",
        help="the lowest layers that train, with all above them: head (the classifier alone), "
        f"{', '.join(depths.DEPTHS[1:])} [{' '.join(USUAL_DEPTHS)}]",
    )
    defaults = Config(regime="")
    for field in FLAGS:
        if field.name not in OWN:
            several = {} if field.name in ONCE or field.type is bool else {"nargs": "+"}
            shown = " ".join(map(str, SEEDS)) if field.name == "seed" else None
            add_flag(parser, field, shown or getattr(defaults, field.name), **several)
    asked = parser.parse_args(arguments)
    axes = _axes(parser, asked)
    varied = [name for name, values in axes.items() if len(values) > 1]
    _refuse_incomparable(parser, axes, varied)
    runs_each = 1
    if "folds" in axes and "fold" not in axes:
        varied.append("fold")
        (runs_each,) = axes["folds"]
    count = len(asked.depth) * math.prod(map(len, axes.values())) * runs_each
    if count > MOST_TRIALS and not asked.yes:
        parser.error(f"{count:,} runs: expected {MOST_TRIALS:,} or fewer, or add --yes")
    # Trials of the same images stand together.
    order = sorted(axes, key=lambda name: (name not in data.SETTINGS, name != "images_per_class"))
    trials = [
        Trial(
            depth,
            dataclasses.replace(config, regime=depths.regime(depth)),
            ", ".join([depth, *(_label(name, getattr(config, name)) for name in varied)]),
        )
        for values in itertools.product(*(axes[name] for name in order))
        for config in _folds(parser, dict(zip(order, values, strict=True)))
        for depth in asked.depth
    ]
    return Grid(trials, varied), asked


def _axes(parser, asked):
    """Returns the values of each flag that is given, and the seeds; refuses what is out of range."""
    given = {field.name: getattr(asked, field.name, None) for field in FLAGS}
    axes = {
        name: value if isinstance(value, list) else [value]
        for name, value in given.items()
        if value is not None
    }
    axes.setdefault("seed", list(SEEDS))
    for name, values in ({"depth": asked.depth} | axes).items():
        for i, value in enumerate(values):
            if value in values[:i]:
                parser.error(f"argument {option(name)}: {value} is given twice")
    if {"adam", "adamw"} <= set(axes.get("optimizer", ())):
        parser.error(
            "argument --optimizer: adam and adamw are the same here, as the weight decay is always "
            "decoupled: give only one of them"
        )
    precisions = axes.get("precision", ())
    if "auto" in precisions and len(precisions) > 1:
        terminal.import_keras()
        chosen, _ = choose_precision("auto")
        if chosen in precisions:
            parser.error(
                f"argument --precision: auto and {chosen} are the same on this machine: give only one "
                "of them"
            )
    for field in FLAGS:
        for value in axes.get(field.name, ()):
            check_range(parser, field, value)
    for weights in axes.get("weights", ()):
        with terminal.one_line_errors():
            check_weights(weights)
    return axes


def _refuse_incomparable(parser, axes, varied):
    """Refuses several values of what decides on which images runs are validated."""
    for name in VALIDATED_ON:
        if name in varied:
            parser.error(
                f"argument {option(name)}: expected one value, as runs with different ones validate "
                "on different images and can't be compared"
            )
    if "drop" in axes.get("near_duplicates", ()):
        name = "image_size" if "image_size" in axes else "recipe"  # which sets the size, too
        if name in varied:
            parser.error(
                f"argument {option(name)}: expected one value with --near-duplicates drop, as which "
                "images look alike depends on their size: runs would validate on different images"
            )


def _label(name, value):
    if name == "images_per_class":
        return f"{value:,} per class"
    return f"{name.replace('_', ' ')} {value}"


def _folds(parser, given):
    """Returns the settings of one point of the grid: of each of its folds, if no single one is named."""
    config = Config(regime="", **RECIPES[given.get("recipe", Config.recipe)] | given)
    with terminal.one_line_errors():
        check_flags(config)
    if config.fold > config.folds:
        parser.error(f"argument --fold: expected --folds of {max(config.fold, 2)} or more as well")
    folds = range(1, config.folds + 1) if config.folds and not config.fold else [config.fold]
    return [dataclasses.replace(config, fold=fold) for fold in folds]
