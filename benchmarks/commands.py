"""How long does a reader wait for compare.py and predict.py?

    python -m benchmarks.commands logs/frozen/NAME      # a finished run; a minute

Each figure is the shortest of three. Those of predict.py are beside the import of Keras, measured in
the same round.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from transfer import terminal

ROOT = Path(__file__).parent.parent
ROUNDS = 3
RUNS = 100
IMAGES = 2000


def main(arguments=None):
    parser = terminal.Parser(description="Times compare.py and predict.py.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    run = parser.parse_args(arguments).run
    with tempfile.TemporaryDirectory() as folder:
        logs, images = Path(folder, "logs"), Path(folder, "images")
        copy_runs(run, logs)
        draw_images(images)
        one = next(images.iterdir())
        commands = {
            "import keras": ["-c", "import keras"],
            "predict.py, one image": ["predict.py", one, "--run", run],
            f"predict.py, {IMAGES:,} images": ["predict.py", images, "--run", run],
            f"compare.py, table of {RUNS} runs": ["-c", TABLE, logs],
        }
        scripts = sorted(path.name for path in ROOT.glob("*.py") if "__main__" in path.read_text())
        commands |= {f"{script} --help": [script, "--help"] for script in scripts}
        seconds = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                seconds[name].append(timed(command))
    best = {name: min(times) for name, times in seconds.items()}
    for name, least in best.items():
        print(f"{name:32}{least:6.2f} s")
    one, many = (best[name] for name in commands if name.startswith("predict.py,"))
    print(f"{'predict.py past its start-up':32}{(IMAGES - 1) / (many - one):6.0f} images/s")


# What compare.py does to show its tables.
TABLE = """
import sys
from pathlib import Path
from transfer import comparison, runs, table
finished, _ = runs.find(sys.argv[1])
groups = table.rank(table.one_a_seed(finished)[0])
print(comparison.text_table(groups[0][1]))
comparison.write_tables(groups, Path(sys.argv[1]))
"""


def timed(command):
    start = time.perf_counter()
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def copy_runs(run, logs):
    """Makes so many runs of one, each under settings of its own."""
    metrics = json.loads((run / "metrics.json").read_text())
    for number in range(RUNS):
        folder = logs / metrics["regime"] / f"{number:03}"
        folder.mkdir(parents=True)
        metrics["config"]["dropout"] = number / RUNS
        (folder / "metrics.json").write_text(json.dumps(metrics))


def draw_images(folder):
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(random.integers(0, 256, (8, 10, 3)).astype("uint8"))
        coarse.resize((500, 375)).save(folder / f"{number:04}.jpg")


if __name__ == "__main__":
    main()
