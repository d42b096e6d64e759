"""Exports a trained model: for phones, embedded boards, browsers, other languages and runtimes.

    python export.py --format litert --int8          # the best run; or name the folder of another one
    python export.py --format web                    # a page that runs it in a browser
    python export.py RUN --all                       # every format whose packages are installed

The file takes raw pixels: all preprocessing is inside. Before it is kept, it is run in its format's own
runtime on validation images and compared with the Keras model. labels.txt and a model card are beside
it. pip install -r requirements-export.txt installs the packages.
"""

import functools
import os
import shlex
import shutil
import statistics
import sys
import time
from pathlib import Path

import transfer  # noqa: F401  (from here on, Ctrl-C is one line)

# isort: split
import numpy as np

from transfer import card, files, formats, page, runs, table, terminal
from transfer.images import is_hidden
from transfer.terminal import say

VERIFIED = 2000  # validation images on which an exported model is compared
TIMED = 50  # of them, one by one
CALIBRATION = 500  # training images that set int8's ranges
# An image whose top two probabilities differ by less than this may go to either class.
TIE = 1e-3
AGREES = 0.9  # fraction of images, below which int8 is warned about


def main(arguments=None):
    parser = terminal.Parser(description="Exports a trained model.")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        type=Path,
        help="folder of the run to export [the best run]",
    )
    names = [name for name, known in formats.FORMATS.items() if not known.int8]
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--format", choices=names, help="format of the exported file")
    kinds.add_argument(
        "--all", action="store_true", help="every format whose packages are installed"
    )
    parser.add_argument(
        "--int8", action="store_true", help="quantize litert to int8, a quarter of the size"
    )
    parser.add_argument("--output", type=Path, help="folder to make [RUN/export-FORMAT]")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an earlier export there; its hidden files stay, any other file is refused",
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        default=0.01,
        help="largest drop in validation accuracy allowed for int8 [0.01]",
    )
    chosen.add_argument(
        "--data", help="use the best run on this data; same value as --data in training"
    )
    parser.add_argument("--logs", type=Path, default="logs", help="folder of all runs [logs]")
    asked = parser.parse_args(arguments)
    if asked.int8 and asked.format != "litert":
        parser.error("argument --int8: expected --format litert (--all includes it)")
    if asked.run and os.path.isfile(asked.run):
        parser.error(f"argument RUN: expected the folder of a run. Received: {asked.run}")
    if not 0 <= asked.max_accuracy_drop <= 1:
        parser.error(
            f"argument --max-accuracy-drop: expected 0 to 1. Received: {asked.max_accuracy_drop}"
        )
    with terminal.ends_quietly("nothing was exported"), terminal.one_line_errors():
        return export(asked)


def export(asked):
    """Exports, verifies and keeps what was asked for; returns the exit status."""
    run = runs.read(asked.run) if asked.run else table.best(asked.logs, asked.data, "RUN")
    run.check_model()
    needed = {"total_params", "validation_images"} - run.metrics.keys()
    if needed or "head" not in run.config:
        raise ValueError(
            f"{run.folder} was trained with an older version of this project: train it again"
        )
    names = chosen_formats(asked)
    kind = "all" if asked.all else names[0].replace(" ", "-")
    # A path such as new/.. means something else once new is made.
    output = Path(os.path.realpath(asked.output)) if asked.output else run.export_folder(kind)
    check = functools.partial(check_output, overwrite=asked.overwrite)
    check(output)
    one_thread()
    try:
        dataset = runs.images_of([run])
    except runs.Gone as gone:
        raise ValueError(
            f"an export is verified on the images that its run was validated on: {gone}"
        ) from gone
    terminal.import_keras()
    say("run", run.folder, flush=True)
    with files.folder_written_whole(output, check) as part:
        rows, failed = convert(run, dataset, names, part, asked.max_accuracy_drop)
        if len(rows) == 1:
            for error in failed[1:]:
                terminal.complain(error)
            raise failed[0]
        run.check_model()  # it may have been trained on meanwhile
        print(card.table(rows))
        card.write(part, run, dataset, rows)
        keep_hidden(output, part)
    say("export", output)
    if "web" in {row.name for row in rows}:
        folder = shlex.quote(str(output))
        say("page", f"python -m http.server --directory {folder}, then open http://localhost:8000")
        if not page.has_runtime():
            terminal.complain(f"the page still needs ONNX Runtime: {page.INSTALL} {folder}")
    for error in failed:
        terminal.complain(error)
    return int(bool(failed))


def chosen_formats(asked):
    """Returns the names of the formats asked for; of all, says which lack packages.

    Raises:
        OSError: The one that is asked for does.
    """
    if not asked.all:
        name = f"{asked.format} int8" if asked.int8 else asked.format
        formats.check(name)
        return [name]
    names = []
    for name in formats.FORMATS:
        if lacking := formats.missing(name):
            say("skipped", f"{name}: {' and '.join(lacking)} missing")
        else:
            names.append(name)
    return names


def one_thread():
    """Limits TensorFlow, unless it is already imported, to one thread, as the other runtimes are."""
    if "tensorflow" not in sys.modules:
        os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"


def check_output(output, overwrite):
    """Refuses a folder that exists, unless it has only hidden files or is an earlier export to be replaced."""
    if os.path.ismount(output):
        raise ValueError(
            f"{output} exists and is a mount point, which can't be replaced: choose a folder in it"
        )
    if output.is_dir() and output.samefile(os.curdir):
        raise ValueError(
            f"{output} is the current folder, which can't be replaced: choose another --output"
        )
    around = next((folder for folder in output.parents if folder.exists()), output)
    if not os.access(around, os.W_OK):
        raise OSError(f"{output} can't be written: choose another --output")
    paths = output.iterdir() if output.is_dir() else ()
    names = {path.name for path in paths if not is_hidden(path.name)}
    if not os.path.lexists(output) or (output.is_dir() and not names):
        return
    if output.is_file():
        raise ValueError(f"{output} is a file: choose another --output")
    if not overwrite:
        raise ValueError(f"{output} exists: choose another --output, or give --overwrite as well")
    foreign = sorted(names - formats.WRITTEN)
    if foreign or formats.PREPROCESSING not in names:
        what = f"holds {foreign[0]}" if foreign else "was not made by export.py"
        raise ValueError(f"{output} {what}, and is not replaced: choose another --output")


def keep_hidden(output, part):
    """Copies the hidden files of the folder to be replaced, such as a published page's .git.

    Raises:
        OSError: One of them can't be copied.
    """
    if not output.is_dir():
        return
    try:
        shutil.copytree(
            output,
            part,
            symlinks=True,
            ignore=lambda folder, _: formats.WRITTEN if Path(folder) == output else (),
            dirs_exist_ok=True,
        )
    except shutil.Error as error:
        (path, *_), *_ = error.args[0]
        raise OSError(
            f"{path} can't be copied to the new export: move it elsewhere, or choose another --output"
        ) from error


def convert(run, dataset, names, folder, max_drop):
    """Writes a run's model in several formats, and compares each with it.

    Args:
        run, dataset: The run, and its images.
        names: Of the formats.
        folder: Where to write them.
        max_drop: Largest drop in validation accuracy that is allowed in int8.

    Returns:
        List of `card.Row`, the Keras model's first; and of the errors of those formats that can't be
        written, or disagree with the Keras model, whose files are not kept.
    """
    from transfer import deployment, evaluation

    seed, classes = run.config["seed"], len(dataset.class_names)
    images, labels = drawn(dataset.validation, VERIFIED, seed)
    some, _ = balanced(dataset.train, classes, CALIBRATION, seed)
    trained = evaluation.load(run.model)
    judged = evaluation.classifier(evaluation.in_float32(trained), run.config["evaluation"])
    reference = measure(judged, [run.model], images)
    rows, failed = [card.Row("Keras, float32", run.model.name, reference, reference, labels)], []
    for name in names:
        known = formats.FORMATS[name]
        paths = known.paths(folder)
        say(name, known.file, flush=True)
        try:
            size, calibration = dataset.side if known.fixed else None, some if known.int8 else None
            model = deployment.network(trained, run, size, calibration, known.page)
            formats.write(model, name, folder, some)
            found = measure(formats.Runtime(paths[0], threads=1), paths, images)
            row = card.Row(name, known.file, found, reference, labels)
            verify(row, max_drop if known.int8 else None)
            rows.append(row)
        except ValueError as error:
            # Without the folder, which is only there while they are written.
            failed.append(ValueError(str(error).replace(f"{folder}{os.sep}", "")))
            for path in known.written(folder):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return rows, failed


def drawn(split, count, seed):
    """Draws at most `count` images of a split by the seed; returns their `data.Split`, in their order."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(split.labels))[:count])
    return split.take(chosen)


def balanced(split, classes, count, seed):
    """Draws images of a split by the seed, equally many of each class as far as there are enough.

    Returns:
        The `data.Split` of at most `count` images, in their order.
    """
    order = np.random.default_rng(seed).permutation(len(split.labels))
    # The first of each class, then the second of each, and so on.
    turn = np.empty(len(order), int)
    for label in range(classes):
        own = order[split.labels[order] == label]
        turn[own] = np.arange(len(own))
    chosen = np.sort(order[np.argsort(turn[order], kind="stable")][:count])
    return split.take(chosen)


def measure(model, paths, images):
    """Runs a model, of these files, on images uint8 (n, side, side, 3); returns `card.Measured`."""
    times = []
    for image in images[: TIMED + 1]:
        start = time.perf_counter()
        model.predict_on_batch(image[np.newaxis])
        times.append(time.perf_counter() - start)
    parts = [images[start : start + TIMED] for start in range(0, len(images), TIMED)]
    probabilities = np.concatenate([np.float32(model.predict_on_batch(part)) for part in parts])
    size = sum(file.stat().st_size for file in files.files_of(paths))
    # The first call sets the model up; of a single image, there is no other.
    return card.Measured(size, statistics.median(times[1:] or times), probabilities)


def verify(row, max_drop):
    """Refuses an exported model that does not do what the Keras model does.

    Args:
        row: `card.Row` of the exported model.
        max_drop: Largest drop in validation accuracy that is allowed in int8; None of a float format, which must agree.

    Raises:
        ValueError: It does not.
    """
    expected = row.reference.probabilities.argmax(axis=1)
    if max_drop is not None:
        lost = int(np.sum(expected == row.labels)) - int(np.sum(row.predicted == row.labels))
        if lost > max_drop * len(row.labels) + 1e-6:
            raise ValueError(
                f"{row.file} loses {lost / len(row.labels):.4f} of validation accuracy, more than "
                f"--max-accuracy-drop {max_drop} allows: it was not kept"
            )
        if row.agreement < AGREES:
            terminal.complain(
                f"{row.file} gives the same class as the Keras model to only {row.agreement:.0%} of "
                "the images"
            )
        return
    second, first = np.sort(row.reference.probabilities, axis=1)[:, -2:].T
    wrong = np.sum((first - second > TIE) & (row.predicted != expected))
    if wrong:
        raise ValueError(
            f"{row.file} disagrees with the Keras model on {wrong} of {len(expected):,} images: it "
            "was not kept"
        )


if __name__ == "__main__":
    sys.exit(main())
