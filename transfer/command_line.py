"""The command line of the training scripts, generated from the fields of Config."""

import argparse
import dataclasses
import math
import os
import typing
from pathlib import Path

import data
from transfer import checkpoints, depths, files, results, terminal
from transfer.settings import RECIPES, Config, absolute_sources, learnt

LARGEST = 1_000_000  # of what no setting limits otherwise
# The fields of Config that are flags.
FLAGS = [field for field in dataclasses.fields(Config) if "help" in field.metadata]


def parse_config(defaults, arguments=None):
    """Reads the command line.

    Args:
        defaults: `Config` with the regime, and what it changes in the recipe `tuned`.
        arguments: List of strings; by default those of the program.

    Returns:
        A `Config`. A flag overrides the recipe, the recipe overrides `defaults`. An argument out
        of range ends the program with one line and exit status 2.
    """
    parser = terminal.Parser(
        description=f"Trains SqueezeNet in the regime {defaults.regime}.",
        argument_default=argparse.SUPPRESS,
    )
    for field in FLAGS:
        add_flag(parser, field, getattr(defaults, field.name))
    given = vars(parser.parse_args(arguments))
    for field in FLAGS:
        if field.name in given:
            check_range(parser, field, given[field.name])
    if "resume" in given:
        try:
            return resumed(Path(given.pop("resume")), defaults.regime, given)
        except ValueError as error:
            parser.error(f"argument --resume: {error}")
    recipe = given.get("recipe", defaults.recipe)
    return dataclasses.replace(defaults, **RECIPES[recipe] | given)


def option(name):
    """Returns the flag of a field of `Config`, by the field's name."""
    return "--" + name.replace("_", "-")


def add_flag(parser, field, default, **options):
    """Adds the flag of a field of `Config` to a parser.

    Args:
        parser, options: Of the argument.
        field: The `dataclasses.Field`.
        default: What the help calls its default.
    """
    kind = field.metadata.get("parse") or next(iter(typing.get_args(field.type)), field.type)
    if kind is bool:
        switch = argparse.BooleanOptionalAction
        parser.add_argument(option(field.name), action=switch, help=field.metadata["help"])
        return
    shown = field.metadata.get("shown", "depends on the images" if default is None else default)
    about = field.metadata["help"] + (f" [{shown}]" if shown != "" else "")
    choices = field.metadata.get("choices")
    parser.add_argument(option(field.name), type=kind, choices=choices, help=about, **options)


def resumed(folder, regime, given):
    """Returns the settings with which a run goes on.

    Args:
        folder: Path of the run's folder.
        regime: Name of the regime that asks, which is to be the run's.
        given: Dict of settings that are asked for: only the epochs may grow, and what `data` and
            `weights` name may have moved.

    Raises:
        ValueError: The run can't go on, or not with these.
    """
    try:
        known = files.read_json(folder / "config.json")
        if "regime" not in known:
            raise ValueError("its config.json is damaged")
        saved = Config(**(results.OLDER_DEFAULTS | known))
        finished = (folder / "metrics.json").exists()
        done = results.read_metrics(folder) if finished else {}
        trained, passed, total = checkpoints.last(folder)
        settings = learnt(saved) if trained else {}
    except FileNotFoundError:
        raise ValueError(
            f"{folder} can't be resumed: it has no config.json, so it is not a run"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder} can't be resumed ({terminal.reason(error)})") from error
    given = given | {"regime": regime} | absolute_sources(given)
    for key, value in given.items():
        before = getattr(saved, key)
        grows = key == "epochs" and value >= before
        # The images and weights themselves are compared with those of the checkpoint.
        moved = key in ("data", "weights") and os.path.isabs(before) and os.path.isabs(value)
        if before != value and not grows and not moved:
            remedy = "only --epochs may be increased"
            if key == "regime":
                script = f"train_{before}.py" if depths.has_script(before) else "the same sweep"
                remedy = f"resume it with {script}"
            raise ValueError(f"{folder} has {key} {before}, not {value}; {remedy}")
    if "data" not in given and not data.exists(saved.data):
        raise ValueError(
            f"{saved.data}, with the images of {folder}, no longer exists: use "
            "--data to say where they are now"
        )
    epochs = given.get("epochs", saved.epochs)
    if finished and epochs == saved.epochs:
        raise ValueError(f"{folder} is finished; give a larger --epochs to continue")
    since = done["epochs"] - done["best_epoch"] if done else 0
    if 0 < saved.early_stopping <= since:
        raise ValueError(
            f"{folder} stopped early, after epoch {done['epochs']} of "
            f"{saved.epochs}; it would stop there again"
        )
    for key in sorted(trained.keys() & settings.keys()):
        if trained[key] != settings[key]:
            raise ValueError(
                f"{folder} was trained with {key} {trained[key]}, but its config.json "
                f"has {settings[key]}: restore config.json"
            )
    if passed > epochs:
        raise ValueError(
            f"{folder} has done {passed} epochs: expected --epochs of {passed} or more"
        )
    extended = saved.extended_from
    if epochs > saved.epochs and passed and (saved.schedule == "cosine" or saved.averaging):
        plans = [f"{saved.epochs}" + (f" at {passed}" if passed < saved.epochs else "")]
        if saved.epochs < total != epochs:  # an extension that was interrupted
            plans.append(f"{total} at {passed}")
        extended = ", ".join(filter(None, [extended, *plans]))
    asked = given | {"epochs": epochs, "extended_from": extended, "resume": str(folder)}
    return dataclasses.replace(saved, **asked)


def check_range(parser, field, value):
    """Refuses a value that is out of a flag's range."""
    flag = option(field.name)
    minimum, above, below = map(field.metadata.get, ("minimum", "above", "below"))
    if minimum is not None and not minimum <= value < math.inf:
        parser.error(f"argument {flag}: expected {minimum} or more. Received: {value}")
    if above is not None and not above < value < math.inf:
        parser.error(f"argument {flag}: expected more than {above}. Received: {value}")
    if below is not None and not value < below:
        parser.error(f"argument {flag}: expected less than {below}. Received: {value}")
    maximum = field.metadata.get("maximum", LARGEST)
    if below is None and isinstance(value, int | float) and value > maximum:
        parser.error(f"argument {flag}: expected {maximum:,} or less. Received: {value}")
    if field.name == "name" and not (value.isprintable() and Path(value).name == value != ".."):
        parser.error(f"argument {flag}: expected a plain name, not a path. Received: {value!r}")
