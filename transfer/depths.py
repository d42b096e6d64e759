"""Depths of unfreezing: how many of the network's blocks train, from the classifier down."""

from collections.abc import Callable

# The classifier alone; that and the fire modules from this one up; all layers.
DEPTHS = ("head", *(f"fire{number}" for number in range(9, 1, -1)), "all")
# Regimes that have a script, by their depth; those of other depths have the depth's name.
REGIMES = {"head": "frozen", "fire8": "last_fire", "all": "full"}


def regime(depth: str) -> str:
    """Returns the name of a depth's regime, under which its runs are kept."""
    return REGIMES.get(depth, depth)


def depth(name: str) -> str | None:
    """Returns the depth of the regime of that name; None if it has another rule of what trains."""
    return next((depth for depth in DEPTHS if regime(depth) == name), None)


def has_script(name: str) -> bool:
    """Says whether the regime of that name has a script, rather than being a depth of sweeps only."""
    return depth(name) != name


def rule(depth: str) -> Callable:
    """Returns the function that says of a Keras layer whether it trains.

    Args:
        depth: One of `DEPTHS`.
    """
    if depth == "all":
        return lambda layer: True
    first = 10 if depth == "head" else int(depth.removeprefix("fire"))
    trained = ("head_", *(f"fire{number}_" for number in range(first, 10)))
    return lambda layer: layer.name.startswith(trained)


def title(depth: str) -> str:
    """Says what trains, for the line before a run's figures."""
    above = "" if depth == "fire9" else " to fire9"
    return {"head": "Training the head", "all": "Training all layers"}.get(
        depth, f"Training {depth}{above} and the head"
    )
