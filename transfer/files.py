"""Files written whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to that becomes `path` if all goes well, and disappears otherwise.

    Raises:
        OSError: It names `path`.
    """
    target = Path(os.path.realpath(path))  # what a link leads to
    part = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        if error.errno and error.filename in (None, part, str(part)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # such as of a disk that can only be read
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_written_whole(folder: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Gives a new folder that takes the place of `folder`, if all goes well, and disappears otherwise.

    Args:
        folder: Its path.
        check: Called with the path before that, as something may be there by then; it raises what
            forbids it to be replaced.

    Raises:
        OSError: It names `folder`.
    """
    target = Path(os.path.realpath(folder))  # what a link leads to
    part = target.with_name(f".{os.getpid()}.{target.name}")
    old = target.with_name(f".{os.getpid()}.old.{target.name}")
    try:
        part.mkdir()
        yield part
        check(target)
        there = target.exists()
        if there:
            os.replace(target, old)
        try:
            os.replace(part, target)
        except BaseException:
            if there:
                os.replace(old, target)
            raise
    except OSError as error:
        if error.errno and str(error.filename or part).startswith(str(part)):
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def clear_parts(folder: Path, name: str = "*") -> None:
    """Removes from a folder what a process that was killed had begun to write, as names like `name`."""
    for part in folder.glob(f".[0-9]*.{name}"):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()


def write_json(path: Path, value: object) -> None:
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """Gives the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict:
    """Reads a JSON object.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error
    return value if isinstance(value, dict) else {}
