"""Files from strangers: whatever is in them, nothing but the documented errors comes out.

Each example of hypothesis is a seed that changes a good file in many ways: together 20,000 files.
"""

import contextlib
import io
import json
import random
import resource
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import compare
import data
import images
import runs

FILES_A_SEED = 50
fuzz = settings(
    max_examples=134,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**32 - 1)


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


@fuzz
@given(seed=seeds)
def test_pictures(seed, pictures, tmp_path):
    for path in changed_files(seed, pictures, tmp_path / "picture"):
        with contextlib.suppress(OSError, images.Refused):
            square = images.read(path, largest=8)
            assert square.dtype == np.uint8 and square.shape[2] == 3
        images.side(path)


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


@fuzz
@given(seed=seeds)
def test_npz(seed, npz, tmp_path):
    for path in changed_files(seed, npz, tmp_path / "images.npz"):
        with contextlib.suppress(OSError, ValueError):
            data.load(str(path))


@fuzz
@given(seed=seeds)
def test_runs(seed, trained, tmp_path):
    draw = random.Random(seed)
    content = (trained.full.folder / "metrics.json").read_bytes()
    metrics = json.loads(content)
    folder = tmp_path / "full" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(FILES_A_SEED):
        if draw.random() < 0.5:
            hostile = changed(content, draw)
        else:
            hostile = json.dumps(with_another_value(metrics, draw)).encode()
        (folder / "metrics.json").write_bytes(hostile)
        finished, others = runs.find(tmp_path)
        assert len(finished) + len(others) == 1
        if finished:
            for _, rows in compare.rank(finished):
                compare.text_table(rows)


def with_another_value(value, draw):
    """Gives a JSON value with one of its parts replaced by something that does not belong there."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        return value | {key: with_another_value(value[key], draw)}
    return draw.choice((None, -1, 0, 10**400, 1e308, "", "\x1b[2J", "../../etc", [], {}, [[]], True))


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
