"""How deep should I unfreeze, for the images that I have?

    python sweep.py --data my_images/                        # six depths, three seeds, the answer
    python sweep.py --images-per-class 10 100 1000 --list    # which runs that would be, and how long

Trains a grid of depths, numbers of images, seeds and of any flag of the training scripts that is given
several values. Its runs are ordinary ones under --logs: what is finished is not trained again, what
was interrupted is resumed. sweep.md, sweep.csv and sweep.png are left beside them.
"""

import sys
from pathlib import Path

import data
from transfer import curve, grid, sweeping, terminal
from transfer.pool import Pool
from transfer.terminal import say


def main(arguments=None):
    parser = terminal.Parser(description="Trains a grid of runs.")
    parser.add_argument("--list", action="store_true", help="print the runs, and train none")
    parser.add_argument(
        "--skip-impossible",
        action="store_true",
        help="leave out runs that need more images than a class has",
    )
    parser.add_argument(
        "--yes", action="store_true", help=f"train even more than {grid.MOST_TRIALS:,} runs"
    )
    parser.add_argument(
        "--address", help='address of a Ray cluster to train on, or "auto" [this machine]'
    )
    parser.add_argument(
        "--stop-worst",
        action="store_true",
        help="stop hopeless runs early, by Ray Tune's ASHA; needs --address",
    )
    planned, asked = grid.parse(parser, arguments)
    if asked.stop_worst and not asked.address:
        parser.error("argument --stop-worst: expected --address as well, as it relies on Ray Tune")
    with (
        terminal.ends_quietly("the same command continues the sweep"),
        terminal.one_line_errors(),
    ):
        return sweep(planned, asked)


def sweep(planned, asked):
    """Trains what is left of a sweep, and says which depth to take; returns the exit status."""
    first = planned.trials[0].config
    logs = Path(first.logs)
    found, fingerprint = sweeping.begin(
        planned, first.data, logs, asked.skip_impossible, asked.stop_worst
    )
    count, names = data.named_classes(
        next(one.images for one in found if one.images)["class_names"]
    )
    plan = sweeping.plan(found, logs)
    if asked.list:
        for one in found:
            about = f"{one.status}: {one.reason}" if one.reason else one.status
            time = f"  {terminal.duration(one.seconds)}" if one.status == "waiting" else ""
            print(f"{one.trial}  {about}{time}")
        say("sweep", plan)
        say("classes", f"{count}: {names}")
        return 0
    say("sweep", f"{plan}; {count} classes: {names}", flush=True)
    for one in found:
        if one.status == "failed":  # before it could be trained
            say("failed", f"{one.trial}: {one.reason}")
    waiting = [one.trial for one in found if one.status == "waiting"]
    pool = workers(asked, waiting) if waiting else None
    try:
        if pool:
            sweeping.train(found, logs, fingerprint, pool)
        elif any(one.run for one in found):
            sweeping.mark(logs, fingerprint)
        for line in curve.answers(found, planned.varied):
            print(line)
    finally:
        written = sweeping.write(found, planned.varied, logs)
    say("sweep", ", ".join([str(written[0]), *(path.name for path in written[1:])]))
    return int(any(one.status not in ("finished", "impossible", "stopped") for one in found))


def workers(asked, waiting):
    """Returns what trains the runs that wait: processes of this machine, or a Ray cluster."""
    if not asked.address:
        return Pool()
    terminal.import_keras()
    from transfer.cluster import Cluster

    return Cluster(asked.address, waiting, asked.stop_worst)


if __name__ == "__main__":
    sys.exit(main())
