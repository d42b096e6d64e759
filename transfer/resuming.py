"""Whether a run can go on, and with which settings."""

import dataclasses
import os

import data
from transfer import checkpoints, depths, files, results, terminal
from transfer.settings import Config, absolute_sources, learnt


def resumed(folder, regime, given):
    """Returns the settings with which a run goes on.

    Args:
        folder: Path of the run's folder.
        regime: Name of the regime that asks, which is to be the run's.
        given: Dict of settings that are asked for: only the epochs may grow, what `data` and
            `weights` name may have moved, and `histograms` may be switched on or off.

    Raises:
        ValueError: The run can't go on, or not with these.
    """
    try:
        known = files.read_json(folder / "config.json")
        if "regime" not in known:
            raise ValueError("its config.json is damaged")
        saved = Config(**(results.OLDER_DEFAULTS | known))
        if type(saved.epochs) is not int:
            raise ValueError(f"its config.json is damaged: epochs is {saved.epochs!r}")
        finished = (folder / "metrics.json").exists()
        done = results.read_metrics(folder) if finished else {}
        trained, passed, total = checkpoints.last(folder)
        settings = learnt(saved) if trained else {}
    except FileNotFoundError:
        raise ValueError(
            f"{folder} can't be resumed: it has no config.json, so it is not a run"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder} can't be resumed ({terminal.reason(error)})") from error
    given = given | {"regime": regime} | absolute_sources(given)
    _refuse_changes(folder, saved, given)
    epochs = given.get("epochs", saved.epochs)
    if finished and epochs == saved.epochs:
        raise ValueError(f"{folder} is finished; give a larger --epochs to continue")
    since = done["epochs"] - done["best_epoch"] if done else 0
    if 0 < saved.early_stopping <= since:
        raise ValueError(
            f"{folder} stopped early, after epoch {done['epochs']} of "
            f"{saved.epochs}; it would stop there again"
        )
    for key in sorted(trained.keys() & settings.keys()):
        if trained[key] != settings[key]:
            raise ValueError(
                f"{folder} was trained with {key} {trained[key]}, but its config.json "
                f"has {settings[key]}: restore config.json"
            )
    if passed > epochs:
        raise ValueError(
            f"{folder} has done {passed} epochs: expected --epochs of {passed} or more"
        )
    # Only an epoch that is still to come, and kept, would write it again.
    lost = passed and not (folder / "model.keras").exists()
    if lost and (passed == epochs or saved.early_stopping):
        raise ValueError(f"{folder} can't be resumed: its model.keras is gone; {checkpoints.ANEW}")
    extended = _extended_from(saved, epochs, passed, total)
    asked = given | {"epochs": epochs, "extended_from": extended, "resume": str(folder)}
    return dataclasses.replace(saved, **asked)


def _refuse_changes(folder, saved, given):
    """Refuses settings that are not those of the run, and images that are gone."""
    for key, value in given.items():
        before = getattr(saved, key)
        grows = key == "epochs" and value >= before
        # The images and weights themselves are compared with those of the checkpoint.
        moved = key in ("data", "weights") and os.path.isabs(before) and os.path.isabs(value)
        harmless = key == "histograms"  # changes no figure
        if before != value and not (grows or moved or harmless):
            remedy = "only --epochs may be increased and --histograms switched on or off"
            if key == "regime":
                script = f"train_{before}.py" if depths.has_script(before) else "the same sweep"
                remedy = f"resume it with {script}"
            raise ValueError(f"{folder} has {key} {before}, not {value}; {remedy}")
    if "data" not in given and not data.exists(saved.data):
        raise ValueError(
            f"{saved.data}, with the images of {folder}, no longer exists: use "
            "--data to say where they are now"
        )


def _extended_from(saved, epochs, passed, total):
    """Returns `extended_from` of a run that goes on to so many epochs.

    Args:
        saved: Its `Config` so far.
        epochs: All that it is to have.
        passed, total: The epochs that it has done, and those that were planned then.
    """
    if epochs == saved.epochs or not passed or not (saved.schedule == "cosine" or saved.averaging):
        return saved.extended_from
    plans = [f"{saved.epochs} at {passed}" if passed < saved.epochs else f"{saved.epochs}"]
    if saved.epochs < total != epochs:  # an extension that was interrupted
        plans.append(f"{total} at {passed}")
    return ", ".join(filter(None, [saved.extended_from, *plans]))
