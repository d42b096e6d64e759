"""Takes a trained model elsewhere: to a phone, a camera board, another language.

    python export.py --format litert --int8          # the best run; or name the folder of another one
    python export.py RUN --all                       # every format whose packages are installed

The file takes raw pixels: all preprocessing is inside. Before it is kept, it is run in its format's own
runtime on validation images and compared with the Keras model. labels.txt and a model card are beside
it. pip install -r requirements-export.txt installs the packages.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from transfer import card, files, formats, results, runs, terminal

VERIFIED = 2000  # validation images on which an exported model is compared
TIMED = 50  # of them, one by one
CALIBRATION = 500  # training images that set int8's ranges
# An image whose two best classes are nearer to each other than that may be either of them.
TIE = 1e-3


class Measured(NamedTuple):
    """How a model does on the validation images: bytes, seconds for one image, probabilities."""

    bytes: int
    seconds: float
    probabilities: np.ndarray


def main(arguments=None):
    parser = terminal.Parser(description="Exports a trained model.", allow_abbrev=False)
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="its folder [the best one]"
    )
    parser.add_argument("--format", choices=formats.FORMATS, help="of the file")
    parser.add_argument("--all", action="store_true", help="every format that can be written here")
    parser.add_argument(
        "--int8", action="store_true", help="litert in integers, a quarter as large"
    )
    parser.add_argument("--output", type=Path, help="folder to make [RUN/export-FORMAT]")
    parser.add_argument("--overwrite", action="store_true", help="replace that folder")
    parser.add_argument(
        "--max-loss", type=float, default=0.01, help="accuracy that int8 may lose [0.01]"
    )
    parser.add_argument("--data", help="the best run on these data, named as in training")
    parser.add_argument("--logs", default="logs", help="folder of all runs [logs]")
    asked = parser.parse_args(arguments)
    if bool(asked.format) == asked.all:
        parser.error("expected either --format or --all")
    if asked.int8 and asked.format != "litert":
        parser.error("argument --int8: expected --format litert (--all includes it)")
    if not 0 <= asked.max_loss <= 1:
        parser.error(f"argument --max-loss: expected 0 to 1. Received: {asked.max_loss}")
    with terminal.ends_quietly("nothing was exported"), terminal.one_line_errors():
        return export(asked)


def export(asked):
    """Exports, verifies and keeps what was asked for; gives the exit status."""
    if asked.run:
        run = runs.Run(asked.run, results.read_metrics(asked.run))
    else:
        run = runs.best(asked.logs, asked.data, "RUN")
    runs.check_model(run.folder / "model.keras")
    if asked.all:
        names = [name for name in formats.FORMATS if not formats.missing(name)]
        for name in formats.FORMATS.keys() - set(names):
            print(f"skipped     {name}: {' and '.join(formats.missing(name))} missing")
        targets = [
            (name, int8) for name in names for int8 in (False, True)[: 1 + (name == "litert")]
        ]
    else:
        formats.check(asked.format)
        targets = [(asked.format, asked.int8)]
    kind = "".join([f"-{asked.format or 'all'}", "-int8" * asked.int8])
    output = asked.output or run.folder / f"export{kind}"
    if os.path.lexists(output):
        if not asked.overwrite:
            raise ValueError(
                f"{output} exists: choose another --output, or give --overwrite as well"
            )
        if not (output / formats.PREPROCESSING).is_file():
            raise ValueError(f"{output} was not made by export.py: choose another --output")
    try:
        dataset = runs.images_of([run])
    except runs.Gone as gone:
        raise ValueError(f"an export is verified on the images of its run: {gone}") from gone
    if "tensorflow" not in sys.modules:
        os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # as the other runtimes are measured
    terminal.import_keras()
    print(f"run         {run.folder}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with files.folder_written_whole(output) as part:
        rows = convert(run, dataset, targets, part, asked.max_loss)
        print(card.table(rows))
        card.write(part, run, dataset, rows)
    print(f"export      {output}")
    return 0


def convert(run, dataset, targets, folder, max_loss):
    """Writes a run's model in several formats, and compares each with it.

    Args:
        run, dataset: The run, and its images.
        targets: List of `(format, whether in int8)`.
        folder: Where to write them.
        max_loss: Accuracy that int8 may lose.

    Returns:
        List of `card.Row`, the Keras model's first.

    Raises:
        OSError, ValueError: One can't be written, or gives something else than the Keras model.
    """
    from transfer import deployment, evaluation

    images, labels = (array[:VERIFIED] for array in dataset.validation)
    path = run.folder / "model.keras"
    trained = deployment.in_float32(evaluation.load(path))
    reference = measure(evaluation.classifier(trained, run.evaluation), path, images)
    rows = [card.Row("Keras", path.name, reference, reference, labels)]
    side = dataset.train.images.shape[1]
    for name, int8 in targets:
        known = formats.FORMATS[name]
        file = known.file.replace(".", "-int8.") if int8 else known.file
        print(f"{name:<11} {file}", flush=True)
        if int8:
            model = deployment.network(run, side, dtype="float32")
            formats.write_int8(model, calibration(run, dataset), folder / file)
        else:
            model = deployment.network(run, side if known.fixed else None)
            formats.write(model, name, folder / file)
        found = measure(formats.Runtime(folder / file, threads=1), folder / file, images)
        row = card.Row(f"{name} int8" if int8 else name, file, found, reference, labels)
        verify(row, reference, labels, max_loss if int8 else None)
        rows.append(row)
    return rows


def calibration(run, dataset):
    """Draws training images by the run's seed, of all classes as many as of any other if there are."""
    images, labels = dataset.train
    random = np.random.default_rng(run.setting("seed"))
    order = random.permutation(len(labels))
    # The first of each class, then the second of each, and so on.
    turn = np.empty(len(labels), int)
    for label in range(len(dataset.class_names)):
        own = order[labels[order] == label]
        turn[own] = np.arange(len(own))
    chosen = order[np.argsort(turn[order], kind="stable")][:CALIBRATION]
    return images[chosen]


def measure(model, path, images):
    """Runs a model on images uint8 (n, side, side, 3)."""
    times = []
    for image in images[:TIMED]:
        start = time.perf_counter()
        model.predict_on_batch(image[np.newaxis])
        times.append(time.perf_counter() - start)
    parts = [images[start : start + TIMED] for start in range(0, len(images), TIMED)]
    probabilities = np.concatenate([np.float32(model.predict_on_batch(part)) for part in parts])
    # OpenVINO's weights are in a second file.
    written = (
        path.rglob("*")
        if path.is_dir()
        else {path, path.with_suffix(path.suffix.replace("xml", "bin"))}
    )
    size = sum(each.stat().st_size for each in written if each.is_file())
    return Measured(size, statistics.median(times), probabilities)


def verify(row, reference, labels, max_loss):
    """Refuses an exported model that does not do what the Keras model does.

    Args:
        row: `card.Row` of the exported model.
        reference: `Measured` of the Keras model.
        labels: int (n,).
        max_loss: Accuracy that it may lose in int8; None of a float format, which must agree.

    Raises:
        ValueError: It does not.
    """
    if max_loss is not None:
        loss = (reference.probabilities.argmax(axis=1) == labels).mean() - row.accuracy
        if loss > max_loss:
            raise ValueError(
                f"{row.file} loses {loss:.4f} of the validation accuracy: expected {max_loss} or "
                "less, see --max-loss; nothing was kept"
            )
        return
    second, first = np.sort(reference.probabilities, axis=1)[:, -2:].T
    sure = first - second > TIE
    differs = row.measured.probabilities.argmax(axis=1) != reference.probabilities.argmax(axis=1)
    if np.any(sure & differs):
        raise ValueError(
            f"{row.file} gives {np.sum(sure & differs)} of {len(labels)} images another class than "
            "the Keras model: nothing was kept"
        )


if __name__ == "__main__":
    sys.exit(main())
