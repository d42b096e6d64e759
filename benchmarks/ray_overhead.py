"""How much longer does a sweep take on a Ray cluster of one machine than without one?

    python -m benchmarks.ray_overhead --data ~/.keras/datasets/cifar10.npz    # ten minutes

Both train the same runs of about a minute, two at a time, and begin without features. The shorter of two
sweeps counts.
"""

import contextlib
import os
import sys
import time

from benchmarks import report
from transfer import terminal
from transfer.cluster import CPUS
from transfer.pool import PROCESSES

GRID = ("--depth", "all", "--images-per-class", "100", "--seed", "0", "1", "2", "3")
ROUNDS = 2


def main():
    parser = terminal.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="cifar10 or FILE.npz [cifar10]")
    asked = parser.parse_args()
    alone, on_ray = [], []
    for _ in range(ROUNDS):
        with report.home_without_features() as home:
            alone.append(seconds(home, asked.data))
        with report.home_without_features() as home, cluster(home) as address:
            on_ray.append(seconds(home, asked.data, "--address", address))
        print(f"{alone[-1]:.0f} s without Ray, {on_ray[-1]:.0f} s with it", flush=True)
    print(f"Ray takes {min(on_ray) / min(alone) - 1:+.1%}")


@contextlib.contextmanager
def cluster(home):
    """Starts a Ray cluster of this machine, whose processes have a $KERAS_HOME; yields its address."""
    from ray.cluster_utils import Cluster

    settings = {"num_cpus": CPUS * PROCESSES, "env_vars": {"KERAS_HOME": home}}
    made = Cluster(initialize_head=True, head_node_args=settings)
    try:
        yield made.address
    finally:
        made.shutdown()


def seconds(home, source, *arguments):
    """Returns the seconds of a sweep."""
    command = ("sweep.py", "--data", source, *GRID, "--logs", f"{home}/logs", *arguments)
    start = time.perf_counter()
    environment = os.environ | {"KERAS_HOME": home}
    made = report.run_command([sys.executable, *command], cwd=report.ROOT, env=environment)
    made.check_returncode()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
