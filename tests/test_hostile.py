"""Files from strangers: whatever is in them, nothing but the documented errors comes out.

Each example of hypothesis is a seed that changes a good file in many ways: together 20,000 files.
fuzz.py throws more of them at the same readers, guided by the code that they reach.
"""

import contextlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import compare
import data
from transfer import images, runs

FILES_A_SEED = 50
fuzz = settings(
    max_examples=134,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**32 - 1)


def read_picture(path):
    with contextlib.suppress(OSError, images.Refused):
        square = images.read(path, largest=8)
        assert square.dtype == np.uint8 and square.shape[2] == 3
    images.side(path)


def read_npz(path):
    with contextlib.suppress(OSError, ValueError):
        data.load(str(path))


def read_run(path):
    finished, others = runs.find(path.parent.parent.parent)
    assert len(finished) + len(others) == 1
    for _, rows in compare.rank(finished):
        compare.text_table(rows)


# For each kind of file its reader, and the path that it has.
READERS = {
    "pictures": (read_picture, "picture"),
    "npz": (read_npz, "images.npz"),
    "run": (read_run, "full/run/metrics.json"),
}


def changed(content, draw):
    """Flips, cuts, doubles or fills some of a file's bytes."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(content))
        length = min(draw.choice((1, 1, 1, 4, 64)), len(content) - place)
        kind = draw.randrange(5)
        if kind == 0:
            content[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            content[place : place + length] = draw.randbytes(length)
        elif kind == 2:
            content[place : place + length] = b"\xff" * length
        elif kind == 3 and len(content) > 16:
            del content[place : place + length]
        else:
            content[place:place] = content[place : place + length]
    return bytes(content)


def changed_files(seed, contents, path):
    """Puts so many changed files at a path, one after the other."""
    draw = random.Random(seed)
    for _ in range(FILES_A_SEED):
        path.write_bytes(changed(draw.choice(contents), draw))
        yield path


@pytest.fixture(scope="module")
def pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype("uint8")
    made = []
    for kind, mode in (
        ("png", "RGB"), ("png", "P"), ("png", "LA"), ("jpeg", "RGB"), ("jpeg", "CMYK"),
        ("gif", "P"), ("bmp", "RGB"), ("webp", "RGB"),
    ):  # fmt: skip
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, kind)
        made.append(buffer.getvalue())
    return made


@pytest.fixture(scope="module")
def npz():
    made = []
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3)).astype("uint8")
    labels = np.arange(10) % 2
    arrays = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, class_names=np.array(["a", "b"]), **arrays)
        made.append(buffer.getvalue())
    return made


@pytest.fixture(scope="module")
def run(trained):
    return [(trained.full.folder / "metrics.json").read_bytes()]


@pytest.mark.parametrize("kind", ["pictures", "npz"])
@fuzz
@given(seed=seeds)
def test_images(kind, seed, request, tmp_path):
    read, name = READERS[kind]
    for path in changed_files(seed, request.getfixturevalue(kind), tmp_path / name):
        read(path)


@fuzz
@given(seed=seeds)
def test_runs(seed, run, tmp_path):
    draw = random.Random(seed)
    metrics = json.loads(run[0])
    path = tmp_path / "full" / "run" / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(FILES_A_SEED):
        if draw.random() < 0.5:
            path.write_bytes(changed(run[0], draw))
        else:
            path.write_text(json.dumps(with_another_value(metrics, draw)))
        read_run(path)


def with_another_value(value, draw):
    """Returns a JSON value with one of its parts replaced by something that does not belong there."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        return value | {key: with_another_value(value[key], draw)}
    return draw.choice(
        (None, -1, 0, 10**400, 1e308, "", "\x1b[2J", "../../etc", [], {}, [[]], True)
    )


@pytest.mark.parametrize("kind", READERS)
def test_guided_by_coverage(kind, request, tmp_path):
    pytest.importorskip("atheris")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, content in enumerate(request.getfixturevalue(kind)):
        (corpus / str(number)).write_bytes(content)
    command = [sys.executable, ROOT / "tests" / "fuzz.py", kind, corpus, "-seed=1", "-runs=2000"]
    # By a shell: the memory that libFuzzer bounds begins with the most that the parent ever had.
    fuzzed = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert fuzzed.returncode == 0, fuzzed.stderr[-3000:]
    assert "Done 2000 runs" in fuzzed.stderr


def test_what_would_run_code_is_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    buffer = {name: np.zeros(5) for name in ("y_train", "x_test", "y_test")}
    np.savez(tmp_path / "code.npz", x_train=np.array([Code()], dtype=object), **buffer)
    with pytest.raises(ValueError, match="pickled"):
        data.load(str(tmp_path / "code.npz"))
    np.savez(tmp_path / "validation.npz", probabilities=np.array([Code()], dtype=object))
    with pytest.raises(ValueError):
        runs.read_probabilities(tmp_path / "validation.npz", (5, 2))
    assert not (tmp_path / "owned").exists()


def test_an_npz_that_would_fill_the_memory_is_refused(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x_train.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (2_000_000, 32, 32, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(1200):
            file.write(bytes(1 << 20))
    with pytest.raises(ValueError, match="hundredfold"):
        data.load(str(tmp_path / "bomb.npz"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
