"""What the benchmarks share: flags, files of results, figures over several seeds, a cache to fill."""

import contextlib
import statistics
import tempfile
from pathlib import Path

from transfer import files, terminal


def parser(description, output):
    """Makes the parser of a benchmark: what it trains on, and where its figures go."""
    made = terminal.Parser(description=description, allow_abbrev=False)
    made.add_argument("--data", default="cifar10", help="source of images [cifar10]")
    made.add_argument("--output", default=str(output), help="file of the figures [%(default)s]")
    return made


@contextlib.contextmanager
def home_without_features():
    """Makes a $KERAS_HOME that has what is downloaded once, but nothing that a training left."""
    from squeezenet import keras_home  # which imports Keras

    home = keras_home()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=home) as folder:
        for name in ("datasets", "models"):
            (home / name).mkdir(exist_ok=True)
            Path(folder, name).symlink_to((home / name).resolve())
        yield folder


def over_seeds(figures, digits):
    """Shows the mean, to so many digits, and the figure of each seed."""
    each = ", ".join(f"{figure:.4f}" for figure in figures)
    return f"{statistics.fmean(figures):.{digits}f} ({each})"


def write(path, results, about, shown, figure):
    """Writes results (.json), what is said of them and their table (.md), and the plot (.png)."""
    files.write_json(path, results)
    path.with_suffix(".md").write_text(f"{about}\n\n{shown}\n")
    figure.savefig(path.with_suffix(".png"), dpi=120)
