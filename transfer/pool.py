"""Processes that train the trials of a sweep, one after the other; each imports Keras once."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from transfer import depths, files, progress, run, terminal
from transfer.grid import Status, Trial
from transfer.precision import CORES

# A second process works where the first one's second thread would wait. Of as many threads as a script
# has, so that the figures equal a script's to the bit: with fewer, sums are added up in another order.
PROCESSES = min(2, CORES)


class Outcome(NamedTuple):
    """How a trial ended, and why.

    It finished, failed, was interrupted or stopped, died (its process did), or was taken (by another
    process, which is training it).
    """

    status: Status
    reason: str = ""


class Pool:
    """The processes of this machine."""

    def __init__(self):
        self.idle: list[_Worker] = []
        self.busy: dict[_Worker, Trial] = {}

    def free(self) -> int:
        """Says how many trials can be started at once."""
        return PROCESSES - len(self.busy)

    def start(self, trial: Trial) -> None:
        self.idle = [worker for worker in self.idle if worker.process.is_alive()]
        worker = self.idle.pop() if self.idle else _Worker()
        self.busy[worker] = trial
        worker.connection.send(trial)

    def finished(self, seconds: float) -> list[tuple[Trial, Outcome]]:
        """Waits up to so many seconds for trials that have ended; returns them."""
        ready = wait([worker.connection for worker in self.busy], seconds)
        ended = []
        for worker in [worker for worker in self.busy if worker.connection in ready]:
            try:
                outcome = worker.connection.recv()
                self.idle.append(worker)
            except (EOFError, OSError):
                outcome = Outcome("died", worker.end())
            ended.append((self.busy.pop(worker), outcome))
        return ended

    def interrupt(self) -> None:
        """Passes Ctrl-C on to the trials that are being trained."""
        for worker in self.busy:
            with contextlib.suppress(OSError):  # it died meanwhile
                worker.interrupt()

    def close(self) -> None:
        for worker in [*self.idle, *self.busy]:
            worker.connection.close()


class _Worker:
    def __init__(self):
        # Not forked: TensorFlow's threads do not survive that.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        # It inherits this, until it has left the group of processes that Ctrl-C reaches.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.process.start()
        signal.signal(signal.SIGINT, before)
        theirs.close()

    def interrupt(self) -> None:
        assert self.process.pid  # it was started
        self.connection.send(None)  # if it has not begun yet
        os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> str:
        """Says how the process died."""
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            return f"its process was killed ({signal.Signals(-code).name}); it may have run out of memory"
        return f"its process ended with status {code}"


def _serve(connection):
    """Trains what comes, until the sweep closes the connection or dies."""
    os.setpgrp()
    terminal.take_any_text()
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # else the first process takes all its memory
    threading.Thread(target=_stop_with_the_sweep, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            trial = connection.recv()
            if trial is not None:
                connection.send(train(trial, connection.poll))


def _stop_with_the_sweep():
    sweep = multiprocessing.parent_process()
    assert sweep  # this process was started by it
    sweep.join()
    os.kill(os.getpid(), signal.SIGINT)


def train(
    trial: Trial,
    interrupted: Callable[[], bool] = lambda: False,
    hopeless: Callable[[float, float], bool] | None = None,
) -> Outcome:
    """Trains a trial in this process, or resumes it; what it prints goes into a file of its own.

    Args:
        trial: `Trial`.
        interrupted: Says whether Ctrl-C came before it could reach the trial.
        hopeless: Says, by the percentage of its epochs that are done and by its validation accuracy,
            whether to stop it early.
    """
    try:
        return _train(trial, interrupted, hopeless)
    except OSError as error:  # what it prints can't be written: the disk is full
        return Outcome("failed", terminal.reason(error))


def _train(trial, interrupted, hopeless):
    path = trial.output
    path.parent.mkdir(parents=True, exist_ok=True)
    before = signal.getsignal(signal.SIGTERM)
    with (
        path.open("a", encoding="utf-8") as file,
        terminal.printed_to(file),
        files.held(path) as alone,
    ):
        if alone is False:
            return Outcome(
                "taken",
                "another process is training it: run the same command again once that has finished",
            )
        try:
            terminal.interruption.clear()
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, terminal.interrupt)
            if interrupted():
                return Outcome("interrupted")
            if (trial.folder / "metrics.json").exists():  # its process died after it had finished
                return Outcome("finished")
            run.run(depths.title(trial.depth), depths.rule(trial.depth), trial.to_run(), hopeless)
            trial.stopped.unlink(missing_ok=True)
            return Outcome("finished")
        except progress.Hopeless as stopped:
            files.write_json(trial.stopped, {"reason": str(stopped)})
            return Outcome("stopped", str(stopped))
        except SystemExit as ended:
            if ended.code == terminal.INTERRUPTED:
                return Outcome("interrupted")
        except KeyboardInterrupt:
            return Outcome("interrupted")
        except Exception:
            traceback.print_exc()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, before)
    return Outcome("failed", _last_line(path))


def _last_line(path):
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "no reason was given")
    return last.removeprefix(f"{Path(sys.argv[0]).name}: ")
