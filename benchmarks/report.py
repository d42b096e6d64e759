"""What the benchmarks share: flags, files of results, figures over several seeds, a cache to fill."""

import contextlib
import functools
import platform
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from transfer import files, plots, precision, run, terminal

ROOT = Path(__file__).parent.parent


def parser(description, output):
    """Makes the parser of a benchmark: what it trains on, and where its figures go."""
    made = terminal.Parser(description=description)
    made.add_argument("--data", default="cifar10", help="source of images [cifar10]")
    made.add_argument(
        "--output", type=Path, default=output, help="file of the figures [%(default)s]"
    )
    return made


@contextlib.contextmanager
def home_without_features():
    """Makes a $KERAS_HOME that has what is downloaded once, but nothing that a training left."""
    terminal.import_keras()  # without its notices
    home = files.keras_home()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=home) as folder:
        for name in ("datasets", "models"):
            (home / name).mkdir(exist_ok=True)
            Path(folder, name).symlink_to((home / name).resolve())
        yield folder


class Rows:
    """Figures in a file, saved row by row, so that a second call measures only what is missing.

    Raises:
        ValueError: The file has other figures.
    """

    def __init__(self, path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = files.read_json(path) if path.exists() else {"rows": []}
        if "rows" not in kept:
            raise ValueError(
                f"{path} has other figures than this benchmark's: choose another --output"
            )
        self.rows = kept["rows"]

    def known(self, what):
        """Returns the row of what was measured, a dict that is part of it; None if there is none."""
        return next((row for row in self.rows if what.items() <= row.items()), None)

    def measured(self, what, measure):
        """Returns the row of what is measured: the one that is there, or `what` and `measure()`."""
        if not (row := self.known(what)):
            start = time.perf_counter()
            row = what | measure()
            row |= {"seconds": time.perf_counter() - start}
            row |= {"commit": commit(), "machine": machine()}
            self.rows.append(row)
            files.write_json(self.path, {"rows": self.rows})
        return row


def run_command(command, **options):
    """Does as subprocess.run, but after Ctrl-C lets the command stop in order."""
    # In a group of its own, so that only this passes Ctrl-C on, or what ends a batch job.
    with subprocess.Popen(command, text=True, process_group=0, **options) as process:
        try:
            out, err = process.communicate()
        except KeyboardInterrupt:
            process.terminate()
            process.communicate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@functools.cache
def commit():
    """Returns the commit that is measured, shortened."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return made.stdout.strip()


@functools.cache
def machine():
    """Names the processor and the versions that are measured."""
    terminal.import_keras()  # without its notices
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    versions = ", ".join(f"{name} {value}" for name, value in run.versions().items())
    return f"{precision.CORES} cores of {names[0] if names else platform.machine()}, {versions}"


def listed(values, between=", "):
    """Lists what rows differ in, each value once."""
    return between.join(map(str, sorted(set(values))))


def over_seeds(figures, digits):
    """Shows the mean, to so many digits, and the figure of each seed."""
    each = ", ".join(f"{figure:.4f}" for figure in figures)
    return f"{statistics.fmean(figures):.{digits}f} ({each})"


def write(path, about, shown, figure=None):
    """Writes what is said of figures and their table (.md), and a plot (.png), beside their file."""
    files.write_text(path.with_suffix(".md"), f"{about}\n\n{shown}\n")
    if figure:
        plots.save(figure, path.with_suffix(".png"))
