"""Measures what is in benchmarks/*.json, and writes the tables of README and docs/figures.md.

    python -m benchmarks.figures --data ~/.keras/datasets/cifar10-jpeg.npz --folder hymenoptera_data
    python -m benchmarks.figures --only              # measures nothing: writes the tables

Hours, in steps that can be interrupted: each figure is saved as soon as it is there, and a second call
measures only what is missing. To measure all of it again, first delete benchmarks/*.json and
logs/figures. Each step is a command that can be run by itself, and is printed. If a step fails, it says
why, and the others go on.
"""

import functools
import re
import shlex
import shutil
import sys
from pathlib import Path

import data
from benchmarks import few_images, report
from benchmarks.report import listed
from transfer import depths, files, runs, terminal

REPORTED = {"frozen": 0.1312, "last_fire": 0.4942, "full": 0.7243}
TRAINS = {"frozen": "the classifier", "last_fire": "fire8, fire9, the classifier",
          "full": "everything"}  # fmt: skip
CURVE = ("10", "100", "1000")  # images per class of the six depths; all images are for three
BEGIN, END = "<!-- Made by benchmarks/figures.py. -->\n\n", "\n<!-- End. -->\n"


def steps(source, folder):
    """Returns each step's name and the command that measures it."""
    few = ("-m", "benchmarks.few_images", "--data", source)
    planned = {
        "report": (
            *(*few, "--recipe", "report", "--per-class", "4000", "--seeds", "0"),
            *("--regimes", *REPORTED),
        ),
        "few_images": few,
        "ablation": ("-m", "benchmarks.ablation", "--data", source),
        "optimizers": ("-m", "benchmarks.optimizers", "--data", source),
        "speed": ("-m", "benchmarks.speed", "--data", source),
        "how_deep": (*sweep(source), "--images-per-class", *CURVE),
        "how_deep_all": (*sweep(source), "--depth", *map(depths.depth, REPORTED)),
        "exported": ("-m", "benchmarks.exported", *map(str, to_export(source))),
        "mirrored": mirrored(source),
    }
    if folder:
        planned |= {
            "few_images_folder": ("-m", "benchmarks.few_images", "--folder", folder),
            "how_deep_folder": sweep(folder),
            "mirrored_folder": mirrored(folder),
        }
    return planned


def main(arguments=None):
    parser = terminal.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="cifar10 or FILE.npz [cifar10]")
    parser.add_argument("--folder", help="also measure this folder of images [none]")
    parser.add_argument("--only", nargs="*", metavar="STEP", help="these steps, or none [all]")
    asked = parser.parse_args(arguments)
    # The steps run in the project's folder.
    for name in ("data", "folder"):
        source = getattr(asked, name)
        if source and Path(source).exists():
            setattr(asked, name, str(Path(source).resolve()))
    failed = []
    with (
        terminal.ends_quietly("the same command measures what is missing"),
        terminal.one_line_errors(),
    ):
        names = list(steps(asked.data, asked.folder)) if asked.only != [] else []
        for name in asked.only or names:
            if name not in names:
                parser.error(f"argument --only: {name} is not one of {', '.join(names)}")
        try:
            for name in asked.only or names:
                # Asked for again, as it depends on the runs that are there.
                command = steps(asked.data, asked.folder)[name]
                print(f"{name}: {shlex.join(['python', *command])}", flush=True)
                if report.run_command([sys.executable, *command], cwd=report.ROOT).returncode:
                    failed.append(name)
                elif command[0] == "sweep.py":
                    keep(command, report.ROOT / "benchmarks" / name)
        finally:
            write(report.ROOT)
    if failed:
        terminal.stop(f"not measured: {', '.join(failed)}", status=1)


@functools.cache
def logs_of(source):
    """Returns the folder in which few_images.py leaves the runs on these images."""
    return few_images.LOGS / data.load(source).fingerprint[:12]


def sweep(source):
    """Returns the command of a sweep that reuses the runs of few_images.py.

    Its seconds are thus of two kinds: those runs computed all features, its own reuse what earlier runs left.
    """
    return ("sweep.py", "--data", source, "--logs", str(logs_of(source)))


def mirrored(source):
    return ("-m", "benchmarks.mirrored", str(logs_of(source)))


def to_export(source):
    """Returns the runs that are exported: of each regime, on 100 images per class and the report's."""
    logs = logs_of(source)
    finished = runs.find(logs)[0] if logs.is_dir() else []
    asked = {("tuned", 100), ("report", 0)}
    return [
        run.folder
        for run in finished
        if run.metrics["regime"] in REPORTED
        if (run.metrics["recipe"], run.config["images_per_class"]) in asked
        if run.config["seed"] == 0
    ]


def keep(command, path):
    """Keeps the tables and the picture of a sweep beside the other figures."""
    logs = Path(command[command.index("--logs") + 1])
    for suffix in (".md", ".csv", ".png"):
        if (made := logs / f"sweep{suffix}").exists():
            shutil.copy(made, path.with_suffix(suffix))


def write(root):
    """Writes the tables of docs/figures.md and README.md from the figures in benchmarks/."""
    trials = report.Rows(root / "benchmarks" / "few_images.json").rows
    tables = {root / "docs" / "figures.md": all_figures(trials, root)}
    if whole := of_all_images(trials):  # else README's table stays what it was
        tables[root / "README.md"] = study(whole)
    for path, table in tables.items():
        text = path.read_text(encoding="utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        files.write_text(path, f"{before}{BEGIN}{table}\n{END}{after}")


def of_all_images(trials):
    """Returns the trials of 4,000 images per class, on the images of which most is known.

    Of equals, those on CIFAR-10 itself.
    """
    by_images = {}
    for trial in trials:
        if trial["amount"] == 4000 and trial["regime"] in REPORTED:
            by_images.setdefault(trial["sha256"], []).append(trial)

    def cells(own):
        known = len({(trial["recipe"], trial["regime"]) for trial in own})
        return known, own[0]["data"] == "cifar10.npz"

    return max(by_images.values(), key=cells, default=[])


def study(trials):
    """Makes the README's table of what `of_all_images` gives: reported, its protocol here, the defaults."""
    rows = []
    for regime, reported in REPORTED.items():
        columns = [
            [each for each in trials if (each["recipe"], each["regime"]) == (recipe, regime)]
            for recipe in ("report", "tuned")
        ]
        script = f"`train_{regime}.py`"
        rows.append((script, TRAINS[regime], f"{reported:.4f}", *map(accuracy, columns)))
    head = ("script", "trains", "reported 2018", "`--recipe report`", "default")
    return terminal.markdown_table(head, rows)


def all_figures(trials, root):
    """Makes the tables of docs/figures.md: a row for each regime and amount, and each benchmark."""
    rows = []
    trials = sorted(
        trials, key=lambda trial: (trial["data"], few_images.REGIMES.index(trial["regime"]))
    )
    keys = ("data", "images", "recipe", "amount", "regime")
    for (source, _, recipe, amount, regime), own in sorted(
        few_images.grouped(trials, *keys).items(), key=lambda group: group[0][:3]
    ):
        each = amount if amount == "all" else f"{amount:,} per class"
        sizes = listed(trial["image_size"] for trial in own)
        name = few_images.NAMES[regime]
        if regime != "peer":
            name += f", {recipe}"
        loss = few_images.mean(own, "validation_loss")
        time = terminal.duration(few_images.mean(own, "seconds"))
        rows.append(
            (
                *(few_images.ABOUT.get(source, source), each, name, sizes),
                *(accuracy(own), f"{loss:.4f}", time),
                listed(trial["seed"] for trial in own),
                listed(trial.get("precision", "unknown") for trial in own),
                *(listed(trial["commit"] for trial in own), machines(own)),
            )
        )
    head = ("images", "how many", "regime, recipe", "px", "validation accuracy", "validation loss",
            "time", "seeds", "precision", "commit", "machine")  # fmt: skip
    benchmarks = [
        (f"[{name}.md](../benchmarks/{name}.md)", about,
         f"`python -m benchmarks.{name}{NEEDED.get(name, '')}`",
         listed(row["data"] for row in own), listed(row["commit"] for row in own), machines(own))
        for name, about in ABOUT.items()
        if (own := benchmark(root / "benchmarks" / f"{name}.json"))
    ]  # fmt: skip
    others = ("figures", "what", "command", "images", "commit", "machine")
    return (
        terminal.markdown_table(head, rows) + "\n\n" + terminal.markdown_table(others, benchmarks)
    )


ABOUT = {
    "few_images": "the table above by number of images, and its picture",
    "ablation": "from report to tuned, change by change",
    "optimizers": "seven optimizers side by side",
    "exported": "bytes, milliseconds and accuracy of the exported models",
    "mirrored": "what `--evaluation mirrored` gives",
    "speed": "training time, beside plain Keras and PyTorch",
}
# What their commands need: folders of runs, or the folder of all of them.
NEEDED = {"exported": " RUN ...", "mirrored": " LOGS"}


def benchmark(path):
    """Returns the figures of a benchmark, each with its images, commit and machine."""
    if not path.exists():
        return []
    return list(files.read_json(path).values()) if path.stem == "speed" else report.Rows(path).rows


def accuracy(trials):
    if not trials:
        return ""
    spread = f" ± {few_images.deviation(trials):.4f}" if len(trials) > 1 else ""
    return f"{few_images.mean(trials, 'validation_accuracy'):.4f}{spread}"


def machines(rows):
    """Names the processors, without the versions that the figures themselves have."""
    return listed((re.sub(", python .*", "", row["machine"]) for row in rows), "; ")


if __name__ == "__main__":
    main()
