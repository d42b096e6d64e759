"""What a run has reached: the epochs that are reported, and the model that is kept."""

import math
import shlex
import time

from transfer import depths, files, runs
from transfer.recipes import REPORTS

DRAWN = 1_000_000  # views drawn at once, at most: some 100 MB


def epochs_at_once(epochs, images, done=0):
    """Says how many epochs may be one of fit(), so that there are about `REPORTS` of these.

    There are at least half as many, and more where the number of epochs has no suitable divisor, or where
    the views of so many epochs would not fit into memory.

    Args:
        epochs: All of a run.
        images: Number of training images.
        done: Number of epochs after which it goes on.
    """
    both = math.gcd(epochs, done)
    most = max(1, min(math.ceil(epochs / REPORTS), DRAWN // images))
    return max(n for n in range(1, most + 1) if both % n == 0)


class Hopeless(Exception):
    """A run was ended early, because others are far ahead of it."""


class Progress:
    """The epochs that were validated, and the one whose model is kept.

    With a patience, only the model with the lowest validation loss is kept, and training stops
    after that many epochs without a better one. `hopeless`, if given, is asked after each report: a
    function of the percentage of the epochs that are done and of the validation accuracy (0..1) that
    says whether to end training with `Hopeless`.
    """

    def __init__(self, folder, patience=0, resumed=False, hopeless=None):
        self.folder = folder
        self.patience = patience
        self.hopeless = hopeless
        # A run that goes on stays as it was, its settings too, until its model changes.
        self.as_it_was = resumed
        self.settings = {}
        self.total = 0
        self.epochs_at_once = 1
        self.reported = []
        self.epochs = 0
        self.kept_epoch = 0
        self.best_loss = math.inf
        self.diverged = False
        self.history = {}
        self.seconds = 0.0
        self.start = time.perf_counter()

    def plan(self, epochs, dataset):
        """Chooses the epochs after which to validate, keep the model and print a line.

        `epochs_at_once` of them are one epoch of fit(), where there are many: between two epochs it
        spends more time than a short one takes.
        """
        if self.total != epochs:  # it is new, or goes on for longer
            self.total = epochs
            self.epochs_at_once = epochs_at_once(epochs, len(dataset.train.labels), self.epochs)
        blocks = epochs // self.epochs_at_once
        reports = min(blocks, self.reports(epochs, dataset, self.patience))
        self.reported = [
            math.ceil(blocks * i / reports) * self.epochs_at_once for i in range(1, reports + 1)
        ]

    @staticmethod
    def reports(epochs, dataset, patience):
        """Says how many there are: `REPORTS`, or fewer if validating would outlast training.

        A patience needs them all: what is not validated can't be the best epoch.
        """
        if patience:
            return min(epochs, REPORTS)
        seen = epochs * len(dataset.train.labels) / len(dataset.validation.labels)
        return min(epochs, REPORTS, max(int(seen), 1))

    def state(self):
        """Returns what `restore` needs to go on from here, as JSON has it."""
        names = (
            "total", "epochs_at_once", "epochs", "kept_epoch", "best_loss", "history", "seconds",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def restore(self, state):
        for name, value in state.items():
            setattr(self, name, value)

    def out_of_patience(self):
        return 0 < self.patience <= self.epochs - self.kept_epoch

    def reopen(self):
        """Marks a resumed run as unfinished, under its new settings; does nothing to a new run."""
        if self.as_it_was:
            self.as_it_was = False
            runs.reopen(self.folder, self.settings)

    def epoch_end(self, epoch, model, trained, logs, report, save=lambda: None):
        """Keeps the epoch's `model` or ends fit() of `trained`; `report` prints a line about it.

        Args:
            epoch: Epochs that are done.
            model, trained: The whole model, and the one that fit() trains.
            logs: Of fit().
            report: Whether to print the line.
            save: Function that writes the checkpoint, before the line says that the epoch is done.

        Returns:
            Whether the epoch counts.
        """
        if not all(math.isfinite(logs[key]) for key in ("loss", "val_loss") if key in logs):
            self.diverged = trained.stop_training = True
            return False
        if "val_loss" not in logs:
            return False
        self.epochs = epoch
        if not self.patience or logs["val_loss"] < self.best_loss:
            with files.written_whole(self.folder / "model.keras") as part:
                model.save(part)
                self.reopen()
            self.kept_epoch, self.best_loss = self.epochs, logs["val_loss"]
        elif self.out_of_patience():
            trained.stop_training = True
        for key, figure in ({"epoch": epoch} | logs).items():
            self.history.setdefault(key, []).append(figure)
        seconds = time.perf_counter() - self.start
        self.seconds += seconds
        self.start = time.perf_counter()
        save()
        if report:
            print(
                f"epoch {self.epochs}/{self.total}: loss {logs['loss']:.4f}, "
                f"accuracy {logs['accuracy']:.4f}, validation loss {logs['val_loss']:.4f}, "
                f"validation accuracy {logs['val_accuracy']:.4f}, {seconds:.0f} s",
                flush=True,
            )
        return True

    def stop_if_hopeless(self):
        """Raises `Hopeless` if that is what the run is, before its last epoch."""
        done, accuracy = 100 * self.epochs / self.total, self.history["val_accuracy"][-1]
        if self.hopeless and done < 100 and self.hopeless(done, accuracy):
            raise Hopeless(
                f"validation accuracy {accuracy:.4f} after epoch {self.epochs} of {self.total}"
            )

    def kept(self, resumable=True):
        """Says what an unfinished run has saved, and how to resume it, if it is resumable."""
        if self.as_it_was:
            saved, then = f"{self.folder} is unchanged", "; the same command continues the run"
        elif (self.folder / "metrics.json").exists():
            saved, then = f"{self.folder} is finished", ""
        elif not self.kept_epoch:
            saved, then = "no model was saved yet", ", so there is nothing to resume"
        else:
            epoch = f"epoch {self.kept_epoch} of {self.total}"
            saved = f"{self.folder}/model.keras is the model after {epoch}"
            then = f"; --resume {shlex.quote(str(self.folder))} continues the run"
            if not depths.has_script(self.folder.parent.name):
                then = "; the same sweep continues the run"
        return saved + then if resumable else saved
