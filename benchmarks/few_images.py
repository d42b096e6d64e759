"""What do few images per class give, with each regime and with a linear classifier beside it?

    python -m benchmarks.few_images --data ~/.keras/datasets/cifar10-jpeg.npz
    python -m benchmarks.few_images --folder hymenoptera_data     # all images of a folder

Each trial is a sweep of one run in a process of its own, without features from an earlier one, so
that its seconds are what a user would wait. It is saved in benchmarks/few_images.json as soon as it
is done; a second call runs only what is missing; few_images.md and .png show them. The runs stay in
--logs, a folder for each set of images. The peer is in linear_peer.py.
"""

import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

import data
from benchmarks import report
from transfer import depths, plots, recipes, results, terminal

RESULTS = Path(__file__).with_name("few_images.json")
LOGS = report.ROOT / "logs" / "figures"
REGIMES = ("peer", "frozen", "last_fire", "full")
# What the tables and the plot call them.
NAMES = dict(zip(REGIMES, ("linear classifier", *REGIMES[1:]), strict=True))
AMOUNTS = (10, 100, 1000, 4000)
SEEDS = (0, 1, 2)

# What the name of the file does not say.
ABOUT = {"cifar10.npz": "CIFAR-10", "cifar10-jpeg.npz": "CIFAR-10 re-encoded as JPEG"}


def main(arguments=None):
    parser = report.parser("Each regime and a linear classifier on few images per class.", RESULTS)
    parser.add_argument(
        "--per-class", type=int, nargs="+", default=AMOUNTS, help="images of each class %(default)s"
    )
    parser.add_argument("--folder", help="all images of this folder, instead of --data and amounts")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="%(default)s")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=REGIMES)
    parser.add_argument("--recipe", choices=recipes.RULES, default="tuned", help="[tuned]")
    parser.add_argument("--logs", default=str(LOGS), help="folder of the runs [%(default)s]")
    asked = parser.parse_args(arguments)
    if min(asked.per_class) < 1 or min(asked.seeds) < 0:
        parser.error("expected amounts of 1 or more and seeds of 0 or more")
    if "peer" in asked.regimes and not find_spec("sklearn"):
        terminal.stop(
            f"scikit-learn is missing: {sys.executable} -m pip install -r benchmarks/requirements.txt"
        )
    source, path = asked.folder or asked.data, asked.output
    with terminal.one_line_errors():
        rows = report.Rows(path)
        planned = plan(source, ["all"] if asked.folder else asked.per_class)
    failed = False
    for amount, about in planned.items():
        for seed in asked.seeds:
            for regime in asked.regimes:
                what = {"recipe": asked.recipe, "regime": regime, "amount": amount, "seed": seed}
                what["sha256"] = about["sha256"]
                if rows.known(what):
                    continue
                name = f"{regime}, {amount} images per class, seed {seed}"
                logs = Path(asked.logs, about["sha256"][:12])
                try:
                    trial = rows.measured(
                        what, functools.partial(measure, source, what | about, logs)
                    )
                except (OSError, ValueError, RuntimeError) as error:
                    terminal.complain(f"{name}: {error}")
                    failed = True
                    continue
                print(f"{name}: {cell([trial])}, {trial['seconds']:.0f} s", flush=True)
    # Results with the recipe report are in docs/figures.md.
    if tuned := [trial for trial in rows.rows if trial["recipe"] == "tuned"]:
        write(tuned, path)
        print(tables(tuned))
    raise SystemExit(int(failed))


def plan(source, amounts):
    """Returns for each amount what its trials have in common; taking all needs no random draw."""
    dataset = data.load(source, recipes.LARGEST_SIZE)
    images, classes = len(dataset.train.labels), len(dataset.class_names)
    drawn = [0 if amount in ("all", images / classes) else amount for amount in amounts]
    # Refuses an amount that is too large before hours have gone by.
    data.load(source, recipes.LARGEST_SIZE, images_per_class=max(drawn))
    return {
        amount: {
            "sha256": dataset.fingerprint,
            "data": dataset.description,
            "classes": classes,
            "images": each * classes or images,
            "images_per_class": each,
        }
        for amount, each in zip(amounts, drawn, strict=True)
    }


def measure(source, trial, logs):
    """Makes one trial in a new process, and keeps its run in a folder; returns all that is known of it."""
    each, seed = trial["images_per_class"], trial["seed"]
    if trial["regime"] == "peer":
        return trial | json.loads(process("-m", "benchmarks.linear_peer", source, each, seed))
    with report.home_without_features() as folder:
        new = Path(folder, "logs")
        process(
            *(report.ROOT / "sweep.py", "--data", source, "--seed", seed, "--logs", new),
            *("--depth", depths.depth(trial["regime"]), "--recipe", trial["recipe"]),
            *(("--images-per-class", each) if each else ()),
            KERAS_HOME=folder,
        )
        (run,) = new.glob(f"{trial['regime']}/*/")
        metrics = results.read_metrics(run)
        kept = logs / trial["regime"] / run.name
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run, kept)
    names = ("validation_images", "validation_accuracy", "validation_loss", "total_params")
    figures = {name: metrics[name] for name in (*names, "precision")}
    return trial | figures | {"image_size": metrics["config"]["image_size"]}


def process(*arguments, **environment):
    """Runs Python; returns the last line of its output, or raises the last one of its errors."""
    made = report.run_command(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if made.returncode:
        why = [line for line in made.stdout.splitlines() if "failed" in line]
        why = why or made.stderr.splitlines() or [f"exit status {made.returncode}"]
        raise RuntimeError(why[-1])
    return made.stdout.splitlines()[-1]


def mean(trials, key):
    return statistics.fmean(trial[key] for trial in trials)


def deviation(trials):
    accuracies = [trial["validation_accuracy"] for trial in trials]
    return statistics.stdev(accuracies) if len(trials) > 1 else 0.0


def cell(trials):
    if not trials:
        return ""
    accuracy, loss = mean(trials, "validation_accuracy"), mean(trials, "validation_loss")
    spread = f" ± {deviation(trials):.3f}" if len(trials) > 1 else ""
    return f"{accuracy:.3f}{spread} ({loss:.3f})"


def seconds(trials):
    """Shows the mean seconds of trials, and how many had no bfloat16 to be fast with."""
    if not trials:
        return ""
    slow = sum(trial.get("precision") == "float32" for trial in trials)
    return f"{mean(trials, 'seconds'):.0f} s" + (f" ({slow} in float32)" if slow else "")


def grouped(trials, *keys):
    """Groups trials by figures that they share, in order of the images they train on."""
    groups = {}
    for trial in sorted(trials, key=lambda trial: trial["images"]):
        groups.setdefault(tuple(trial[key] for key in keys), []).append(trial)
    return groups


def measured_on(trials):
    first = trials[0]
    name = ABOUT.get(first["data"], first["data"])
    return f"{name}, {first['validation_images']:,} validation images"


def tables(trials):
    shown = []
    for own in grouped(trials, "sha256").values():
        rows = []
        for (amount,), some in grouped(own, "amount").items():
            columns = [[trial for trial in some if trial["regime"] == name] for name in REGIMES]
            rows += [
                (f"{amount:,}" if amount != "all" else amount, *map(cell, columns)),
                ("", *map(seconds, columns)),
            ]
        table = terminal.markdown_table(("images per class", *NAMES.values()), rows)
        seeds, commits = (
            report.listed(str(trial[key]) for trial in own) for key in ("seed", "commit")
        )
        shown.append(f"{measured_on(own)}; seeds {seeds}; commit {commits}.\n\n{table}")
    return "\n\n".join(shown)


def write(trials, path):
    """Writes the tables (.md) and the plot (.png) beside `path`, the file of the figures."""
    sources = list(grouped(trials, "sha256").values())
    # One amount makes no line.
    sources = [own for own in sources if len(grouped(own, "amount")) > 1] or sources
    figure = Figure(figsize=(7 * len(sources), 5), layout="constrained")
    panels = figure.subplots(1, len(sources), sharey=True, squeeze=False)
    for axes, own in zip(panels.flat, sources, strict=True):
        draw(axes, own)
        axes.label_outer()
    about = (
        "# Few images per class\n\n"
        "Made by `python -m benchmarks.few_images`: validation accuracy, mean ± standard deviation "
        "over the seeds (mean validation loss); below it the mean seconds of a run on two cores, "
        "from start to end, features and waiting for other work on the machine included. The "
        "linear classifier is scikit-learn's LogisticRegressionCV, on pooled features of fire3 to fire9."
    )
    report.write(path, about, tables(trials), figure)


def draw(axes, trials):
    ticks = set()
    for (regime, name), line in zip(NAMES.items(), (":", "--", "-.", "-"), strict=True):
        points = grouped(
            [trial for trial in trials if trial["regime"] == regime], "images"
        ).values()
        if not points:
            continue
        marker, grey = plots.STYLES.get(regime, plots.STYLES[None])
        amounts = [some[0]["images"] / some[0]["classes"] for some in points]
        ticks.update(amounts)
        axes.errorbar(
            amounts, [mean(some, "validation_accuracy") for some in points],
            yerr=[deviation(some) for some in points], label=name, linestyle=line, marker=marker,
            color="0.5" if regime == "peer" else grey, markeredgecolor="black", capsize=3,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sorted(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda amount, _: f"{amount:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(
        xlabel="training images per class (logarithmic; bars: ± standard deviation over the seeds)",
        ylabel="validation accuracy",
    )
    axes.set_title(measured_on(trials), fontsize="medium")
    axes.legend(loc="lower right")


if __name__ == "__main__":
    main()
