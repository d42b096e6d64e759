"""Trains what is left of a sweep, shows how far it is, and writes down what came out."""

import contextlib
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import data
from transfer import cost, curve, depths, files, runs, terminal
from transfer.curve import Result
from transfer.grid import Grid, Trial
from transfer.pool import PROCESSES, Outcome
from transfer.run import notes
from transfer.settings import WEIGHTS, follow
from transfer.terminal import counted, say

MARK = "sweep.json"  # says of which images the sweep of a folder is
RETRIES = 2  # of a trial whose process died
PAUSE = 1  # seconds, before a trial that is still locked is tried again


def begin(
    grid: Grid, source: str, logs: Path, skip_impossible: bool, stop_worst: bool = False
) -> tuple[list[Result], str]:
    """Finds out how each trial of a grid stands.

    Args:
        grid: `Grid`.
        source, logs: Name of the images, and the folder of all runs.
        skip_impossible: Marks trials that need more images than there are; without it they are
            refused.
        stop_worst: Does not resume trials that were stopped early.

    Returns:
        A `Result` for each trial, one for those that are the same run, and the fingerprint of the
        images.

    Raises:
        ValueError: The images are not what they should be, or too few; the folder holds the sweep of
            other images.
        OSError: The images, or a file of weights, can't be read; the runs would be among the images.
    """
    runs.check_logs(logs, source)
    found: dict[Trial, Result] = {}
    fingerprint, most, noted = "", 0, ()
    weights_files = {trial.config.weights for trial in grid.trials} - set(WEIGHTS)
    hashes = {each: files.digest(Path(os.path.expanduser(each))) for each in weights_files}
    by_images: dict[tuple, list[Trial]] = {}
    for trial in grid.trials:
        by_images.setdefault(tuple(trial.config.for_data.items()), []).append(trial)
    for images, trials in by_images.items():
        how = dict(images)
        try:
            dataset = data.load(source, **how)
        except ValueError as error:
            if not how["images_per_class"]:
                raise
            data.load(source, **how | {"images_per_class": 0})  # is it that alone?
            if not skip_impossible:
                raise ValueError(f"{error}; --skip-impossible leaves such runs out") from error
            found |= {trial: Result(trial, "impossible", str(error)) for trial in trials}
            continue
        # What is noted of smaller amounts and of other seeds is much the same.
        if dataset.planned > most:
            most = dataset.planned
            noted = notes(dataset, any(trial.config.mirror for trial in grid.trials))
        fingerprint = dataset.fingerprint
        for trial in trials:
            whole, _ = follow(trial.config, dataset)
            seconds = cost.seconds(trial.depth, whole, dataset)
            weights = hashes.get(trial.config.weights)
            found[trial] = Result(
                trial.named(whole, dataset.identity, weights),
                seconds=seconds,
                images=dataset.identity,
                weights=weights,
                epochs=whole.epochs,
            )
    if not fingerprint:
        raise ValueError(f"none of the runs is possible: {next(iter(found.values())).reason}")
    for note in noted:
        say("note", note)
    _refuse_another_sweep(logs, fingerprint)
    named = _without_equals([found[trial] for trial in grid.trials])
    states = [one if one.status == "impossible" else _state(one) for one in named]
    if stop_worst:
        states = [_stopped(one) for one in states]
    return states, fingerprint


def _refuse_another_sweep(logs: Path, fingerprint: str) -> None:
    path = logs / MARK
    try:
        marked = files.read_json(path) if path.exists() else {"data": fingerprint}
    except ValueError as error:
        raise ValueError(f"{error}: remove it if the runs beside it are of these images") from None
    if marked != {"data": fingerprint}:
        raise ValueError(f"{logs} holds the sweep of other images: choose another --logs")


def mark(logs: Path, fingerprint: str) -> None:
    """Says in the folder of a sweep, which must exist, which images it is of."""
    files.write_json(logs / MARK, {"data": fingerprint})


def _without_equals(named: list[Result]) -> list[Result]:
    """Leaves out what is the same run as one before, such as with two batch sizes above all images."""
    kept: dict[Path | Trial, Result] = {}
    for one in named:
        # What is impossible has no folder of its own.
        other = kept.setdefault(one.trial if one.status == "impossible" else one.trial.folder, one)
        if other is not one:
            say("note", f"{one.trial} is the same run as {other.trial}: it is trained once")
    return list(kept.values())


def plan(found: Sequence[Result], logs: Path) -> str:
    """Says how much is to be trained."""
    waiting = [one for one in found if one.status == "waiting"]
    if not waiting:
        return f"{counted(len(found), 'run')} in {logs}, none to train"
    faster = cost.AT_ONCE if min(PROCESSES, len(waiting)) > 1 else 1
    estimate = cost.in_words(sum(one.seconds for one in waiting) / faster)
    return f"{counted(len(found), 'run')} in {logs}, {len(waiting):,} to train: {estimate}"


def _state(one: Result) -> Result:
    folder = one.trial.folder
    try:
        run = runs.read(folder)
    except ValueError as error:
        return one._replace(status="failed", reason=str(error))
    except OSError:
        return one
    if run.config.get("name", folder.name) != folder.name:
        reason = f"{folder} holds the run {run.config['name']}: move it elsewhere to train this one"
        return one._replace(status="failed", reason=reason)
    changed = "images" if not run.is_of(one.images) else ""
    if one.weights and run.weights_sha256 != one.weights:
        changed = "weights"
    if changed:
        reason = f"the {changed} changed while it was trained: remove {folder} to train it again"
        return one._replace(status="failed", reason=reason)
    if run.config["extended_from"] or run.config.get("epochs", one.epochs) > one.epochs:
        epochs = run.config.get("epochs", run.metrics["epochs"])
        reason = f"--resume extended it to {epochs} epochs: move {folder} out of --logs to train it again"
        return one._replace(status="failed", reason=reason)
    return one._replace(status="finished", reason="", run=run)


def _stopped(one: Result) -> Result:
    if one.status != "waiting" or not one.trial.stopped.exists():
        return one
    return one._replace(
        status="stopped", reason=files.read_json(one.trial.stopped).get("reason", "")
    )


def train(found: list[Result], logs: Path, fingerprint: str, pool) -> None:
    """Trains all trials that wait.

    Args:
        found: What `begin` found; it is changed to how each trial ended.
        logs, fingerprint: Folder of all runs, and the fingerprint of the images.
        pool: What trains them: a `pool.Pool`, or a `cluster.Cluster`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; those that were being trained have stopped in order.
    """
    places = {one.trial: place for place, one in enumerate(found)}
    # The largest amount comes first, as its features are those of the smaller ones, too.
    waiting = [one.trial for one in found if one.status == "waiting"]
    waiting.sort(key=lambda trial: trial.config.images_per_class or math.inf)
    deaths: Counter[Trial] = Counter()
    pressed = passed_on = False

    def press(*_):
        nonlocal pressed
        if pressed:  # a second time: at once
            raise KeyboardInterrupt
        pressed = True

    before = {each: signal.signal(each, press) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        logs.mkdir(parents=True, exist_ok=True)
        mark(logs, fingerprint)
        with _shown(found) as show:
            while pool.busy or (waiting and not pressed):
                while waiting and pool.free() and not pressed:
                    trial = waiting.pop()
                    found[places[trial]] = found[places[trial]]._replace(status="running")
                    pool.start(trial)
                for trial, outcome in pool.finished(seconds=0.5):
                    place = places[trial]
                    if outcome.status in ("interrupted", "died"):  # perhaps of the same signal
                        why = outcome.reason or "its process was terminated"
                        outcome = Outcome("interrupted") if pressed else Outcome("died", why)
                    if outcome.status == "died" and deaths[trial] < RETRIES:
                        deaths[trial] += 1
                        waiting.append(trial)
                        found[place] = found[place]._replace(status="waiting")
                    elif outcome.status == "taken" and deaths[trial]:
                        # On a network file system, what died may hold its lock for a while.
                        time.sleep(PAUSE)
                        waiting.insert(0, trial)  # after all others
                        found[place] = found[place]._replace(status="waiting")
                    else:
                        found[place] = _result(found[place], outcome)
                show()
                if pressed and not passed_on:
                    passed_on = True
                    pool.interrupt()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        pool.close()
        # What another sweep of the same runs was training may have finished meanwhile.
        for place, one in enumerate(found):
            if one.status == "running":
                one = one._replace(status="interrupted")
            if one.status in ("failed", "interrupted"):
                found[place] = _state(one)
    if pressed:
        raise KeyboardInterrupt


def _result(one: Result, outcome: Outcome) -> Result:
    if outcome.status in ("interrupted", "stopped"):
        return one._replace(status=outcome.status, reason=outcome.reason)
    if outcome.status == "taken":
        return one._replace(status="failed", reason=outcome.reason)
    if outcome.status == "finished":
        ended = _state(one)
        if ended.status != one.status:
            return ended
        return one._replace(status="failed", reason="its metrics.json can't be read")
    return one._replace(status="failed", reason=f"{outcome.reason}; see {one.trial.output}")


def write(found: list[Result], varied: list[str], logs: Path) -> list[Path]:
    """Writes sweep.md and sweep.csv, and draws sweep.png if there is anything to draw; returns these."""
    from transfer import plots

    logs.mkdir(parents=True, exist_ok=True)
    table, values, plot = (logs / f"sweep.{suffix}" for suffix in ("md", "csv", "png"))
    files.write_text(table, curve.markdown(found, varied))
    files.write_text(values, curve.comma_separated(found, varied))
    plot.unlink(missing_ok=True)  # of an earlier call, which had other runs
    lines = {curve.amount_of(amount): own for amount, own in curve.points(found, varied).items()}
    if lines:
        trained = {point.depth for own in lines.values() for point in own}
        names = [depth for depth in depths.DEPTHS if depth in trained]
        about = next(one.run for one in found if one.run).metrics["data"]["description"]
        figure = plots.sweep(f"How deep to unfreeze: {about}", names, lines)
        plots.save(figure, plot)
    return [table, values, plot] if lines else [table, values]


def _accuracy(one):
    return one.run.metrics["validation_accuracy"]


@contextlib.contextmanager
def _shown(found: list[Result]) -> Iterator:
    """Shows how far the trials are: in a table that changes or, without a terminal, line by line."""
    start, before = time.perf_counter(), [one.status for one in found]
    todo = [place for place, one in enumerate(found) if one.status == "waiting"]

    def estimated(*statuses):
        return sum(found[place].seconds for place in todo if found[place].status in statuses)

    def left():
        done, waiting = estimated("finished"), estimated("waiting", "running")
        if not done or not waiting:
            return ""
        # The estimates are right in proportion, wherever they were measured.
        seconds = (time.perf_counter() - start) / done * waiting
        return f", about {terminal.duration(seconds)} left"

    def lines():
        for place, one in enumerate(found):
            changed, before[place] = one.status != before[place], one.status
            if changed and one.status not in ("waiting", "running"):
                accuracy = f" {_accuracy(one):.4f}" if one.run else ""
                reason = f" ({one.reason})" if one.reason else ""
                print(
                    f"{before.count('finished')}/{len(found)} {one.status:<11} {one.trial}"
                    f"{accuracy}{reason}{left()}",
                    flush=True,
                )

    if not sys.stdout.isatty():
        yield lines
        lines()
        return
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    def table():
        states = Counter(one.status for one in found)
        title = ", ".join(f"{count} {status}" for status, count in states.items()) + left()
        shown = Table(title=title)
        for column in ("images per class", "best so far", "accuracy", "running"):
            shown.add_column(column)
        for amount in dict.fromkeys(one.trial.config.images_per_class for one in found):
            own = [one for one in found if one.trial.config.images_per_class == amount]
            finished = [one for one in own if one.run]
            best = max(finished, key=_accuracy, default=None)
            shown.add_row(
                f"{amount:,}" if amount else "all",
                Text(str(best.trial) if best else ""),
                f"{_accuracy(best):.4f}" if best else "",
                Text("\n".join(str(one.trial) for one in own if one.status == "running")),
            )
        return shown

    with Live(table(), transient=True) as live:
        yield lambda: live.update(table())
    lines()
