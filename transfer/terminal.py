"""What the commands share at the terminal: one-line errors (exit status 2), tables, durations."""

import argparse
import contextlib
import csv
import functools
import gc
import io
import os
import re
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterable
from pathlib import Path

DRAWN_BY = "SqueezeNet transfer"  # in the header of each plot
SHOWN = 5  # names in a line
# In bytes: a file system takes 255, of which a part of a file needs some more.
LONGEST_FILE_NAME = 220
INTERRUPTED = 130  # exit status after Ctrl-C, as of a shell's commands


# Set by `interrupt`, until the next command or run begins.
interruption = threading.Event()


def interrupt(*_):
    """Handles a signal as Ctrl-C is handled, and notes it: TensorFlow may make another error of it."""
    interruption.set()
    raise KeyboardInterrupt


class Parser(argparse.ArgumentParser):
    """argparse without abbreviated flags, and without the usage lines before an error.

    To make one also prepares the process: SIGTERM ends it as Ctrl-C does, and it prints any text.
    """

    def __init__(self, **arguments):
        # What ends a batch job, such as its time limit, ends it in order, as Ctrl-C does.
        signal.signal(signal.SIGTERM, interrupt)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored
            signal.signal(signal.SIGINT, interrupt)
        interruption.clear()
        take_any_text()
        super().__init__(allow_abbrev=False, **arguments)
        self.register("type", None, filled)
        self.register("type", Path, lambda text: Path(expanded(text)))

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")

    def check_output(self, option, path):
        """Refuses a path that no file can be written to, before any work is done for it."""
        # Of names that the system refuses, such as too long ones, those of Path raise in Python 3.11.
        if os.path.isdir(path):
            kind = "is a folder"
        elif os.path.exists(path) and not os.path.isfile(path):
            kind = "is a device or a pipe"
        elif not os.path.isdir(path.parent):
            kind = "is in a folder that does not exist"
        elif len(os.fsencode(path.name)) > LONGEST_FILE_NAME:
            kind = f"has a name of more than {LONGEST_FILE_NAME} bytes"
        elif not os.access(path.parent, os.W_OK):
            kind = "is in a folder that can't be written to"
        else:
            return
        self.error(f"argument {option}: {path} {kind}: expected the name of a file")

    def check_plot(self, option, path):
        """Refuses a path that a plot can't be written to, or that holds anything but an older plot."""
        self.check_output(option, path)
        if path.suffix.lower() != ".png":
            self.error(
                f"argument {option}: {path} should be a PNG: expected a name that ends in .png"
            )
        if os.path.exists(path):
            with one_line_errors():
                drawn = is_plot(path)
            if not drawn:
                self.error(
                    f"argument {option}: {path} exists and is not a plot of this project: choose "
                    "another name, or remove it"
                )


def is_plot(path):
    """Says whether a PNG is a plot of this project, by its header."""
    with path.open("rb") as file:
        return DRAWN_BY.encode() in file.read(1024)


def filled(text):
    """Reads an argument that can't be empty, as a shell's variable without a value is."""
    if not text:
        raise argparse.ArgumentTypeError("expected a value. Received: ''")
    return text


def expanded(text):
    """Reads a path: the shell leaves the ~ of --logs=~/runs as it is."""
    return os.path.expanduser(filled(text))  # Path.expanduser() fails at ~nobody


def take_any_text():
    """Makes all text printable: in any encoding, and where standard output or error is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (for the whole program)
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def reason(error):
    """Says in words what went wrong: of the system's errors without their number."""
    if isinstance(error, OSError) and error.strerror:
        return (
            f"{error.filename} can't be used: {error.strerror}"
            if error.filename
            else error.strerror
        )
    return str(error)


def complain(message):
    """Prints one line, or an error's reason, on standard error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    line = re.sub(r"\s*[\r\n]+\s*", " ", reason(message)).strip()
    # Beside another character, as spaces and joiners are only printable in a name that has more.
    line = "".join(printable(f"x{c}")[1:] for c in line)
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)


def stop(message, status=2):
    """Ends the program with one line on standard error."""
    complain(message)
    raise SystemExit(status)


def is_printable(name: str) -> bool:
    """Says whether a name can be read on one line.

    Spaces of any width, joiners and marks of direction are part of names in many scripts; what turns
    the text after it around (U+202A to U+202E, U+2066 to U+2069) is not.
    """
    seen = "".join(c for c in name if unicodedata.category(c) not in ("Zs", "Cf"))
    turned = re.search("[\u202a-\u202e\u2066-\u2069]", name)
    return seen.isprintable() and not turned and bool(seen or not name)


def printable(name: object) -> str:
    """Returns a path or name as one line that any terminal takes, whatever is in it."""
    return str(name) if is_printable(str(name)) else ascii(str(name))[1:-1]


def shown(names: Iterable[object]) -> str:
    """Lists the first of several names, and counts the rest."""
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(printable, names[:SHOWN])) + more


def counted(count: int, noun: str) -> str:
    """Says how many there are of something, which is named in the singular."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def say(label, text, flush=False):
    """Prints a line of a command's output: what it is about, in a column of its own, and the text."""
    print(f"{label:12}{text}", flush=flush)


def markdown_table(head, rows):
    """Lays out a table in Markdown; head and rows are sequences of strings."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def csv_table(head, rows):
    """Lays out a table as .csv; head and rows are sequences of what `str` makes the cells of."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([head, *rows])
    return file.getvalue()


def literal(text):
    """Escapes what would be markup in Markdown; `markdown_table` does that to a |."""
    return re.sub(r"([\\`*_\[\]<>&#~])", r"\\\1", text)


def duration(seconds):
    """Says how long something takes: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def first_line(error):
    """Returns the first line of an error's message, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextlib.contextmanager
def printed_to(file):
    """Redirects all that this process prints into a file, the messages of its libraries too."""
    with contextlib.ExitStack() as stack:  # which undoes all of it, even if the disk is full
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            before = os.dup(stream.fileno())
            stack.callback(os.close, before)
            stack.callback(os.dup2, before, stream.fileno())
            stack.callback(stream.flush)
            os.dup2(file.fileno(), stream.fileno())
        yield


@contextlib.contextmanager
def one_line_errors():
    """For code that reads the user's input: ValueError, OSError and MemoryError end the program by `stop`."""
    try:
        yield
    except BrokenPipeError:  # what reads the output has gone: see `ends_quietly`
        raise
    except MemoryError:
        stop("memory ran out: expected fewer or smaller images")
    except (ValueError, OSError) as error:
        stop(error)


@contextlib.contextmanager
def ends_quietly(interrupted):
    """Around a command: neither Ctrl-C nor `| head`, which stops reading, ends it in a traceback.

    Args:
        interrupted: What to say after Ctrl-C.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        stop(f"interrupted: {interrupted}", status=INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(1) from None
    except Exception as error:
        if interruption.is_set():
            stop(f"interrupted: {interrupted}", status=INTERRUPTED)
        if not isinstance(error, OSError):  # such as of a full disk
            raise
        _discard_output()
        stop(error)


def _discard_output():
    """Keeps Python from complaining, as it exits, about output that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def import_keras():
    """Imports Keras without TensorFlow's start-up notices, which none of its settings turns off.

    It takes seconds, so the commands do it only once they know that they will need it. The garbage
    collector, if left on, would spend a fifth of that time scanning objects that all stay, and half a
    second on them before each further run of a process. What the user's keras.json says of other projects
    does not hold for this one.
    """
    imported = "keras" in sys.modules
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # with which TensorBoard looks for Keras 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow leaves oneDNN's kernels off on processors without instructions for int8 or bfloat16,
    # where a step in float32 takes twice as long without them (docs/speed.md).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    saved = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    gc.disable()
    try:
        import keras
        import tensorflow as tf
        from keras.src.saving import saving_lib

        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        tf.config.list_physical_devices()  # looks for GPUs, and logs an error where there is none
        # Its advice on retracing is for those who wrote the program, not for those who run it.
        tf.get_logger().setLevel("ERROR")
        if not imported:
            # Keras 3.15 caches it under one name and looks for it under another, which costs a third of
            # the time to save a model.
            saving_lib.get_attr_skipset = functools.cache(saving_lib.get_attr_skipset)
            gc.freeze()
    finally:
        gc.enable()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(silence)
    return keras
