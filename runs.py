"""A run's folder, logs/<regime>/<name>/: made, written whole or not at all, read back.

    config.json     what was asked
    metrics.json    what came out; written last, so that a run with it is a finished one
    checkpoint-*    what --resume needs to go on
    model.keras     the model after the last whole epoch, or with --early-stopping the best one
    split.json      of a folder of images: each split's files and the sha256 of their pixels
    losses.png      training and validation loss by epoch
    validation.npz  probabilities of the validation images, float32 (n, classes)
    test.json       its figures on the test images, once compare.py has looked
    train/, validation/, projector/, events.*, projector_config.pbtxt    for TensorBoard
"""

import contextlib
import hashlib
import json
import math
import os
import time
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

# What compare.py and predict.py rely on; a file of any other layout is refused.
REQUIRED = {
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
# Weights that are no file.
WEIGHTS = ("imagenet", "none")
# Settings that older runs lack, whole numbers from 0.
COUNTS = ("images_per_class", "folds", "fold")
TEST = {"loss": float, "accuracy": float}


class Run(NamedTuple):
    """A finished run: its folder and what its metrics.json says."""

    folder: Path
    metrics: dict

    @property
    def fingerprint(self):
        """Of its images: only runs that have it in common are comparable."""
        return self.metrics["data"]["sha256"]

    def setting(self, key):
        """Of COUNTS: 0 for a run that is older than the setting."""
        return self.metrics["config"].get(key, 0)

    @property
    def evaluation(self):
        """How it is evaluated; `plain` for a run that is older than the setting."""
        return self.metrics["config"].get("evaluation", "plain")

    @property
    def weights(self):
        """Names the weights that it began with: those of a file by its name and sha256."""
        source = str(self.metrics["config"].get("weights", "imagenet"))
        about = self.metrics.get("weights")
        sha256 = str(about.get("sha256") or "") if isinstance(about, dict) else ""
        return source if source in WEIGHTS else f"{Path(source).name} {sha256[:8]}".strip()

    def is_on(self, names):
        """Says whether its images are one of those, by the name that --data gave them or printed."""
        about = self.metrics["data"]
        # Older runs have the name as it was typed.
        located = {os.path.abspath(os.path.expanduser(name)) for name in names}
        return bool({about["source"], about["description"]} & {*names, *located})


def create(logs, regime, recipe, name=None):
    """Makes the folder of a new run.

    Args:
        logs: Folder of all runs.
        regime, recipe: What is run.
        name: Name of the run; by default the recipe and the time.

    Returns:
        Path of the new folder, and a list of all that was made: it, and the folders around it that
        were not there.

    Raises:
        OSError: It exists, or can't be made.
    """
    parent = Path(logs) / regime
    made = [folder for folder in (parent, Path(logs)) if not folder.exists()]
    stamp = f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = [name] if name else [stamp, *(f"{stamp}-{i}" for i in range(2, 100))]
    for candidate in candidates:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            (parent / candidate).mkdir()
            return parent / candidate, [parent / candidate, *made]
        except FileExistsError:
            if not parent.is_dir():
                raise OSError(
                    f"{parent} can't be made, a file of that name exists: choose another --logs"
                ) from None
        except OSError as error:
            raise OSError(
                f"{parent / candidate} can't be made ({error.strerror}): choose another --logs"
            ) from error
    raise _taken(parent / candidates[0])


def refuse_taken(logs, regime, names):
    """Refuses names of runs that are there, before the first of several runs begins.

    Raises:
        OSError: A run of such a name exists.
    """
    for name in names:
        folder = Path(logs, regime, name)
        if folder.exists():
            raise _taken(folder)


def _taken(folder):
    return OSError(f"{folder} exists: choose another --name, or remove it")


@contextlib.contextmanager
def removed_if_empty(made):
    """Takes away again what `create` made when the run ended before it wrote anything."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def written_whole(path):
    """Gives a path to write to that becomes `path` if all goes well, and disappears otherwise."""
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def reopen(folder, settings):
    """Makes a run that goes on an unfinished one, under its new settings, as its model changes."""
    for name in ("metrics.json", "test.json", "validation.npz"):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / "config.json", settings)


def clear_parts(folder):
    """Removes what a run that was killed had begun to write."""
    for part in folder.glob(".[0-9]*.*"):
        part.unlink()


def write_json(path, value):
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n")


def digest(path):
    """Gives the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_probabilities(path, probabilities):
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, probabilities=probabilities)


def read_probabilities(path, shape):
    """Reads what `write_probabilities` wrote, float32 of this shape.

    Raises:
        OSError, ValueError: The file is missing, damaged, or of another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            probabilities = file["probabilities"]
    except (EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    if probabilities.shape != shape or probabilities.dtype != np.float32:
        raise ValueError(f"{path} should be float32 {shape}. Received: {probabilities.shape}")
    return probabilities


def find(logs):
    """Reads all runs under a folder.

    Returns:
        The finished runs, and for every other folder a line that says why it is not one.
    """
    finished, others = [], []
    for folder in sorted(Path(logs).glob("*/*/")):
        try:
            finished.append(Run(folder, read_metrics(folder)))
        except FileNotFoundError:
            if (folder / "config.json").exists():
                others.append(f"{folder}: not finished")
        except (OSError, ValueError) as error:
            others.append(f"{folder}: {error}")
    return finished, others


def rank(run):
    """Sorts runs, the best first: by validation accuracy, then by validation loss."""
    return -run.metrics["validation_accuracy"], run.metrics["validation_loss"]


def wilson(accuracy, images):
    """Gives the 95 % Wilson score interval of an accuracy measured on so many images.

    Unlike accuracy ± 1.96 standard errors it holds for few images and near 0 and 1 too (Wilson
    1927, "Probable inference, the law of succession, and statistical inference", J. Am. Stat.
    Assoc. 22, 209-212): centre (p + z²/2n) / (1 + z²/n), half its width
    z sqrt(p (1 - p) / n + z²/4n²) / (1 + z²/n), with z = 1.959964, the normal distribution's
    quantile at 0.975.

    Args:
        accuracy: Fraction of the images that are classified correctly, 0..1.
        images: How many there are, 1 or more.

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


def read_test(folder):
    """Reads a run's test.json: its loss and accuracy on the test images; None if there are none."""
    try:
        figures = read_json(folder / "test.json")
    except (FileNotFoundError, ValueError):
        return None
    return None if _lack(figures, TEST) else figures


def training_accuracy(metrics):
    """Gives the training accuracy of the epoch whose model was kept, from a run's metrics."""
    history = metrics["history"]
    kept = metrics.get("best_epoch", metrics["epochs"])
    return history["accuracy"][history["epoch"].index(kept)]


def read_metrics(folder):
    """Reads a finished run's metrics.json.

    Raises:
        FileNotFoundError: There is none: the run is not finished.
        ValueError: It is damaged, or of another layout.
    """
    try:
        metrics = read_json(folder / "metrics.json")
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} is no finished run, it has no metrics.json") from None
    lack = _lack(metrics, REQUIRED)
    if not lack:
        epochs, kept = metrics["epochs"], metrics.get("best_epoch", metrics["epochs"])
        # Older runs reported each epoch, and did not say which.
        reported = metrics["history"].setdefault("epoch", [*range(1, epochs + 1)])
        reported = reported if isinstance(reported, list) else []
        sound = {
            "the epochs of its history": all(type(epoch) is int for epoch in reported)
            and reported[-1:] == [epochs],
            "a figure an epoch": all(
                len(figures) == len(reported) and all(type(figure) is float for figure in figures)
                for figures in (metrics["history"][key] for key in REQUIRED["history"])
            ),
            "its best epoch": kept in reported,
            "names of classes": all(
                isinstance(name, str) and name.isprintable()
                for name in metrics["data"]["class_names"]
            ),
            "an accuracy from 0 to 1": 0 <= metrics["validation_accuracy"] <= 1,
            "its validation images": _is_count(metrics.get("validation_images", 1), least=1),
            "images per class and folds": all(
                _is_count(metrics["config"].get(key, 0)) for key in COUNTS
            ),
            "plain settings": all(
                isinstance(value, str | int | float) for value in metrics["config"].values()
            ),
        }
        lack = next((name for name, there in sound.items() if not there), None)
    if lack:
        raise ValueError(f"metrics.json has another layout, without {lack}")
    return metrics


def _is_count(value, least=0):
    return type(value) is int and least <= value < 2**63


def _lack(value, required, prefix=""):
    """Names the first entry that a dict lacks or has of another kind, or gives None."""
    for key, kind in required.items():
        found = value.get(key)
        if isinstance(kind, dict):
            lack = _lack(found, kind, f"{key}.") if isinstance(found, dict) else f"{key} (dict)"
            if lack:
                return lack
        elif type(found) is not kind or (kind in (int, float) and not abs(found) < 2**63):
            return f"{prefix}{key} ({kind.__name__})"
    return None


def read_json(path):
    """Reads a JSON object.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error
    return value if isinstance(value, dict) else {}
