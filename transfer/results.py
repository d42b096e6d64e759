"""What came out of a run: its metrics.json and test.json, checked, and how sure an accuracy is."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from transfer import depths
from transfer.files import read_json
from transfer.terminal import is_printable

# What compare.py and predict.py rely on; a file of any other layout is refused.
REQUIRED: dict[str, Any] = {
    "regime": str,
    "recipe": str,
    "validation_loss": float,
    "validation_accuracy": float,
    "trainable_params": int,
    "epochs": int,
    "seconds": float,
    "images_per_second": float,
    "precision": str,
    "history": {"loss": list, "accuracy": list, "val_loss": list, "val_accuracy": list},
    "data": {"source": str, "sha256": str, "description": str, "class_names": list},
    "config": {"optimizer": str, "image_size": int, "seed": int},
}
NAMED_CLASSES = 20  # with more, names and counts of a confusion matrix could not be read
LARGEST_TRAINED_SIDE = 32_767  # in pixels, of images that a network is trained on
# The values that newer settings had, in effect, before they existed.
OLDER_DEFAULTS = {
    "images_per_class": 0, "folds": 0, "fold": 0, "averaging": 0.0, "extended_from": "",
    "near_duplicates": "keep", "evaluation": "plain", "weights": "imagenet", "given": "",
    "training_size": 0,
}  # fmt: skip
LIMITS = {int: 2**63, float: math.inf}  # which a figure of that kind stays below
POSITIVE = ("trainable_params", "epochs", "seconds", "images_per_second")
TEST = {"loss": float, "accuracy": float}


def wilson(accuracy: float, images: float) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of an accuracy measured on so many images.

    Unlike accuracy ± 1.96 standard errors it holds for few images and near 0 and 1 too (Wilson
    1927, "Probable inference, the law of succession, and statistical inference", J. Am. Stat.
    Assoc. 22, 209-212): centre (p + z²/2n) / (1 + z²/n), half its width
    z sqrt(p (1 - p) / n + z²/4n²) / (1 + z²/n), with z = 1.959964, the normal distribution's
    quantile at 0.975.

    Args:
        accuracy: Fraction of the images that are classified correctly, 0..1.
        images: How many there are, above 0; of several runs also as many as their spread is worth.

    Returns:
        The ends of the interval (low, high), in 0..1.
    """
    z = 1.959964
    square = z**2 / images
    centre = accuracy + square / 2
    half = z * math.sqrt(accuracy * (1 - accuracy) / images + square / images / 4)
    low, high = ((centre + side) / (1 + square) for side in (-half, half))
    # At 0 and 1 the accuracy is an end itself, but for rounding.
    return min(accuracy, max(low, 0.0)), max(accuracy, min(high, 1.0))


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts the images of each true class that are taken for each class, int (classes, classes).

    Args:
        labels, predicted: Their true and their predicted classes, int (n,).
        classes: Number of classes.
    """
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def read_test(folder: Path) -> dict | None:
    """Reads a run's test.json: its loss and accuracy on the test images; None if it is missing or damaged."""
    try:
        figures = read_json(folder / "test.json")
    except (FileNotFoundError, ValueError):
        return None
    return None if _lack(figures, TEST) else figures


def training_accuracy(metrics: dict) -> float:
    """Returns the training accuracy of the epoch whose model was kept, from a run's metrics."""
    history = metrics["history"]
    return history["accuracy"][history["epoch"].index(metrics["best_epoch"])]


def read_metrics(folder: Path) -> dict:
    """Reads a finished run's metrics.json.

    Raises:
        FileNotFoundError: There is none: the run is not finished.
        ValueError: It is damaged, or of another layout.
    """
    path = folder / "metrics.json"
    try:
        metrics = read_json(path)
    except FileNotFoundError:
        remedy = ""
        if (folder / "config.json").exists():
            which = (
                "--resume" if depths.has_script(folder.resolve().parent.name) else "the same sweep"
            )
            remedy = f"; {which} continues it"
        raise FileNotFoundError(
            f"{folder} is not a finished run: it has no metrics.json{remedy}"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{error}: remove it, and --resume {folder}, or the same sweep, finishes the run anew"
        ) from None
    lack = _lack(metrics, REQUIRED)
    if not lack:
        # Older runs kept the last epoch, reported each, and did not say which.
        metrics.setdefault("best_epoch", metrics["epochs"])
        metrics["history"].setdefault("epoch", [*range(1, metrics["epochs"] + 1)])
        lack = _unsound(metrics)
    if lack:
        raise ValueError(f"{path} has an unknown layout: it lacks {lack}")
    return metrics


def _unsound(metrics):
    """Names the first thing that metrics lack although they have all entries; None if nothing."""
    reported = metrics["history"]["epoch"]
    reported = reported if isinstance(reported, list) else []
    order = metrics["data"].get("order", {})
    config = OLDER_DEFAULTS | metrics["config"]
    sound = {
        "the epochs of its history": all(type(epoch) is int for epoch in reported)
        and reported[-1:] == [metrics["epochs"]],
        "one figure per epoch": all(
            len(figures) == len(reported) and all(type(figure) is float for figure in figures)
            for figures in (metrics["history"][key] for key in REQUIRED["history"])
        ),
        "its best epoch": metrics["best_epoch"] in reported,
        "names of classes": all(
            isinstance(name, str) and is_printable(name) for name in metrics["data"]["class_names"]
        ),
        "an accuracy from 0 to 1": 0 <= metrics["validation_accuracy"] <= 1,
        "positive figures": all(metrics[key] > 0 for key in POSITIVE),
        "a printable description": is_printable(metrics["data"]["description"]),
        "the side of its images": metrics["data"].get("side", 1)
        in range(1, LARGEST_TRAINED_SIDE + 1),
        "an image size of 32 or more": metrics["config"]["image_size"]
        in range(32, LARGEST_TRAINED_SIDE + 1),
        "its validation images": _is_count(metrics.get("validation_images", 1), least=1),
        "its parameters": _is_count(metrics.get("total_params", 1), least=1),
        "the order of its images": isinstance(order, dict)
        and all(isinstance(sha256, str) for sha256 in order.values()),
        "the images to validate on": isinstance(metrics["data"].get("validation_pool", ""), str)
        and _is_count(metrics["data"].get("validation_drawn_from", 0)),
        "the settings that were given": isinstance(config["given"], str),
        "images per class and folds": all(
            _is_count(config[key]) for key in ("images_per_class", "folds", "fold")
        ),
        "plain settings": all(
            isinstance(value, str | int | float) for value in metrics["config"].values()
        ),
    }
    return next((name for name, there in sound.items() if not there), None)


def _is_count(value, least=0):
    return type(value) is int and least <= value < LIMITS[int]


def _lack(value, required, prefix=""):
    """Names the first entry that a dict lacks or has of another kind, or returns None."""
    for key, kind in required.items():
        found = value.get(key)
        if isinstance(kind, dict):
            lack = _lack(found, kind, f"{key}.") if isinstance(found, dict) else f"{key} (dict)"
            if lack:
                return lack
        elif type(found) is not kind or (kind in LIMITS and not abs(found) < LIMITS[kind]):
            return f"{prefix}{key} ({kind.__name__})"
    return None
