"""Which trials of a sweep are hopeless: Ray Tune's asynchronous successive halving, ASHA.

Li et al. 2020, https://arxiv.org/abs/1810.05934. A trial is compared with those that have the same
images and seed, at its first report after a quarter and after half of its epochs, and stopped if its
validation accuracy is below the median of the trials that got there first. A trial that reports only
once, at its end, is never judged; one that is resumed, only at points that it had not passed.
"""

from types import SimpleNamespace

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

MILESTONES = (25, 50)  # percent of a trial's epochs


class Halving:
    """Judges the trials of a sweep, in whatever process they are trained."""

    def __init__(self):
        self.schedulers = {}

    def hopeless(
        self, group: tuple, name: str, before: float, percent: float, accuracy: float
    ) -> bool:
        """Says whether to stop a trial early.

        Args:
            group: What trials have in common that are compared with each other.
            name: Of the trial.
            before: How much of its training was done, 0..100, at its last report or where it is resumed.
            percent: How much is done now.
            accuracy: Its validation accuracy (0..1) at that point.
        """
        if not any(before < milestone <= percent for milestone in MILESTONES):
            return False
        if group not in self.schedulers:
            self.schedulers[group] = ASHAScheduler(
                time_attr="percent", metric="accuracy", mode="max",
                max_t=100, grace_period=MILESTONES[0], reduction_factor=2, stop_last_trials=False,
            )  # fmt: skip
        trial, scheduler = SimpleNamespace(trial_id=name), self.schedulers[group]
        scheduler.on_trial_add(None, trial)
        said = scheduler.on_trial_result(None, trial, {"percent": percent, "accuracy": accuracy})
        return said == TrialScheduler.STOP
