"""Which trials of a sweep are hopeless: Ray Tune's asynchronous successive halving, ASHA.

Li et al. 2020, https://arxiv.org/abs/1810.05934. A trial is compared with those that have the same
images and seed, at a quarter and at half of its epochs, and stopped if its validation accuracy is below
the median of the trials that got there first.
"""

from types import SimpleNamespace

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

FIRST = 25  # percent of a trial's epochs, then twice as many


class Halving:
    """Judges the trials of a sweep, in whatever process they are trained."""

    def __init__(self):
        self.schedulers = {}

    def hopeless(self, group: tuple, name: str, percent: float, accuracy: float) -> bool:
        """Says whether to stop a trial early.

        Args:
            group: What trials have in common that are compared with each other.
            name: Of the trial.
            percent: How much of its training is done, 0..100.
            accuracy: Its validation accuracy (0..1) at that point.
        """
        if group not in self.schedulers:
            self.schedulers[group] = ASHAScheduler(
                time_attr="percent", metric="accuracy", mode="max",
                max_t=100, grace_period=FIRST, reduction_factor=2, stop_last_trials=False,
            )  # fmt: skip
        trial, scheduler = SimpleNamespace(trial_id=name), self.schedulers[group]
        scheduler.on_trial_add(None, trial)
        said = scheduler.on_trial_result(None, trial, {"percent": percent, "accuracy": accuracy})
        return said == TrialScheduler.STOP
