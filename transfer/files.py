"""Files: written whole or not at all, locked, hashed, listed and read; where Keras keeps its own."""

import contextlib
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def keras_home() -> Path:
    """Finds the folder in which Keras keeps what it downloads.

    squeezenet.py, which stands alone and imports Keras, has the same function.
    """
    return Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras"))


@contextlib.contextmanager
def written_whole(path: Path, synced: bool = True) -> Iterator[Path]:
    """Yields a path to write to that becomes `path` if all goes well, and disappears otherwise.

    What killed processes left of that file is removed.

    Args:
        path: Path of the file.
        synced: Whether to wait until it is on the disk, so that a power cut can't leave it empty:
            unless it is large and its sha256 is checked when it is read.

    Raises:
        OSError: It names `path`.
    """
    target = Path(os.path.realpath(path))  # what a link leads to
    part = part_of(target)
    try:
        clear_parts(target.parent, target.name)
        part.touch()
        with held(part):
            yield part
            if synced:
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
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
    """Yields a new folder that takes the place of `folder`, if all goes well, and disappears otherwise.

    So do the folders around it, if they were not there.

    Args:
        folder: Its path.
        check: Called with the path before that, as something may be there by then; it raises what
            forbids it to be replaced.

    Raises:
        OSError: It names `folder`.
    """
    target = Path(os.path.realpath(folder))  # what a link leads to
    part = part_of(target)
    old = target.with_name(f".{os.getpid()}.old.{target.name}")
    around = [parent for parent in target.parents if not parent.exists()]
    try:
        _restore(target)
        clear_parts(target.parent, target.name)
        part.mkdir(parents=True)
        with held(part):
            yield part
            check(target)
            if target.exists():
                os.replace(target, old)
            os.replace(part, target)
    except OSError as error:
        if error.errno and str(error.filename or part).startswith(str(part)):
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        remove_empty(around)


def _restore(target):
    """Puts back a folder that a process had moved out of the way when it was killed."""
    for old in target.parent.glob(f".[0-9]*.old.{glob.escape(target.name)}"):
        if target.exists():  # the new one was already in its place
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, target)


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes folders, the inner ones first, up to one that is not empty or not there."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def part_of(target: Path) -> Path:
    """Names what a file or folder is called until it is whole, which `clear_parts` knows."""
    # Machines that share the folder may have processes of the same number.
    return target.with_name(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.part.{target.name}")


@contextlib.contextmanager
def held(path: Path, waiting: str = "") -> Iterator[bool | None]:
    """Locks a file or folder, if no other process does.

    Yields whether this process got the lock; None where there are no locks, as on some network file
    systems.

    Args:
        path: Path of the file or folder, which exists.
        waiting: If given, a line to print before it waits for another process to let go.
    """
    with contextlib.ExitStack() as stack:
        try:
            import fcntl  # not on Windows

            # A network file system may want a descriptor that can be written to.
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                alone = bool(waiting)
                if waiting:
                    print(waiting, flush=True)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
        except (ImportError, OSError):
            alone = None
        yield alone


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Returns files that exist; of a folder, such as a SavedModel, those in it and below."""
    return [
        file
        for path in paths
        for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
        if file.is_file()
    ]


def clear_parts(folder: Path, name: str = "") -> None:
    """Removes from a folder what processes that were killed had begun to write.

    Args:
        folder: Path of the folder.
        name: Of the file or folder that it would have become; by default any.
    """
    for part in folder.glob(f".[0-9]*.part.{glob.escape(name) or '*'}"):
        with held(part) as alone:
            if alone and part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            elif alone:
                with contextlib.suppress(OSError):  # such as of a folder that can only be read
                    part.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text, whole or not at all; what is not Unicode in a path that it names is escaped."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def digest(path: Path) -> str:
    """Returns the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict:
    """Reads a JSON object; returns an empty one for JSON that is no object.

    Raises:
        OSError: The file is missing, or can't be read.
        ValueError: It is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except IsADirectoryError as error:
        raise ValueError(f"{path} is damaged (it is a folder)") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    return value if isinstance(value, dict) else {}
