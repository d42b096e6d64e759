"""Trains the trials of a sweep on a Ray cluster, and sends each machine what it lacks.

Where a machine sees the sweep's --logs, images and weights, a trial trains into --logs, with that
machine's own features. Where it lacks any of them, images and weights come through Ray's object store,
checked by their sha256, and the folder of the run goes back the same way.
"""

import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import shutil
import socket
import tempfile
import time
import zipfile
from pathlib import Path

from data import SOURCES
from transfer import checkpoints, files, layouts, pool, run, terminal
from transfer.grid import Trial
from transfer.pool import Outcome
from transfer.precision import choose_precision
from transfer.settings import absolute_sources

ROOT = Path(__file__).parent.parent
CPUS, MEMORY = 2, 2 * 2**30  # what a trial is given, if a machine has as many cores
SEEN = "seen"  # in the name of the mark in --logs


class Cluster:
    """The machines of a Ray cluster, in place of a `pool.Pool`.

    Args:
        address: Of the cluster, or "auto".
        trials: All that are to be trained; they have images and --logs in common.
        stop_worst: Whether to stop hopeless trials early.

    Raises:
        OSError: Ray is not installed, no cluster answers, none of its machines can take a trial, or
            what is to be sent can't be read.
        ValueError: A machine has other versions than this one.
    """

    def __init__(self, address: str, trials: list[Trial], stop_worst: bool = False):
        self.trials = trials
        self.versions = run.versions()
        self.precisions = {
            trial.config.precision: choose_precision(trial.config.precision)[0] for trial in trials
        }
        self.ray = _connect(address)
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        self.demand = _demand(address, [node["Resources"] for node in nodes])
        self.busy: dict = {}
        logs = Path(trials[0].config.logs).resolve()
        logs.mkdir(parents=True, exist_ok=True)
        files.clear_parts(logs, SEEN)
        self.mark = files.part_of(logs / SEEN)  # by which a machine knows that it sees them
        self.mark.touch()
        self.held = contextlib.ExitStack()
        self.held.enter_context(files.held(self.mark))  # so that no other sweep clears it
        self.paths = {
            self.mark,
            *(path for trial in trials for path in _local(absolute_config(trial))),
        }
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            seen = []
            asked = [self._ask(node) for node in nodes]  # all at once
            for node, answer in zip(nodes, asked, strict=True):
                machine = node["NodeManagerAddress"]
                try:
                    sees, found = self.ray.get(answer)
                except self.ray.exceptions.RayError as error:
                    reason = terminal.first_line(getattr(error, "cause", None) or error)
                    raise OSError(f"machine {machine} can't train: {reason}") from error
                _check_versions(self.versions, found, machine)
                seen.append(sees)
            self.sent = {} if all(seen) else self._send(trials)
            self.halving = self._halving() if stop_worst else None
            stack.pop_all()

    def _ask(self, node):
        """Asks a machine whether it sees --logs, images and weights, and for its versions."""
        return self.ray.remote(_inspect).options(**_pinned_to(node["NodeID"])).remote(self.paths)

    def _halving(self):
        try:
            from transfer.halving import Halving
        except ImportError as error:
            raise OSError(
                "--stop-worst needs Ray Tune: install it with pip install -r requirements-ray.txt"
            ) from error
        here = _pinned_to(self.ray.get_runtime_context().get_node_id())
        halving = self.ray.remote(Halving).options(**here).remote()
        self.ray.get(halving.__ray_ready__.remote())  # now, rather than at a trial's first question
        return halving

    def _send(self, trials):
        """Puts images and weights into the object store.

        Returns:
            Dict by what --weights says, or "images": the name, the sha256, the size of the files in
            bytes, and Ray's reference to them, in a list, as Ray would otherwise send them to every machine.
        """
        from transfer.network import weights_file

        contents = {}
        for trial in trials:
            there = trial._replace(config=absolute_config(trial))
            for what in _needed(there) - contents.keys():
                if what == "images":
                    source = Path(there.config.data)
                    contents[what] = source.name, _images(source)
                else:
                    path = weights_file(what)
                    contents[what] = path.name, {path.name: path}
        sent = {}
        for what, (name, paths) in contents.items():
            content = _packed(paths)
            sha256, size = hashlib.sha256(content).hexdigest(), _size(paths.values())
            sent[what] = name, sha256, size, [self.ray.put(content)]
        return sent

    def free(self) -> int:
        """Says how many trials can be started at once."""
        cores = self.ray.cluster_resources().get("CPU", 0)
        return max(0, int(cores // self.demand["num_cpus"]) - len(self.busy))

    def start(self, trial: Trial) -> None:
        there = dataclasses.replace(
            absolute_config(trial), precision=self.precisions[trial.config.precision]
        )
        task = self.ray.remote(_train).options(max_retries=0, **self.demand)
        sent = trial._replace(config=there)
        arguments = (sent, self.mark, self.versions, self.sent, self.halving)
        self.busy[task.remote(*arguments)] = trial

    def finished(self, seconds: float) -> list[tuple[Trial, Outcome]]:
        """Waits up to so many seconds for trials that have ended; returns them."""
        if not self.busy:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self.busy), num_returns=len(self.busy), timeout=seconds)
        ended = []
        for ref in ready:
            trial = self.busy.pop(ref)
            ended.append((trial, self._outcome(ref, trial)))
        return ended

    def _outcome(self, ref, trial):
        try:
            outcome, content = self.ray.get(ref)
        except self.ray.exceptions.TaskCancelledError:
            return Outcome("interrupted")
        except self.ray.exceptions.RayTaskError as error:
            return Outcome("failed", str(error.cause))
        except self.ray.exceptions.RayError as error:
            return Outcome("died", f"its machine or process died ({type(error).__name__})")
        if outcome.status == "died" and not self.sent:
            try:
                self.sent = self._send(self.trials)
            except (OSError, ValueError) as error:  # such as of a folder that has changed
                return Outcome("failed", terminal.reason(error))
        if content is not None:
            try:
                _receive(trial, content)
            except (OSError, ValueError) as error:  # such as a full disk
                return Outcome("failed", terminal.reason(error))
        return outcome

    def interrupt(self) -> None:
        """Passes Ctrl-C on to the trials that are being trained."""
        for ref in self.busy:
            self.ray.cancel(ref)

    def close(self) -> None:
        self.mark.unlink(missing_ok=True)
        self.held.close()
        self.ray.shutdown()


def absolute_config(trial):
    """Returns the settings of a trial with absolute paths, which hold in any working directory."""
    logs = str(Path(trial.config.logs).resolve())
    return dataclasses.replace(trial.config.with_absolute_sources(), logs=logs)


def _connect(address):
    # The many lines that Ray prints about a machine that died: the sweep says it in its own words.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        import ray
    except ModuleNotFoundError:
        raise OSError(
            "--address needs Ray: install it with pip install -r requirements-ray.txt"
        ) from None
    host, _, port = address.rpartition(":")
    # As many as a trial asks for, where a machine has them: TensorFlow would take all of its cores.
    threads = {f"TF_NUM_{kind}OP_THREADS": str(CPUS) for kind in ("INTRA", "INTER")}
    with tempfile.TemporaryDirectory() as code:
        left_out = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / "transfer", Path(code, "transfer"), ignore=left_out)
        for script in ROOT.glob("*.py"):
            shutil.copy(script, code)
        environment = {"working_dir": code, "env_vars": threads}
        try:
            if port.isdecimal() and "://" not in address:  # Ray would knock for half a minute
                socket.create_connection((host, int(port)), timeout=5).close()
            ray.init(
                address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR
            )
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            reason = terminal.first_line(error)
            raise OSError(
                f"--address {address}: no Ray cluster answers ({reason}); expected one that was "
                "started with ray start"
            ) from error
    return ray


def _demand(address, resources):
    """Says what a trial asks of a machine: no more than one of them has, or it would wait forever."""
    cpus = min(CPUS, int(max(each.get("CPU", 0) for each in resources)))
    gpus = min(1, max(each.get("GPU", 0) for each in resources))
    demand = {"CPU": max(1, cpus), "memory": MEMORY, "GPU": gpus}
    if not any(all(each.get(key, 0) >= demand[key] for key in demand) for each in resources):
        raise OSError(
            f"--address {address}: no machine of that cluster offers {terminal.counted(demand['CPU'], 'core')} and "
            f"{MEMORY / 2**30:.0f} GiB of memory{' and a GPU' if gpus else ''}: add one that does"
        )
    return {"num_cpus": demand["CPU"], "memory": MEMORY, "num_gpus": gpus}


def _pinned_to(node):
    """Returns the options of what is to run on one machine, by its id, whatever else runs there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
    }


def _inspect(paths):
    """Says, on a machine, whether it sees all of these paths; returns its versions, too."""
    return all(map(os.path.exists, paths)), run.versions()


def _local(config):
    """Returns the paths of a run's images and weights, where they are files."""
    return [Path(path) for path in absolute_sources(dataclasses.asdict(config)).values()]


def _check_versions(expected, found, machine):
    for name, version in expected.items():
        if found[name] != version:
            raise ValueError(
                f"machine {machine} has {name} {found[name]}, the sweep {version}: install the same "
                "on both"
            )


def _train(trial, mark, expected, sent, halving):
    """Trains a trial on one of the machines; returns its `Outcome`, and what is to go back."""
    shared = all(map(os.path.exists, (mark, *_local(trial.config))))
    home = Path(tempfile.gettempdir(), f"squeezenet-{os.getuid()}")
    if not shared:  # before Keras is imported, which reads it once
        os.environ["KERAS_HOME"] = str(home / "keras")
    _check_versions(expected, run.versions(), socket.gethostname())
    if shared:
        return pool.train(trial, hopeless=_asking(halving, trial)), None
    changes = {"logs": str(home / "logs")}
    weights, images = trial.config.weights, trial.config.data
    if not _needed(trial) <= sent.keys():  # it joined when all others saw them
        return Outcome("died", f"machine {socket.gethostname()} had not been sent the images"), None
    if weights == "imagenet":
        _unpacked(sent[weights], home, home / "keras" / "models")
    elif weights in sent:
        changes["weights"] = str(_unpacked(sent[weights], home))
    if images not in SOURCES:
        changes["data"] = str(_unpacked(sent["images"], home))
    there = trial._replace(config=dataclasses.replace(trial.config, **changes))
    outcome = pool.train(there, hopeless=_asking(halving, there))
    if outcome.status == "taken":  # the run is that of the process that trains it
        return outcome, None
    made = {str(path.relative_to(there.folder)): path for path in there.folder.rglob("*")}
    content = {"run": _packed(made), "output": there.output.read_bytes()}
    if outcome.status != "interrupted":
        shutil.rmtree(there.folder, ignore_errors=True)
        there.output.unlink()
    return outcome, content


def _needed(trial):
    """Returns what a machine that does not see all of it has to be sent: "images", and weights."""
    images = set() if trial.config.data in SOURCES else {"images"}
    return images | ({trial.config.weights} - {"none", "drawn"})


def _asking(halving, trial):
    """Makes the function that asks a cluster's `Halving`, if there is one, about a trial."""
    if not halving:
        return None
    import ray

    config = trial.config
    group = config.images_per_class, config.seed, config.fold
    _, epoch, total = checkpoints.last(trial.folder)
    before = 100 * epoch / total if total else 0.0  # where it is resumed

    def hopeless(percent, accuracy):
        nonlocal before
        since, before = before, percent
        try:
            said = halving.hopeless.remote(group, config.name, since, percent, accuracy)
            return ray.get(said)
        except ray.exceptions.RayError:  # its machine died, and with it what it knew
            return False

    return hopeless


def _images(source):
    """Names the files of a source of images, by their place below the folder they are to be in."""
    if source.is_file():
        return {source.name: source}
    entries = layouts.find(source).entries
    return {str(Path(source.name, entry.path)): source / entry.path for entry in entries}


def _size(paths):
    return sum(path.stat().st_size for path in paths)


def _packed(paths):
    """Packs files, by the names that they are to have, without compression, as images have theirs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
        for name, path in paths.items():
            # A name may be any bytes, of which a .zip file takes only those that are UTF-8.
            archive.write(path, os.fsencode(name).decode("latin-1"))
    return buffer.getvalue()


def _unpack(content, folder):
    """Unpacks what `_packed` has packed; makes no folder of nothing."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            member.filename = os.fsdecode(member.filename.encode("latin-1"))
            archive.extract(member, folder)


def _unpacked(what, home, folder=None):
    """Unpacks what was sent, once for each machine; returns its path.

    Args:
        what: As of `Cluster._send`.
        home: Folder of all that this machine was sent.
        folder: Where a single file belongs, if that matters.
    """
    name, sha256, size, (ref,) = what
    path = (folder or home / sha256) / name
    if path.exists():
        if _size(files.files_of([path])) == size:
            return path
        # A machine may delete old temporary files, but leave their folders.
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    import ray

    content = ray.get(ref)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise OSError(f"{name} arrived damaged: its sha256 does not match")
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as temporary:
        _unpack(content, temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # another trial of this machine was first
            os.rename(Path(temporary, name), path)
    return path


def _receive(trial, content):
    """Puts the folder of a run that comes back into --logs, whole, with the paths of this machine.

    A run that is not finished does not replace one that has done more epochs.
    """
    trial.output.parent.mkdir(parents=True, exist_ok=True)
    trial.output.write_bytes(content["output"])
    with tempfile.TemporaryDirectory(dir=trial.config.logs) as temporary:
        folder = Path(temporary, "received", "run")  # so deep that no command takes it for a run
        _unpack(content["run"], folder)
        if not folder.exists():  # it ended before it had one
            return
        behind = checkpoints.last(folder)[1] < checkpoints.last(trial.folder)[1]
        if behind and not (folder / "metrics.json").exists():  # it began anew there
            if (folder / trial.stopped.name).exists():
                shutil.copy(folder / trial.stopped.name, trial.stopped)
            return
        if trial.stopped.exists() and not (folder / "metrics.json").exists():
            shutil.copy(trial.stopped, folder)  # it has been stopped early until it finishes
        config = absolute_config(trial)
        here = {key: getattr(config, key) for key in ("data", "weights", "logs")}
        for name in ("config.json", "metrics.json"):
            if (folder / name).exists():
                known = files.read_json(folder / name)
                known.get("config", known).update(here)
                if name == "metrics.json":
                    known["data"]["source"] = here["data"]
                    known["weights"]["source"] = here["weights"]
                files.write_json(folder / name, known)
        with files.folder_written_whole(trial.folder, lambda _: None) as part:
            os.replace(folder, part)
