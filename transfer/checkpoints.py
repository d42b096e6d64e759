"""A run's checkpoints: after each validation, all that changes in training, so that the run can go on.

    checkpoint-7.npz     the variables of the model and of the optimizer, the dropout's random state
    checkpoint-7.json    its sha256, what must not have changed, and the figures so far; written last

The last two are kept: where the last is damaged, the one before it counts.
"""

import functools
import hashlib
import io
import re

import numpy as np

from transfer import files
from transfer.terminal import say

KEPT = 2
CHANGED = {
    "data": "its images, or their splits, have changed",
    "weights": "the weights that it began with have changed",
}
ANEW = "start a new run (a sweep does, once that folder is removed)"


def save(folder, epoch, variables, facts, state):
    """Writes a checkpoint, whole or not at all, and removes older ones but the one before.

    Args:
        folder: The run's folder.
        epoch: Epochs that are done.
        variables: Keras variables.
        facts: Dict of what a run that goes on must have in common with this one, for JSON.
        state: Dict of what else it needs, for JSON.
    """
    buffer = io.BytesIO()
    np.savez(buffer, *[np.asarray(variable) for variable in variables])
    path = folder / f"checkpoint-{epoch}.npz"
    with files.written_whole(path) as part:
        part.write_bytes(buffer.getbuffer())
    sha256 = hashlib.sha256(buffer.getbuffer()).hexdigest()
    files.write_json(path.with_suffix(".json"), {"sha256": sha256, "facts": facts, "state": state})
    prune(folder, KEPT)


def read(folder, facts):
    """Reads the last checkpoint that is whole, and says which are not.

    Returns:
        Its arrays and its state, or `None` for both if there is none.

    Raises:
        ValueError: The facts have changed; or the run is finished, and none is whole.
    """
    for _, content, known, state in _intact(folder, functools.partial(say, "resume")):
        for name in facts:
            if name != "settings" and known.get(name) != facts[name]:  # resuming.py compares those
                changed = f"{name} was {known.get(name)}, now {facts[name]}"
                raise ValueError(f"{folder} can't be resumed: {CHANGED.get(name, changed)}; {ANEW}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return [arrays[name] for name in arrays.files], state
    if (folder / "metrics.json").exists():  # its model must not give way to one that begins anew
        raise ValueError(f"{folder} can't be resumed: it has no intact checkpoint; {ANEW}")
    return None, None


def last(folder):
    """Returns the last intact checkpoint's settings, epoch and planned epochs, as far as it has them."""
    for epoch, _, facts, state in _intact(folder):
        return facts.get("settings", {}), epoch, state.get("total", 0)
    return {}, 0, 0


def prune(folder, kept):
    """Removes all checkpoints but the last ones, and what a kill has left of one."""
    last = {f"checkpoint-{epoch}" for epoch in _epochs(folder)[:kept]}
    for suffix in ("json", "npz"):
        for path in folder.glob(f"checkpoint-*.{suffix}"):
            if path.stem not in last:
                path.unlink(missing_ok=True)


def _intact(folder, note=lambda _: None):
    """Yields the epoch, the content, the facts and the state of each intact checkpoint, the last first."""
    for epoch in _epochs(folder):
        path = folder / f"checkpoint-{epoch}.npz"
        try:
            kept = files.read_json(path.with_suffix(".json"))
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != kept["sha256"]:
                raise ValueError("its sha256 does not match")
            facts, state = kept["facts"], kept["state"]
        except (OSError, ValueError, KeyError) as error:
            missing = isinstance(error, FileNotFoundError)
            how = "missing" if missing else f"damaged ({error})"
            note(f"{path} is {how}: trying the one before it")
            continue
        yield epoch, content, facts, state


def _epochs(folder):
    """Epochs of which there is a checkpoint, the last first."""
    names = (
        re.fullmatch(r"checkpoint-(\d+)\.json", path.name) for path in folder.glob("checkpoint-*")
    )
    return sorted((int(name[1]) for name in names if name), reverse=True)
