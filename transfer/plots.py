"""The plots of the project, drawn to be read without colour."""

import math
import warnings

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)
from PIL import Image

from transfer import files, terminal
from transfer.results import NAMED_CLASSES

mpl.rcParams["text.parse_math"] = False  # a $ in a name is a dollar
# A name that no font here can draw shows as boxes, and long names overlap: both say so by themselves.
warnings.filterwarnings("ignore", message="Glyph .* missing from font")
warnings.filterwarnings("ignore", message="constrained_layout not applied")

STYLES = {  # marker and grey of each regime, the deeper the darker; others take the last
    "frozen": ("o", "0.6"),
    "fire9": ("v", "0.5"),
    "last_fire": ("s", "0.35"),
    "fire7": ("P", "0.3"),
    "fire6": ("X", "0.25"),
    "fire5": ("*", "0.2"),
    "fire4": ("<", "0.15"),
    "fire3": (">", "0.1"),
    "fire2": ("d", "0.05"),
    "full": ("^", "black"),
    None: ("D", "0.8"),
}
LINES = ("o", "s", "^", "D", "v", "P", "X", "*")  # markers of the lines of a sweep
BARS = "bars: 95 % interval; for several runs ± standard deviation"
PREVIEWED = 10  # images of a class
NAMED_POINTS = 8  # the best ones
LONGEST_NAME = 24  # of a class, in characters
LONGEST_TITLE = 12  # of a class above a small image
LONGEST_LINE = 100  # of what names a point


def save(figure, path):
    """Writes a figure as PNG, whole or not at all."""
    with files.written_whole(path) as part:
        figure.savefig(part, format="png", dpi=120, metadata={"Software": terminal.DRAWN_BY})


def _short(name, longest=LONGEST_NAME):
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def to_pixels(figure):
    """Renders a figure; returns uint8 (height, width, 3)."""
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def losses(history, kept_epoch, weighted=False):
    """Draws training and validation loss by epoch: where they part, overfitting begins.

    Args:
        history: Dict of lists: `loss` and `val_loss` after each `epoch` that was reported.
        kept_epoch: The epoch, from 1, whose weights are kept.
        weighted: Whether classes are weighted in the training loss, as they are not in the other.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    epochs = history["epoch"]
    axes.plot(
        epochs,
        history["loss"],
        "o--",
        color="0.45",
        label=f"training{', classes weighted' * weighted}",
    )
    axes.plot(epochs, history["val_loss"], "s-", color="black", label="validation")
    axes.axvline(kept_epoch, color="0.7", linestyle=":", label=f"kept: epoch {kept_epoch}")
    axes.set(xlabel="epoch", ylabel="categorical cross-entropy (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend()
    return figure


def confusion(matrix, class_names):
    """Draws a confusion matrix, int (true class, predicted class), by itself."""
    figure = Figure(figsize=(6, 5.6), layout="constrained")
    _draw_confusion(figure.subplots(), matrix, class_names)
    return figure


def _draw_confusion(axes, matrix, class_names):
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(fractions, cmap="Greys", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title("validation images of each true class", fontsize="medium")
    if len(class_names) > NAMED_CLASSES:
        return
    places, names = range(len(class_names)), list(map(_short, class_names))
    axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    for (true, predicted), images in np.ndenumerate(matrix):
        if images:
            ink = "white" if fractions[true, predicted] > 0.5 else "black"
            place = {"ha": "center", "va": "center", "color": ink, "fontsize": "x-small"}
            axes.text(predicted, true, f"{images:.0f}", **place)


def preview(dataset):
    """Draws training images of each class in a row, and says how many images each split has."""
    shown = range(min(len(dataset.class_names), NAMED_CLASSES))
    figure = Figure(figsize=(0.8 * PREVIEWED + 2, 0.8 * len(shown) + 0.8), layout="constrained")
    grid = figure.subplots(len(shown), PREVIEWED, squeeze=False)
    splits = (dataset.train, dataset.validation, dataset.test)
    for label in shown:
        images = dataset.train.images[np.flatnonzero(dataset.train.labels == label)[:PREVIEWED]]
        for axes in grid[label]:
            axes.set_axis_off()
        for axes, image in zip(grid[label], images, strict=False):
            axes.imshow(image)
        counts = " / ".join(f"{np.sum(split.labels == label):,}" for split in splits)
        name = f"{_short(dataset.class_names[label])}\n{counts}"
        place = {"ha": "right", "va": "center", "fontsize": "small"}
        grid[label, 0].text(-0.1, 0.5, name, transform=grid[label, 0].transAxes, **place)
    title = f"{dataset.description}: images for training / validation / test"
    if len(shown) < len(dataset.class_names):
        title += f"; the first {len(shown)} of {len(dataset.class_names)} classes"
    figure.suptitle(title, fontsize="medium")
    return figure


def comparison(title, curves, points, matrix, class_names, mistakes):
    """Draws what compare.py found, on one screen.

    Args:
        title: What was compared; the points' names stand below it.
        curves: For each line its regime, its name and the history of its run.
        points: For each row of the table its regime, its name, trainable parameters, seconds, mean
            validation accuracy and the ends of its error bar (low, high), or None: of a single run
            the 95 % interval, of several their mean less and plus their standard deviation.
        matrix: Confusion matrix of the best run, int (true class, predicted class).
        class_names: Names of the classes.
        mistakes: Images uint8 (height, width, 3) with true and predicted name and probability.
    """
    figure = Figure(figsize=(15, 9), layout="constrained")
    rows = figure.add_gridspec(2, 3, height_ratios=(1, 1.25))
    _draw_curves(figure.add_subplot(rows[0, 0]), curves)
    by_parameters, by_seconds = figure.add_subplot(rows[0, 1]), figure.add_subplot(rows[0, 2])
    _draw_points(by_parameters, points, lambda point: point[2], "trainable parameters")
    _draw_points(by_seconds, points, lambda point: point[3], "seconds for a run")
    named = by_seconds.get_legend_handles_labels()
    figure.legend(*named, loc="outside upper center", ncols=2, title=title)
    _draw_confusion(figure.add_subplot(rows[1, 0]), matrix, class_names)
    _draw_mistakes(figure.add_subfigure(rows[1, 1:]), mistakes)
    return figure


def sweep(title, depths, lines):
    """Draws what a sweep found: accuracy against depth, seconds and parameters, and the gain.

    Args:
        title: What the runs have in common.
        depths: Names of the depths, the shallowest first.
        lines: For each number of images, by its name, its `curve.Point`s, the shallowest first.
    """
    figure = Figure(figsize=(13, 9.5), layout="constrained")
    figure.suptitle(title)
    by_depth, by_seconds, by_parameters, gains = figure.subplots(2, 2).flat
    for number, (name, points) in enumerate(lines.items()):
        marker = LINES[number % len(LINES)]
        grey = str(0.7 * (len(lines) - 1 - number) / max(1, len(lines) - 1))
        style = {"color": grey, "marker": marker, "label": name, "capsize": 3}
        accuracies = [point.accuracy for point in points]
        spreads = [point.spread for point in points]
        places = [depths.index(point.depth) for point in points]
        by_depth.errorbar(places, accuracies, yerr=spreads, **style)
        for axes, cost in ((by_seconds, "seconds"), (by_parameters, "parameters")):
            values = [getattr(point, cost) for point in points]
            axes.plot(values, accuracies, marker, color=grey, label=name)
            front = _front(values, accuracies)
            axes.plot([x for x, _ in front], [y for _, y in front], "-", color=grey)
            for place, i in enumerate(np.argsort(values)):
                # In turn below and above, as neighbours may be close.
                near = {"textcoords": "offset points", "xytext": (5, 5 if place % 2 else -10)}
                where = values[i], accuracies[i]
                axes.annotate(points[i].depth, where, fontsize="x-small", **near)
    by_depth.set_xticks(range(len(depths)), depths)
    by_depth.set(xlabel="depth: what trains, from here to the classifier")
    for axes, label in ((by_seconds, "seconds for a run"), (by_parameters, "trainable parameters")):
        _logarithmic(axes)
        axes.set(xlabel=f"{label} (logarithmic); the line joins the Pareto front")
    for axes in (by_depth, by_seconds, by_parameters):
        axes.set(ylabel="validation accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.margins(0.1)
    by_depth.legend(fontsize="small", title="bars: ± standard deviation")
    _draw_gains(gains, depths, lines)
    return figure


def _front(costs, accuracies):
    """Returns the points that no other one beats in both cost and accuracy, the cheapest first."""
    front = []
    for cost, accuracy in sorted(zip(costs, accuracies, strict=True), key=lambda p: (p[0], -p[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def _draw_gains(axes, depths, lines):
    accuracies = np.full((len(lines), len(depths)), np.nan)
    for row, points in enumerate(lines.values()):
        for point in points:
            accuracies[row, depths.index(point.depth)] = point.accuracy
    # Of the depths that the most rows have, the shallowest: in the others no gain is known.
    base = np.argmax(np.isfinite(accuracies).sum(axis=0))
    gains = accuracies - accuracies[:, [base]]
    reach = np.nanmax(np.abs(gains)) or 1
    axes.imshow(gains, cmap="Greys", vmin=-reach, vmax=2 * reach, aspect="auto")
    for (row, column), gain in np.ndenumerate(gains):
        if np.isfinite(gain):
            color = "white" if gain > 0.6 * reach else "black"
            axes.text(column, row, f"{100 * gain:+z.1f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(depths)), depths)
    axes.set_yticks(range(len(lines)), list(lines))
    axes.set_title(f"gain over {depths[base]}, in points", fontsize="medium")


def _style(regime):
    return STYLES.get(regime, STYLES[None])


def _draw_curves(axes, curves):
    for regime, name, history in curves:
        marker, grey = _style(regime)
        epochs = history["epoch"]
        line = {"color": grey, "marker": marker, "markersize": 4}
        axes.plot(epochs, history["val_accuracy"], "-", label=name, **line)
        axes.plot(epochs, history["accuracy"], ":", **line)
    axes.set(xlabel="epoch\nsolid: validation, dotted: training", ylabel="accuracy")
    axes.set_title("learning curves, the best of each regime", fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize="small")


def _draw_points(axes, points, of_point, label):
    for number, point in enumerate(points, 1):
        regime, name, _, _, accuracy, ends = point
        marker, grey = _style(regime)
        bar = {"marker": marker, "color": grey, "markeredgecolor": "black", "capsize": 3}
        reach = ends and [[accuracy - ends[0]], [ends[1] - accuracy]]
        near = {"textcoords": "offset points", "xytext": (6, 6), "fontsize": "small"}
        if number <= NAMED_POINTS:
            bar["label"] = _short(f"{number}  {name}", LONGEST_LINE)
            axes.annotate(str(number), (of_point(point), accuracy), **near)
        axes.errorbar(of_point(point), accuracy, yerr=reach, **bar)
    _logarithmic(axes)
    axes.margins(x=0.15, y=0.15)
    about = f"\n{BARS}" if any(point[-1] for point in points) else ""
    axes.set(xlabel=f"{label} (logarithmic){about}", ylabel="validation accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(f"accuracy against {label.removesuffix(' for a run')}", fontsize="medium")


def _draw_mistakes(figure, mistakes):
    figure.suptitle("most confident mistakes on validation images", fontsize="medium")
    for axes in figure.subplots(3, 6).flat:
        axes.set_axis_off()
    for axes, (image, true, predicted, probability) in zip(figure.axes, mistakes, strict=False):
        axes.imshow(image)
        axes.set_title(
            f"{_short(true, LONGEST_TITLE)}, taken\n"
            f"for {_short(predicted, LONGEST_TITLE)} ({probability:.0%})",
            fontsize="small",
        )


def explanations(images):
    """Draws images beside the evidence for their class, three pairs in a row.

    Args:
        images: For each an image uint8 (height, width, 3), the evidence float (rows, columns) in
            0..1, and a title.
    """
    across = min(len(images), 3)
    down = math.ceil(len(images) / across)
    figure = Figure(figsize=(4.6 * across, 3 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (image, evidence, title) in zip(grid.flat, images, strict=False):
        gap = np.full((len(image), max(len(image) // 25, 1), 3), 255, "uint8")
        axes.imshow(np.concatenate([image, gap, overlay(image, evidence)], axis=1))
        title = "\n".join(_short(line, 60) for line in title.splitlines())
        axes.set_title(title, fontsize="small", loc="left")
    return figure


def overlay(image, evidence):
    """Darkens an image and lays the evidence over it as a heat map; returns uint8 (height, width, 3)."""
    height, width, _ = image.shape
    smooth = Image.fromarray(np.float32(evidence)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    heat = 255 * colormaps["inferno"](np.asarray(smooth))[..., :3]
    return np.uint8(np.clip(0.45 * image + 0.55 * heat, 0, 255))


def _logarithmic(axes):
    """Makes the x axis logarithmic, with ticks at 1, 2 and 5, such as 200k."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
