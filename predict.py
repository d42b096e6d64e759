"""What is in these images? Asks a trained model, by default that of the best finished run.

    python predict.py IMAGE ...             # files, folders or patterns; one line each

The model sees the largest central square of an image. With --explain FILE.png each image is drawn
beside the regions that count towards its class: where the network ends in class maps (heads conv,
conv_relu and average) by the map of that class, which is exact, otherwise by Grad-CAM
(Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391) on the last fire module.
"""

import concurrent.futures
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from transfer import files, formats, runs, table, terminal
from transfer.recipes import LARGEST_SIZE
from transfer.terminal import printable

BATCH = 16  # images read and classified at once
DRAWN = 100  # images in a plot, at most


def main(arguments=None):
    parser = terminal.Parser(description="Classifies images.")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="files, folders or patterns such as '*.jpg'"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", type=Path, help="folder of a finished run [the best one]")
    which.add_argument(
        "--model", type=Path, help="a model.keras of a run, or a model that export.py wrote"
    )
    which.add_argument(
        "--data", help="use the best run on this data; same value as --data in training"
    )
    parser.add_argument("--logs", type=Path, default="logs", help="folder of all runs [logs]")
    parser.add_argument("--top", type=int, default=1, help="classes shown per image [1]")
    parser.add_argument(
        "--explain", type=Path, metavar="FILE.png", help="draw the evidence for the top class"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    asked = parser.parse_args(arguments)
    if asked.top < 1:
        parser.error(f"argument --top: expected 1 or more. Received: {asked.top}")
    for name in asked.images:
        if "://" in name and not os.path.exists(name):
            parser.error(f"argument IMAGE: {name} is a URL: download it first")
    if asked.explain:
        parser.check_plot("--explain", asked.explain)

    with terminal.ends_quietly("the remaining images were not classified"):
        failed = answer(asked)
    sys.exit(int(failed))


def answer(asked):
    """Prints what is in the images asked for; says whether any of them could not be read."""
    with terminal.one_line_errors():
        from transfer import images

        paths = images.find(asked.images)
        if asked.explain and len(paths) > DRAWN:
            raise ValueError(
                f"argument --explain: {len(paths):,} images: expected at most {DRAWN} in one plot"
            )
        opened = open_model(asked)

    show = show_json if asked.json else show_text
    explained, failed = [], False
    for path, image, probabilities in predict(opened.model, paths, opened.side, opened.enlarge):
        if isinstance(image, Exception):
            failed = True
            if asked.json:
                print(json.dumps({"image": str(path), "error": str(image)}))
            terminal.complain(image)
            continue
        best = (-probabilities).argsort(kind="stable")[: asked.top]  # of equal ones the first
        print(show(path, [(opened.class_names[i], float(probabilities[i])) for i in best]))
        if asked.explain:
            title = f"{printable(path.name)}\n{probabilities[best[0]]:.1%} {opened.class_names[best[0]]}"
            explained.append((image, best[0], title))
    if explained:
        with terminal.one_line_errors():
            draw(opened.network, explained, asked.explain)
    return failed


class Opened(NamedTuple):
    """A model, the names of its classes, and how images are read for it.

    `side` and `enlarge` are the arguments of `images.read`. `network` is the Keras model that
    --explain looks into.
    """

    model: Any
    class_names: list[str]
    side: int
    enlarge: bool
    network: Any = None


def open_model(asked):
    """Opens what was asked for, in the fastest way there is; returns it as `Opened`."""
    if asked.model and formats.runtime_of(asked.model):
        if asked.explain:
            raise ValueError(f"--explain needs the model.keras of a run: {asked.model} is not one")
        return open_exported(asked.model)
    path, run = choose_model(asked)
    exported = exported_litert(run) if run and not (asked.model or asked.explain) else None
    if exported:  # it answers before Keras would be imported
        try:
            return open_exported(exported, run.class_names)
        except (OSError, ValueError) as error:
            terminal.complain(f"{error}; {path} is used instead")
    return open_run(path, run)


def exported_litert(run):
    """Finds the LiteRT file that was made of a run's model, if it can be run and answers alike.

    It computes in float32: a model trained in bfloat16 answers otherwise.
    """
    if formats.missing("litert") or run.metrics["precision"] != "float32":
        return None
    for kind in ("litert", "all"):
        folder = run.export_folder(kind)
        path = folder / formats.FORMATS["litert"].file
        try:
            hashes = files.read_json(folder / formats.PREPROCESSING)[formats.HASHES]
            if all(hashes[each.name] == files.digest(each) for each in (run.model, path)):
                return path
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def open_run(path, run):
    """Loads a model.keras, of a run if one is known; returns it as `Opened`."""
    runs.check_model(path)
    terminal.import_keras()
    from transfer.evaluation import classifier, load

    model = load(path)
    class_names = [f"class {i}" for i in range(model.output_shape[-1])]
    evaluation, side = "plain", None
    if run:
        class_names, evaluation = run.class_names, run.config["evaluation"]
        side = run.metrics["data"].get("side")  # which older runs lack
    else:
        terminal.complain(
            f"{path} has no metrics.json beside it: the class names, --evaluation and "
            "the size of the images it was trained on are unknown"
        )
    if len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"{path} has {model.output_shape[-1]} classes, but its run has {len(class_names)}"
        )
    largest = side or model.get_layer("resize").height
    return Opened(classifier(model, evaluation), class_names, largest, bool(side), model)


def open_exported(path, class_names=()):
    """Loads a model that export.py wrote, in the runtime of its format; returns it as `Opened`.

    `class_names` are those beside it if none are given.
    """
    model = formats.Runtime(path)
    named, side = formats.beside(path)
    class_names = class_names or named
    side = model.side or side
    if not class_names:
        class_names = [f"class {i}" for i in range(model.classes)]
        terminal.complain(f"{path} has no {formats.LABELS} beside it: the class names are unknown")
    if not side:
        terminal.complain(
            f"{path} has no {formats.PREPROCESSING} beside it: the size of the images it was "
            f"trained on is unknown, and they are read at up to {LARGEST_SIZE} pixels"
        )
    if len(class_names) != model.classes:
        raise ValueError(
            f"{path} has {model.classes} classes, but its {formats.LABELS} has {len(class_names)}"
        )
    return Opened(model, class_names, side or LARGEST_SIZE, bool(side))


def choose_model(asked):
    """Returns the path of the model asked for and its `runs.Run`, None where no run is known.

    Raises:
        OSError, ValueError: There is no such model.
    """
    if asked.model:
        if asked.model.is_dir():
            raise ValueError(
                f"{asked.model} is a folder: give the model in it, or --run for the folder of a run"
            )
        beside = asked.model.parent / "metrics.json"
        if not beside.exists():
            return asked.model, None
        runs.check_model(asked.model)
        run = runs.read(beside.parent)
        if not run.is_its_model(asked.model):
            raise ValueError(
                f"{asked.model} is not the model that {beside} describes: move it to another folder or, "
                "if an older version of this project made the run, rename it model.keras"
            )
        return asked.model, run
    if asked.run:
        run = runs.read(asked.run)
    else:
        run = table.best(asked.logs, asked.data, "--run or --model")
        terminal.complain(f"using the model of {run.folder}")
    return run.model, run


def predict(model, paths, largest, enlarge):
    """Reads and classifies images, in batches, in their order.

    Args:
        model: What has `predict_on_batch`, from images uint8 (n, side, side, 3) to probabilities.
        paths: The images' files.
        largest, enlarge: As `images.read` takes them.

    Yields:
        For each path the path, the image uint8 (side, side, 3) and its probabilities (classes,); or
        the path, the error that it gave, and None.
    """
    from transfer import images, precision

    def read(path):
        try:
            return images.read(path, largest, enlarge)
        except (OSError, ValueError) as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(precision.CORES) as pool:
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            found = list(pool.map(read, batch))
            with terminal.one_line_errors():
                probabilities = classify(model, found)
            yield from zip(batch, found, probabilities, strict=True)


def classify(model, images):
    """Returns the probabilities of each of the images, None for what is an error."""
    import numpy as np

    probabilities = [None] * len(images)
    by_shape = {}
    for place, image in enumerate(images):
        if not isinstance(image, Exception):
            by_shape.setdefault(image.shape, []).append(place)
    for places in by_shape.values():
        found = model.predict_on_batch(np.stack([images[place] for place in places]))
        for place, row in zip(places, np.float32(found), strict=True):
            probabilities[place] = row
    return probabilities


def show_text(path, classes):
    return f"{printable(path)}: " + ", ".join(
        f"{name} {probability:.1%}" for name, probability in classes
    )


def show_json(path, classes):
    found = [{"class": name, "probability": probability} for name, probability in classes]
    return json.dumps({"image": str(path), "classes": found})


def draw(model, explained, path):
    from transfer import plots

    method, evidence = explainer(model)
    drawn = []
    for image, label, title in explained:
        cells = evidence(image, label)
        side = f"{cells.shape[0]}x{cells.shape[1]}"
        drawn.append((image, cells, f"{title}\n{method}, {side} cells"))
    plots.save(plots.explanations(drawn), path)


def explainer(model):
    """Chooses how a model's decision is shown.

    Returns:
        The method's name, and the function of an image uint8 (height, width, 3) and a class number
        that gives the evidence for that class, float32 (rows, columns), in 0..1.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from transfer.evaluation import class_maps

    def scaled(evidence):
        evidence = np.maximum(np.float32(evidence), 0)
        return evidence / max(evidence.max(), 1e-12)

    if maps := class_maps(model):
        return "class map", lambda image, label: scaled(maps(image[np.newaxis])[0, ..., label])
    outputs = [model.get_layer(name).output for name in ("fire9_concat", "head_logits")]
    both = keras.Model(model.inputs[0], outputs)

    def grad_cam(image, label):
        with tf.GradientTape() as tape:
            features, logits = both(image[np.newaxis], training=False)
            logit = logits[0, label]
        slopes = np.float32(tape.gradient(logit, features)[0])
        return scaled(np.float32(features[0]) @ slopes.mean(axis=(0, 1)))

    return "Grad-CAM", grad_cam


if __name__ == "__main__":
    main()
