"""The command line of the training scripts, generated from the fields of Config."""

import argparse
import dataclasses
import math
import typing
from pathlib import Path

from transfer import splits, terminal
from transfer.resuming import resumed
from transfer.settings import RECIPES, Config

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
    config = dataclasses.replace(defaults, **RECIPES[recipe] | given)
    if config.fold:
        try:
            splits.check(config.images_per_class, config.folds, config.fold)
        except ValueError as error:
            parser.error(f"argument --{error}")
    return config


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
        about = f"{field.metadata['help']} [{'on' if default else 'off'}]"
        parser.add_argument(option(field.name), action=switch, help=about)
        return
    shown = field.metadata.get("shown", "depends on the images" if default is None else default)
    about = field.metadata["help"] + (f" [{shown}]" if shown != "" else "")
    choices = field.metadata.get("choices")
    parser.add_argument(option(field.name), type=kind, choices=choices, help=about, **options)


def check_range(parser, field, value):
    """Refuses a value that is out of a flag's range."""
    flag = option(field.name)
    minimum, above, below = map(field.metadata.get, ("minimum", "above", "below"))
    if value in (math.inf, -math.inf):
        parser.error(f"argument {flag}: expected a finite number. Received: {value}")
    if minimum is not None and not minimum <= value:
        parser.error(f"argument {flag}: expected {minimum} or more. Received: {value}")
    if above is not None and not above < value:
        parser.error(f"argument {flag}: expected more than {above}. Received: {value}")
    if below is not None and not value < below:
        parser.error(f"argument {flag}: expected less than {below}. Received: {value}")
    maximum = field.metadata.get("maximum", LARGEST)
    if below is None and isinstance(value, int | float) and value > maximum:
        parser.error(f"argument {flag}: expected {maximum:,} or less. Received: {value}")
    if field.name == "name" and not (value.isprintable() and Path(value).name == value != ".."):
        parser.error(f"argument {flag}: expected a plain name, not a path. Received: {value!r}")
