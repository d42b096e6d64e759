"""A sweep on a Ray cluster: the same figures as on one machine, whatever becomes of its nodes."""

import csv
import getpass
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import KERAS_HOME, ROOT, TINY, finish, start
from test_sweep import GRID

import data
from transfer import checkpoints, files, grid, network, pool, settings
from transfer import cluster as transfer_cluster
from transfer.pool import Outcome
from transfer.run import versions

ray = pytest.importorskip("ray", reason="needs requirements-ray.txt")
pytestmark = pytest.mark.slow


def figures(logs):
    with (logs / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["status"] for line in lines] == ["finished"] * len(lines)
    assert len({line["validation_loss"] for line in lines}) == len(lines)
    return [[line[key] for key in line if key not in ("seconds", "run")] for line in lines]


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Arguments of a sweep on files of images and weights."""
    folder = tmp_path_factory.mktemp("files")
    dataset = data.load("shapes")
    arrays = {"x_train": dataset.train.images[:500], "y_train": dataset.train.labels[:500]}
    arrays |= {"x_test": dataset.test.images[:50], "y_test": dataset.test.labels[:50]}
    np.savez(folder / "images.npz", **arrays)
    weights = shutil.copy(network.DRAWN_WEIGHTS, folder / "weights.h5")
    return (*GRID, "--data", folder / "images.npz", "--weights", "none", weights, "--depth", "all")


@pytest.fixture(scope="module")
def expected(trials, tmp_path_factory):
    """What the sweep finds on this machine alone."""
    logs = tmp_path_factory.mktemp("alone")
    result = finish(start("sweep.py", *trials, "--logs", logs))
    assert result.status == 0, result.err
    return figures(logs)


@pytest.fixture
def cluster():
    """Three nodes, and a head that trains nothing."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [made.add_node(num_cpus=2) for _ in range(3)]
    made.wait_for_nodes()
    yield made, nodes
    made.shutdown()


def test_a_node_is_killed_in_the_middle(cluster, trials, expected, tmp_path):
    made, nodes = cluster
    command = [sys.executable, ROOT / "sweep.py", *map(str, trials), "--logs", tmp_path]
    process = subprocess.Popen(
        [*command, "--address", made.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "4 to train" in process.stdout.readline()
    assert "1/4 finished" in process.stdout.readline()
    made.remove_node(nodes[0], allow_graceful=False)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), out
    assert "4/4 finished" in out
    assert figures(tmp_path) == expected
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"]).returncode,
    reason="needs the right to make mount namespaces",
)
def test_nodes_that_share_no_folder(trials, expected, tmp_path, monkeypatch):
    """Each node has an empty folder where this machine has --logs and Keras' cache."""
    # A token that Ray has left of a local cluster would be asked of the nodes, which do not send it.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    logs, binary = tmp_path / "logs", [sys.executable, "-m", "ray.scripts.scripts"]
    logs.mkdir()
    head = ("start", "--head", "--port=6390", "--num-cpus=0", "--include-dashboard=false")
    subprocess.run([*binary, *head], check=True, capture_output=True)
    given = next(argument for argument in trials if isinstance(argument, Path)).parent
    folders = (logs, given, KERAS_HOME)
    hidden = "".join(f"mount -t tmpfs none {folder}; " for folder in folders)
    node = " ".join([*binary, "start", "--address=127.0.0.1:6390", "--num-cpus=2"])
    try:
        for _ in range(3):
            subprocess.run(["unshare", "-m", "sh", "-c", hidden + node], check=True)
        result = finish(start("sweep.py", *trials, "--logs", logs, "--address", "127.0.0.1:6390"))
    finally:
        subprocess.run([*binary, "stop", "--force"], capture_output=True)
    assert (result.status, result.err) == (0, ""), result.out
    assert figures(logs) == expected
    for path in logs.glob("*/*/config.json"):
        assert json.loads(path.read_text())["logs"] == str(logs)


def test_what_was_interrupted_sooner_replaces_no_run_that_was_further_on(tmp_path):
    config = settings.Config("full", logs=str(tmp_path / "logs"), name="tiny")
    trial = grid.Trial("all", config, "all")
    contents = {}
    for epochs in (2, 4):
        folder = tmp_path / str(epochs)
        folder.mkdir()
        facts = {"settings": {"epochs": epochs}}
        checkpoints.save(folder, epochs, [], facts, {})
        paths = {path.name: path for path in folder.iterdir()}
        contents[epochs] = {"run": transfer_cluster._packed(paths), "output": b"lines"}
    for epochs, kept in ((2, 2), (4, 4), (2, 4)):
        transfer_cluster._receive(trial, contents[epochs])
        assert checkpoints.last(trial.folder)[1] == kept
    stopped = tmp_path / "stopped.json"
    stopped.write_text("{}")
    paths = {path.name: path for path in (stopped, *Path(tmp_path, "2").iterdir())}
    transfer_cluster._receive(trial, {"run": transfer_cluster._packed(paths), "output": b"lines"})
    assert trial.stopped.exists() and checkpoints.last(trial.folder)[1] == 4
    transfer_cluster._receive(trial, contents[4])  # begun anew, it has not finished either
    assert trial.stopped.exists()


def test_a_machine_that_joins_late_asks_for_the_images(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    config = settings.Config("full", data="images/", logs=str(tmp_path), name="tiny")
    trial = grid.Trial("all", config, "all")
    outcome, content = transfer_cluster._train(trial, tmp_path / "unseen", versions(), {}, None)
    assert (outcome.status, content) == ("died", None) and "had not been sent" in outcome.reason


def test_a_machine_that_knows_no_name_of_its_user(tmp_path, monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    trial = grid.Trial("all", settings.Config("full", data="images/", logs=str(tmp_path)), "all")
    outcome, _ = transfer_cluster._train(trial, tmp_path / "unseen", versions(), {}, None)
    assert outcome.status == "died"


def test_a_run_that_another_sweep_trains_on_a_machine_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "machine"))
    train, seen = pool.train, []

    def taken(trial, **arguments):
        trial.folder.mkdir(parents=True)
        trial.output.parent.mkdir(parents=True)
        trial.output.write_text("epoch 1")
        seen.append(trial)
        with files.held(trial.output):
            return train(trial, **arguments)

    monkeypatch.setattr(pool, "train", taken)
    config = settings.Config("full", data="shapes", weights="none", logs=str(tmp_path), name="tiny")
    trial = grid.Trial("all", config, "all")
    outcome, content = transfer_cluster._train(trial, tmp_path / "unseen", versions(), {}, None)
    assert (outcome.status, content) == ("taken", None)
    assert seen[0].folder.exists() and seen[0].output.read_text() == "epoch 1"
    assert seen[0].folder.is_relative_to(tmp_path / "machine")


@pytest.mark.parametrize("resumed", [True, False])
def test_a_trial_is_judged_where_it_passes_a_milestone(tmp_path, monkeypatch, resumed):
    """One that goes on near its end is not compared with what others have reached at half."""
    from transfer.halving import Halving

    judge = Halving()
    monkeypatch.setattr(ray, "get", lambda said: said)
    remote = SimpleNamespace(hopeless=SimpleNamespace(remote=judge.hopeless))

    def asking(name):
        trial = grid.Trial("all", settings.Config("full", logs=str(tmp_path), name=name), "all")
        trial.folder.mkdir(parents=True)
        return trial, transfer_cluster._asking

    trial, ask = asking("further on")
    if resumed:
        checkpoints.save(trial.folder, 18, [], {"settings": {}}, {"total": 20})
    assert not ask(remote, trial)(95, 0.9)
    trial, ask = asking("fresh")
    hopeless = ask(remote, trial)
    assert not hopeless(25, 0.2) and not hopeless(45, 0.2)
    assert hopeless(55, 0.5) is not resumed


def test_hopeless_trials_are_stopped_early(tmp_path):
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    trials = (*TINY[:-1], "8", "--depth", "head", "--seed", "3", "--learning-rate", "1e-9", "1e-2")
    trials += ("--logs", tmp_path, "--address", made.address, "--stop-worst")
    try:
        first, again = (finish(start("sweep.py", *trials)) for _ in range(2))
    finally:
        made.shutdown()
    for result in (first, again):
        assert (result.status, result.err) == (0, ""), result.out
        assert "1 of 2 runs were stopped early" in result.out
    assert "after epoch 2 of 8" in first.out
    assert "none to train" in again.out
    with (tmp_path / "sweep.csv").open() as file:
        assert [line["status"] for line in csv.DictReader(file)] == ["stopped", "finished"]


def test_what_no_machine_offers_is_said(command, one_line, tmp_path):
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "memory": 10**9})
    try:
        result = command("sweep.py", *GRID, "--logs", tmp_path, "--address", made.address)
    finally:
        made.shutdown()
    one_line(result, "no machine", "2 GiB of memory")


def test_an_address_with_no_cluster_behind_it(command, one_line, tmp_path):
    result = command("sweep.py", *GRID, "--logs", tmp_path, "--address", "127.0.0.1:1")
    one_line(result, "127.0.0.1:1", "no Ray cluster")


def test_what_a_machine_has_lost_of_the_images_is_unpacked_again(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"pixels")
    content = transfer_cluster._packed({"images/1.png": tmp_path / "images" / "1.png"})
    sent = "images", hashlib.sha256(content).hexdigest(), len(b"pixels"), ["reference"]
    monkeypatch.setattr(ray, "get", lambda _: content)
    for lost in (False, True):
        path = transfer_cluster._unpacked(sent, tmp_path / "home")
        assert (path / "1.png").read_bytes() == b"pixels"
        if not lost:
            (path / "1.png").unlink()


def test_a_run_that_cant_be_stored_fails_alone(tmp_path, monkeypatch):
    config = settings.Config("full", logs=str(tmp_path / "missing" / "logs"), name="tiny")
    trial = grid.Trial("all", config, "all")
    (tmp_path / "missing").touch()
    monkeypatch.setattr(ray, "get", lambda _: (Outcome("finished"), {"run": b"", "output": b""}))
    machines = SimpleNamespace(ray=ray)
    outcome = transfer_cluster.Cluster._outcome(machines, "reference", trial)
    assert outcome.status == "failed" and "missing" in outcome.reason


@pytest.mark.parametrize("part", ["what is sent", "what comes back"])
def test_what_cant_be_read_fails_a_trial_alone(part, tmp_path, monkeypatch):
    def changed(_):
        raise ValueError("images/ has no images")

    trial = grid.Trial("all", settings.Config("full", logs=str(tmp_path), name="tiny"), "all")
    (tmp_path / "config.json").write_text("{")
    run = transfer_cluster._packed({"config.json": tmp_path / "config.json"})
    ended = (Outcome("died"), None), (Outcome("finished"), {"run": run, "output": b""})
    monkeypatch.setattr(ray, "get", lambda _: ended[part == "what comes back"])
    machines = SimpleNamespace(ray=ray, sent={}, trials=[trial], _send=changed)
    outcome = transfer_cluster.Cluster._outcome(machines, "reference", trial)
    assert outcome.status == "failed"
    assert ("is damaged" if part == "what comes back" else "no images") in outcome.reason


def test_a_name_that_is_not_unicode_is_sent(tmp_path, monkeypatch):
    name = os.fsdecode(b"\xff \xc3\xa9.png")
    (tmp_path / name).write_bytes(b"pixels")
    content = transfer_cluster._packed({f"images/{name}": tmp_path / name})
    sent = "images", hashlib.sha256(content).hexdigest(), len(b"pixels"), ["reference"]
    monkeypatch.setattr(ray, "get", lambda _: content)
    path = transfer_cluster._unpacked(sent, tmp_path / "home")
    assert (path / name).read_bytes() == b"pixels"


def test_an_interruption_while_a_run_is_received_loses_none(tmp_path, monkeypatch):
    trial = grid.Trial("all", settings.Config("full", logs=str(tmp_path), name="tiny"), "all")
    trial.folder.mkdir(parents=True)
    (trial.folder / "mine").touch()
    new, replace = tmp_path / "new", os.replace
    new.touch()

    def interrupted(source, target):
        replace(source, target)
        if source == trial.folder:
            raise KeyboardInterrupt

    content = {"run": transfer_cluster._packed({"new": new}), "output": b""}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", interrupted)
        transfer_cluster._receive(trial, content)
    assert [path.name for path in trial.folder.iterdir()] == ["mine"]
    transfer_cluster._receive(trial, content)
    assert [path.name for path in trial.folder.iterdir()] == ["new"]
    assert [path.name for path in trial.folder.parent.iterdir()] == ["tiny"]


def test_the_mark_of_a_driver_that_was_killed_is_removed(tmp_path, monkeypatch):
    resources = {"CPU": 2, "memory": transfer_cluster.MEMORY}
    node = {"Alive": True, "Resources": resources, "NodeID": "1", "NodeManagerAddress": "here"}
    machines = SimpleNamespace(
        nodes=lambda: [node],
        get=lambda answer: answer,
        shutdown=lambda: None,
        exceptions=ray.exceptions,
    )
    monkeypatch.setattr(transfer_cluster, "_connect", lambda _: machines)
    monkeypatch.setattr(transfer_cluster.Cluster, "_ask", lambda *_: (True, versions()))
    trial = grid.Trial("all", settings.Config("full", logs=str(tmp_path), name="tiny"), "all")
    killed = transfer_cluster.Cluster("auto", [trial])
    killed.held.close()
    made = [transfer_cluster.Cluster("auto", [trial]) for _ in range(2)]
    assert sorted(tmp_path.iterdir()) == sorted(each.mark for each in made)
    for each in made:
        each.close()
    assert not list(tmp_path.iterdir())
