"""A run's folder, logs/<regime>/<name>/: made, written whole or not at all, read back.

config.json     every setting, given or chosen by the recipe
metrics.json    what came out; written last, so that a run with it is a finished one
checkpoint-*    what --resume needs to go on
model.keras     the model at the last validation, or with --early-stopping the best one
split.json      of a folder of images: each split's files and the sha256 of their pixels
losses.png      training and validation loss by epoch
validation.npz  probabilities of the validation images, float32 (n, classes)
test.json       its figures on the test images, once compare.py has looked
export-*        what export.py made of its model
stopped.json    why a sweep stopped it early
train/, validation/, projector/, events.*, projector_config.pbtxt    for TensorBoard
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import data
from transfer import depths
from transfer.files import read_json, remove_empty, write_json, written_whole
from transfer.results import OLDER_DEFAULTS, read_metrics
from transfer.settings import WEIGHTS
from transfer.terminal import printable, reason, say

UNFINISHED = "not finished"


class Gone(ValueError):
    """The images of a run are not where they were."""


class Run(NamedTuple):
    """A finished run: its folder and what its metrics.json says."""

    folder: Path
    metrics: dict

    @property
    def model(self) -> Path:
        """The file of its model."""
        return self.folder / "model.keras"

    def is_its_model(self, path: Path) -> bool:
        """Says whether a file is its model; of an older run, whether it is called like it."""
        known = self.metrics.get("model_weights_sha256")
        return weights_digest(path) == known if known else path.name == self.model.name

    def check_model(self) -> None:
        """Refuses a model that is damaged, or not the one that metrics.json describes.

        Raises:
            OSError, ValueError: It is.
        """
        check_model(self.model)
        if not self.is_its_model(self.model):
            raise ValueError(
                f"{self.model} is not the model that metrics.json beside it describes: put that one "
                "back, or train again"
            )

    @property
    def class_names(self) -> list[str]:
        return self.metrics["data"]["class_names"]

    @property
    def fingerprint(self) -> tuple[str, tuple[str, ...]]:
        """Tells the images and classes of one run from those of another."""
        return self.metrics["data"]["sha256"], tuple(self.class_names)

    @property
    def comparable(self) -> tuple:
        """Only runs that have it in common are ranked: images, classes, and what is validated on.

        Without near duplicates of its test images, a validation split is another one, and which those
        are depends on the size that images are compared in.
        """
        dropped = self.config["near_duplicates"] == "drop"
        side = self.metrics["data"].get("side") if dropped else None
        return *self.fingerprint, self.config["near_duplicates"], side

    def export_folder(self, kind: str) -> Path:
        """Returns the folder of an export of its model: of a format, or of `all`."""
        return self.folder / f"export-{kind}"

    def is_of(self, identity: dict) -> bool:
        """Says whether it has the images, classes and splits of a `data.Dataset.identity`.

        Runs from before splits were recorded are compared by images and classes alone.
        """
        about = self.metrics["data"]
        return all(about.get(key, value) == value for key, value in identity.items())

    @property
    def config(self) -> dict[str, Any]:
        """Its settings; of an older run also what newer settings would have been."""
        return OLDER_DEFAULTS | self.metrics["config"]

    @property
    def weights(self) -> str:
        """Names the weights that it began with: those of a file by its name and sha256."""
        source = str(self.config["weights"])
        return (
            source
            if source in WEIGHTS
            else f"{Path(source).name} {self.weights_sha256[:8]}".strip()
        )

    @property
    def weights_sha256(self) -> str:
        """The hash of the file that they are from; empty if there is none, or the run is older."""
        about = self.metrics.get("weights")
        return str(about.get("sha256") or "") if isinstance(about, dict) else ""

    def is_on(self, names: Iterable[str]) -> bool:
        """Says whether it ran on one of these data, by the name given to --data or the one printed."""
        about = self.metrics["data"]
        for name in names:
            if name in data.SOURCES:
                if about["source"] == name:
                    return True
                continue
            path = os.path.abspath(os.path.expanduser(name))
            # Older runs have the name as it was typed; and it may be a link to the folder.
            if about["source"] in (name, path):
                return True
            linked = about["source"] not in data.SOURCES and os.path.exists(path)
            if linked and os.path.realpath(path) == os.path.realpath(about["source"]):
                return True
            # The printed name of a folder says its last part alone.
            if about["description"] == name and not os.path.exists(path):
                return True
        return False


def create(
    logs: str | Path, regime: str, recipe: str, name: str | None = None
) -> tuple[Path, list[Path]]:
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
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
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
            remove_empty(made)
            raise OSError(
                f"{parent / candidate} can't be made ({error.strerror}): choose another --logs or "
                "--name"
            ) from error
    raise OSError(f"{parent / candidates[0]} exists: choose another --name, or remove it")


def check_logs(logs: str | Path, source: str) -> None:
    """Refuses a folder of runs that is a file, or among the images, whose plots would be taken for images.

    Raises:
        OSError: It is there, or has a name that TensorFlow can't write to.
    """
    try:
        str(logs).encode()
    except UnicodeEncodeError:
        raise OSError(
            f"{printable(logs)} is not UTF-8, which TensorFlow needs: choose another --logs"
        ) from None
    if os.path.lexists(logs) and not os.path.isdir(logs):
        raise OSError(f"{logs} can't be made, a file of that name exists: choose another --logs")
    folder, images = (Path(os.path.realpath(os.path.expanduser(path))) for path in (logs, source))
    among = (
        source and source not in data.SOURCES and images.is_dir() and folder.is_relative_to(images)
    )
    if among:
        raise OSError(f"{logs} is in the folder of images, {source}: choose another --logs")


def refuse_taken(logs: str | Path, regime: str, names: Iterable[str]) -> None:
    """Refuses names of runs that are there, before the first of several folds begins.

    Raises:
        OSError: A run of such a name exists.
    """
    for name in names:
        folder = Path(logs, regime, name)
        if folder.exists():
            raise OSError(
                f"{folder} exists: choose another --name, or train the other folds with --fold, "
                "each with a --name of its own"
            )


@contextlib.contextmanager
def removed_without_model(made: Sequence[Path]) -> Iterator[None]:
    """Removes what `create` made, if anything, unless a model was saved in it."""
    try:
        yield
    finally:
        if made and not (made[0] / "model.keras").exists():
            shutil.rmtree(made[0], ignore_errors=True)
            remove_empty(made[1:])


def reopen(folder: Path, settings: dict) -> None:
    """Marks a resumed run as unfinished, under its new settings, when its model changes."""
    for name in ("metrics.json", "test.json", "validation.npz"):
        (folder / name).unlink(missing_ok=True)
    for export in sorted(folder.glob("export-*")):
        say("note", f"{export} was exported from an earlier model of this run: export it again")
    write_json(folder / "config.json", settings)


def refuse_changed(folder: Path, dataset: data.Dataset, source: str) -> None:
    """Refuses to resume a run on `source`, a folder of images, if these have changed; names one that has.

    Raises:
        ValueError: They have.
    """
    path = folder / "split.json"
    if not path.exists():
        return
    before, now = (
        {entry["file"]: entry for entries in splits.values() for entry in entries}
        for splits in (read_json(path), dataset.files or {})
    )
    for file in sorted(before.keys() | now.keys()):
        if before.get(file) != now.get(file):
            if file in now:
                what = "differs" if file in before else "is new"
            elif os.path.lexists(os.path.join(os.path.expanduser(source), file)):
                what = f"is left out now; python data.py {shlex.quote(source)} says why"
            else:
                what = "is gone"
            raise ValueError(f"{folder} can't be resumed: its images have changed: {file} {what}")


def check_model(path: Path) -> None:
    """Refuses what can't be a saved model, before Keras is imported to load it.

    Raises:
        OSError, ValueError: It is missing or no whole Keras file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected a model.keras")
    with path.open("rb") as file:  # by its path, what can't be read is not one
        whole = zipfile.is_zipfile(file)
    if path.suffix != ".keras" or not whole:
        raise ValueError(f"{path} is not a Keras file, or was cut short: expected a model.keras")


def weights_digest(path: Path) -> str:
    """Returns the sha256 of the weights in a Keras file, whenever and under whatever name it was saved.

    Raises:
        OSError, ValueError: It can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return hashlib.sha256(archive.read("model.weights.h5")).hexdigest()
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged or another kind of file: {error}") from error


def write_probabilities(path: Path, probabilities: np.ndarray) -> None:
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, probabilities=probabilities)


def read_probabilities(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads what `write_probabilities` wrote, float32 of this shape.

    Raises:
        OSError, ValueError: The file is missing, damaged, or of another shape.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            probabilities = file["probabilities"]
        sound = probabilities.shape == shape and probabilities.dtype == np.float32
    except (EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
        sound = False
    if not sound:
        raise ValueError(f"{path} is damaged: remove it, and compare.py computes it anew")
    return probabilities


def find(logs: str | Path) -> tuple[list[Run], list[str]]:
    """Reads all runs under a folder.

    Returns:
        The finished runs, and for every other folder a line that says why it is not one.
    """
    finished, others = [], []
    for folder in sorted(Path(logs).glob("*/*/")):
        try:
            finished.append(read(folder))
        except FileNotFoundError:
            if (folder / "config.json").exists():
                others.append(f"{folder}: {UNFINISHED}")
        except (OSError, ValueError) as error:
            others.append(reason(error))
    if finished:
        misplaced = [*Path(logs).glob("*/metrics.json")]
        for depth in depths.DEPTHS:
            misplaced += Path(logs, depths.regime(depth)).glob("*/*/metrics.json")
        others += [
            f"{path.parent}: expected a run in a folder of its regime, {logs}/REGIME/NAME"
            for path in sorted(misplaced)
        ]
    return finished, others


def read(folder: Path) -> Run:
    """Reads a finished run.

    Raises:
        OSError, ValueError: It is not finished, or its metrics.json is damaged.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file: expected a run's folder, such as {folder.parent}")
    return Run(folder, read_metrics(folder))


def none_under(logs: str | Path) -> str:
    """Says that there is no finished run under a folder, and what to do."""
    logs = Path(logs)
    if (logs / "metrics.json").exists() or any(logs.glob("*/metrics.json")):
        return (
            f"no finished run under {logs}: expected the folder of all runs, one or two levels up"
        )
    if further := sorted(logs.glob("*/*/*/metrics.json")):
        return (
            f"no finished run under {logs}, but under {further[0].parents[2]}: give that as --logs"
        )
    if any(logs.glob("*/*/config.json")):
        return (
            f"no finished run under {logs}: --resume, or the same sweep, continues one that was "
            "interrupted"
        )
    return f"no finished run under {logs}: train one first, e.g. with train_frozen.py"


def on_data(finished: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """Chooses the runs on some data, wherever these images were when they were trained.

    Args:
        finished: Runs.
        names: As `Run.is_on` takes them.
    """
    known = {run.fingerprint for run in finished if run.is_on(names)}
    return [run for run in finished if run.fingerprint in known]


def best_first(run: Run) -> tuple[float, float]:
    """Sorts runs, the best first: by validation accuracy, then by validation loss."""
    return -run.metrics["validation_accuracy"], run.metrics["validation_loss"]


def images_of(group: Sequence[Run]) -> data.Dataset:
    """Loads the images of the first of some runs, from where any of them found the same images.

    Raises:
        Gone: They do not exist any more, can't be read, or others are in their place.
    """
    first = group[0]
    sources = dict.fromkeys(run.metrics["data"]["source"] for run in group)
    there = [source for source in sources if data.exists(source)]
    config = first.config
    known = [key for key in data.SETTINGS if key in config]
    # The others are the defaults of `data.load`.
    how = {key: config[key] for key in known if config[key] != OLDER_DEFAULTS.get(key)}
    why = "no longer exists: move the images back, or train a new run where they are now"
    if there:
        why = (
            "has changed since: its images, or their splits, are no longer the run's; undo the changes, "
            "or train a new run"
        )
    for source in there:
        try:
            dataset = data.load(source, **how)
        except (OSError, ValueError) as error:
            why = f"can no longer be read ({reason(error)})"
            continue
        before = first.metrics["data"].get("side", dataset.side)
        if not first.is_of(dataset.identity):
            continue
        if dataset.side == before:
            return dataset
        why = f"is read at {dataset.side} px now, where the run had {before} px: train it again"
    raise Gone(f"{', '.join(there or sources)} {why}")
