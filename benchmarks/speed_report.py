"""Shows the figures of benchmarks/speed.json: tables in Markdown, and one plot."""

import numpy as np
from matplotlib.figure import Figure

from benchmarks import report
from transfer import terminal

WHY_IMAGES = (
    "The fixed part is what a run does once: tracing and optimising the graphs of the prefix, the "
    "training and the validation step, writing TensorBoard's graphs and the model."
)
WHY_SIZES = (
    "Work grows a little faster than the area, as no pooling is padded: the last map has 3x3 cells "
    "at 64 px and 13x13 at 224 px, 19 times as many for 12 times the area. Small maps also "
    "keep a CPU less busy: each operation has a start-up cost."
)

# Told apart without colours.
STYLES = {"frozen": ("o", ":"), "last_fire": ("s", "--"), "full": ("D", "-")}


def write(results, path):
    """Writes `path` with the endings `.md` and `.png`.

    Args:
        results: Dict of sections, as benchmarks/speed.py writes it; those missing are left out.
        path: `pathlib.Path` of the `.json` file.
    """
    about = "# Speed\n\nMade by `python -m benchmarks.speed`; each section is one run."
    parts = []
    for name in filter(results.get, TABLES):
        section = results[name]
        measured_on = f"{section['title']} {section['data']}; {section['machine']}."
        parts += [f"## {name}", measured_on, TABLES[name](section["rows"])]
    report.write(path, about, "\n\n".join(parts), _drawn(results))


def _regimes(rows):
    head = ("regime", "ours, s", "plain Keras, s", "times as fast", "precision", "validation accuracy",
            "plain Keras", "plain Keras at its best, s", "times as fast")  # fmt: skip
    return terminal.markdown_table(
        head,
        [
            (
                row["regime"],
                f"{row['seconds']:.0f}",
                *_times(row["plain_seconds"], row),
                row["precision"],
                f"{row['validation_accuracy']:.4f}",
                f"{row['plain_validation_accuracy']:.4f}",
                *_times(row.get("plain_seconds_at_best"), row),
            )
            for row in rows
        ],
    )


def _times(plain_seconds, row):
    if plain_seconds is None:
        return "-", "-"
    return f"{plain_seconds:.0f}", f"{plain_seconds / row['seconds']:.1f}"


def _step(rows):
    head = ("precision", "ours, ms per image", "PyTorch, ms per image", "times as fast",
            "GFLOP/s", "matrix product, GFLOP/s", "fraction")  # fmt: skip
    return terminal.markdown_table(
        head,
        [
            (
                row["precision"],
                f"{row['milliseconds']:.2f}",
                f"{row['torch']:.2f}" if "torch" in row else "-",
                f"{row['torch'] / row['milliseconds']:.2f}" if "torch" in row else "-",
                f"{row['gigaflops']:.0f}",
                f"{row['product']:.0f}",
                f"{row['gigaflops'] / row['product']:.0%}",
            )
            for row in rows
        ],
    )


def _kernels(rows):
    slowest = rows[0]["milliseconds"]
    return terminal.markdown_table(
        ("kernels", "precision", "ms per image", "times as fast"),
        [
            (
                row["kernels"],
                row["precision"],
                f"{row['milliseconds']:.2f}",
                f"{slowest / row['milliseconds']:.2f}",
            )
            for row in rows
        ],
    )


def _start(rows):
    return terminal.markdown_table(
        ("optimizer's graph", "first step, s", "a step after it, ms"),
        [(row["graph"], f"{row['first']:.1f}", f"{row['milliseconds']:.1f}") for row in rows],
    )


def _pipeline(rows):
    return terminal.markdown_table(
        ("regime", "steps per second", "with one fixed batch", "fraction"),
        [
            (
                row["regime"],
                f"{row['real']:.1f}",
                f"{row['fixed']:.1f}",
                f"{row['real'] / row['fixed']:.1%}",
            )
            for row in rows
        ],
    )


def _memory(rows):
    return terminal.markdown_table(
        ("regime", "1 epoch, GB", "3 epochs, GB"),
        [(row["regime"], f"{row['one_epoch']:.2f}", f"{row['three_epochs']:.2f}") for row in rows],
    )


def _images(rows):
    counts = [row["images"] for row in rows]
    return _growth(rows, "images", counts, "1,000 images", 1000, WHY_IMAGES)


def _sizes(rows):
    areas = [row["image_size"] ** 2 for row in rows]
    return _growth(rows, "image_size", areas, "10,000 pixels of an image", 10_000, WHY_SIZES)


def _growth(rows, key, sizes, unit, scale, why):
    """A table of seconds, for each regime the straight line through them, and what departs."""
    table = terminal.markdown_table(
        (key, *(f"{regime}, s" for regime in STYLES)),
        [(f"{row[key]:,}", *(f"{row[regime]:.1f}" for regime in STYLES)) for row in rows],
    )
    lines = []
    for regime in STYLES:
        seconds = np.array([row[regime] for row in rows])
        slope, fixed = np.polyfit(sizes, seconds, 1)
        off = np.abs(fixed + slope * np.array(sizes) - seconds) / seconds
        lines.append(
            f"- {regime}: {fixed:.1f} s and {slope * scale:.2f} s for each {unit}; "
            f"the figures are within {off.max():.0%} of it"
        )
    return "\n\n".join([table, "The best-fitting straight lines:", "\n".join(lines), why])


TABLES = {
    "frozen": _regimes,
    "last_fire": _regimes,
    "full": _regimes,
    "float32": _regimes,
    "step": _step,
    "kernels": _kernels,
    "start": _start,
    "pipeline": _pipeline,
    "memory": _memory,
    "images": _images,
    "sizes": _sizes,
}


def _drawn(results):
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    rows = {name: section["rows"] for name, section in results.items()}
    _draw_regimes(axes[0, 0], [row for regime in STYLES for row in rows.get(regime, [])])
    _draw_step(axes[0, 1], rows.get("step", []))
    _draw_growth(axes[1, 0], rows.get("images", []), "images", "training images (two epochs)")
    _draw_growth(
        axes[1, 1], rows.get("sizes", []), "image_size",
        "pixels of an image (5,000 images, two epochs)", power=2,
    )  # fmt: skip
    return figure


def _draw_regimes(axes, rows):
    axes.set(title="A whole training run: ten epochs, 96 px, 40,000 images", ylabel="seconds")
    places = np.arange(len(rows))
    plain = axes.bar(
        places - 0.2, [row["plain_seconds"] for row in rows], 0.4, label="plain Keras",
        color="white", edgecolor="black", hatch="//",
    )  # fmt: skip
    ours = axes.bar(
        places + 0.2, [row["seconds"] for row in rows], 0.4, label="this project",
        color="0.35", edgecolor="black",
    )  # fmt: skip
    axes.bar_label(plain, fmt="%.0f")
    axes.bar_label(
        ours,
        [f"{row['seconds']:.0f}\n({row['plain_seconds'] / row['seconds']:.1f}×)" for row in rows],
    )
    axes.set_xticks(places, [row["regime"] for row in rows])
    axes.margins(y=0.12)
    if rows:
        axes.legend()


def _draw_step(axes, rows):
    axes.set(title="full's training step, 96 px", ylabel="milliseconds per image")
    places = np.arange(len(rows))
    bars = axes.bar(
        places + 0.2, [row["milliseconds"] for row in rows], 0.4, label="this project",
        color="0.35", edgecolor="black",
    )  # fmt: skip
    axes.bar_label(bars, fmt="%.2f")
    if all("torch" in row for row in rows):
        peers = axes.bar(
            places - 0.2, [row["torch"] for row in rows], 0.4, label="PyTorch, channels last",
            color="white", edgecolor="black", hatch="//",
        )  # fmt: skip
        axes.bar_label(peers, fmt="%.2f")
    axes.set_xticks(places, [row["precision"] for row in rows])
    axes.margins(y=0.12)
    if rows:
        axes.legend()


def _draw_growth(axes, rows, key, label, power=1):
    axes.set(title=f"Wall time by {key.replace('_', ' ')}", xlabel=label, ylabel="seconds")
    for regime, (marker, line) in STYLES.items():
        axes.plot(
            [row[key] ** power for row in rows], [row[regime] for row in rows],
            color="black", marker=marker, linestyle=line, label=regime,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
