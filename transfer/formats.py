"""The formats that a model is exported to: how each is written, and read by its own runtime."""

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transfer import files, page, precision, terminal
from transfer.results import LARGEST_TRAINED_SIDE

# What is beside the file: a class a line, and what to do to images.
LABELS, PREPROCESSING = "labels.txt", "preprocessor_config.json"
HASHES = "sha256"  # of the model.keras that was exported, and of what was made of it, by file
FULL = 2**20  # bytes left on a disk that has no room for a model
INSTALL = "pip install -r requirements-export.txt"


class Format(NamedTuple):
    """A format: its runtime, its file or folder, and what it is written with and read with."""

    runtime: str
    file: str
    keras: str  # Model.export's name for it
    packages: tuple[str, ...] = ()  # that run it
    writers: tuple[str, ...] = ()  # that write it
    fixed: bool = False  # whether it takes images of one size only
    int8: bool = False
    also: tuple[str, ...] = ()  # files that belong to the first
    page: bool = False  # whether a page runs it, which needs class maps beside the probabilities

    def paths(self, folder: Path) -> list[Path]:
        """Returns the paths of the model's files."""
        return [folder / name for name in (self.file, *self.also)]

    def written(self, folder: Path) -> list[Path]:
        """Returns the paths of all that is written, the page included."""
        names = (*page.FILES, page.MODULES) if self.page else ()
        return [*self.paths(folder), *(folder / name for name in names)]


_LITERT = Format("litert", "model.tflite", "litert", ("ai_edge_litert",), fixed=True)
FORMATS = {
    "litert": _LITERT,
    "litert int8": _LITERT._replace(file="model-int8.tflite", int8=True),
    "onnx": Format("onnx", "model.onnx", "onnx", ("onnxruntime",), ("tf2onnx",)),
    "openvino": Format("openvino", "model.xml", "openvino", ("openvino",), also=("model.bin",)),
    "saved_model": Format("saved_model", "saved_model", "tf_saved_model"),
    "web": Format(
        "onnx", "model-web.onnx", "onnx", ("onnxruntime",), ("tf2onnx",), fixed=True, page=True
    ),
}
BY_SUFFIX = {Path(each.file).suffix: each.runtime for each in FORMATS.values() if "." in each.file}
# All that export.py may write into a folder.
WRITTEN = {
    *(path.name for each in FORMATS.values() for path in each.written(Path())),
    LABELS,
    PREPROCESSING,
    "README.md",
}


def runtime_of(path: Path) -> str | None:
    """Names the runtime of an exported model by what its file is called; None of any other file."""
    if path.is_dir():
        return "saved_model" if (path / "saved_model.pb").exists() else None
    return BY_SUFFIX.get(path.suffix.lower())


def missing(name: str) -> list[str]:
    """Names the packages that a format is written and run with, and that are not installed."""
    known = FORMATS[name]
    return _absent(known.packages + known.writers)


def check(name: str) -> None:
    """Refuses a format whose packages are not installed.

    Raises:
        OSError: One is missing.
    """
    _refuse(name, missing(name))


def _absent(packages):
    return [each for each in packages if not importlib.util.find_spec(each)]


def _refuse(name, lacking):
    if lacking:
        raise OSError(f"{name} needs {' and '.join(lacking)}: {INSTALL}")


def write(model: Any, name: str, folder: Path, images: np.ndarray) -> None:
    """Writes a model in a format.

    Args:
        model: `keras.Model` of `deployment.network`, of float32 images for int8.
        name: Of the format.
        folder: Where to write it.
        images: uint8 (n, side, side, 3), by which int8's ranges of all activations are set.

    Raises:
        ValueError: The format lacks what the model is made of.
        OSError: It can't be written.
    """
    known = FORMATS[name]
    path = folder / known.file
    with _converting(name, path):
        settings = _int8_settings(images) if known.int8 else {}
        model.export(str(path), format=known.keras, verbose=False, **settings)
        if known.int8:
            from tensorflow.lite.tools import flatbuffer_utils

            written = flatbuffer_utils.read_model(str(path))
            flatbuffer_utils.strip_strings(written)  # the names of hundreds of tensors
            flatbuffer_utils.write_model(written, str(path))
    if known.page:
        page.write(folder)


def _int8_settings(images):
    """Returns the converter's settings for full-integer quantization; images go in as uint8."""
    import tensorflow as tf

    def representative():
        for image in images:
            pixels = image[np.newaxis].astype(np.float32)
            # So that its input takes uint8 as it is, however dark the images are.
            pixels[:, 0, :2] = [[0], [255]]
            yield [pixels]

    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": representative,
        "inference_input_type": tf.uint8,
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    }


@contextlib.contextmanager
def _converting(name: str, path: Path) -> Iterator[None]:
    """Silences the converters, which print hundreds of lines, and explains what they can't do."""
    try:
        with _silenced():
            yield
    except OSError:
        raise
    except Exception as error:  # of many kinds
        # Some say it in words of their own, some not at all.
        if "No space left" in str(error) or shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise ValueError(f"the model can't be converted to {name}: {_reason(error)}") from error


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    with tempfile.TemporaryFile() as file, terminal.printed_to(file):
        yield


def _reason(error: Exception) -> str:
    """Returns the first line of an error, but for OpenVINO's lines on where in its source it was raised."""
    return terminal.first_line(re.sub("^(Exception from .*\n)+", "", str(error)) or error)


class Runtime:
    """A model that was exported, in its format's own runtime.

    Args:
        path: Of the file, or the folder of a SavedModel.
        threads: How many to use, but for a SavedModel, which uses those of TensorFlow; 0 for as many
            as the machine has.

    `path` is that of the model, `side` that of the images it takes, in pixels, or None if it takes any;
    `classes` is the number of classes.

    Raises:
        OSError, ValueError: The runtime is not installed, or the file is no such model.
    """

    def __init__(self, path: Path, threads: int = 0):
        name = runtime_of(path)
        if name is None or not path.exists():
            raise FileNotFoundError(f"{path} does not exist, or was not written by export.py")
        _refuse(name, _absent(FORMATS[name].packages))
        self.path = path
        try:
            with _silenced():
                kind, shape, self.classes, self._run = getattr(self, f"_{name}")(str(path), threads)
        except Exception as error:
            raise ValueError(f"{path} can't be loaded ({name}): {_reason(error)}") from error
        if kind != "uint8" or len(shape) != 4 or shape[3] != 3:
            raise ValueError(
                f"{path} takes {kind} {list(shape)}: expected a model that export.py wrote, which "
                "takes images uint8 (n, height, width, 3)"
            )
        # LiteRT's input is resized to any number.
        if isinstance(shape[0], int) and shape[0] > 0 and name != "litert":
            raise ValueError(f"{path} takes {shape[0]} images at once: expected any number of them")
        self.side = shape[1] if isinstance(shape[1], int) and shape[1] > 0 else None

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities float32 (n, classes) of images uint8 (n, height, width, 3).

        Raises:
            ValueError: The model can't be run on them.
        """
        try:
            return self._run(np.ascontiguousarray(images))
        except Exception as error:  # of the runtimes, of many kinds
            if terminal.interruption.is_set():  # of which TensorFlow makes an error
                raise
            raise ValueError(f"{self.path} can't be run: {_reason(error)}") from error

    # Each of these gives the dtype and the shape of the input, the number of classes, and the function
    # from images to probabilities.

    def _litert(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=threads or precision.CORES)
        interpreter.allocate_tensors()  # which fails where it can't run the model
        (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
        last = None

        def run(images):
            nonlocal last
            if last != images.shape:
                with _silenced():
                    interpreter.resize_tensor_input(given["index"], images.shape)
                    interpreter.allocate_tensors()
                last = images.shape
            interpreter.set_tensor(given["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(found["index"])

        shape = [int(size) for size in given["shape"]]
        return np.dtype(given["dtype"]).name, shape, int(found["shape"][-1]), run

    def _onnx(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # its errors are raised, too
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (given,), (found, *_) = session.get_inputs(), session.get_outputs()
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        return (
            kind,
            given.shape,
            found.shape[-1],
            lambda images: session.run([found.name], {given.name: images})[0],
        )

    def _openvino(self, path, threads):
        import openvino

        if not Path(path).with_suffix(".bin").exists():
            raise ValueError("the .bin file that belongs to it is missing")
        # Where the CPU has bfloat16, OpenVINO would use it without being asked.
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        given, found = compiled.inputs[0], compiled.outputs[0]  # the others are steps of resizing
        kind = given.element_type.to_dtype().name
        shape = [size.get_length() if size.is_static else None for size in given.partial_shape]
        classes = found.partial_shape[-1].get_length()
        return kind, shape, classes, lambda images: np.array(compiled([images])[found])

    def _saved_model(self, path, threads):
        import tensorflow as tf

        with tempfile.TemporaryDirectory() as folder:  # as TensorFlow takes [ and * for a pattern
            link = Path(folder, "saved_model")
            link.symlink_to(os.path.realpath(path))
            loaded = tf.saved_model.load(link)
        serve = loaded.signatures["serving_default"]
        (given,) = serve.structured_input_signature[1].values()
        ((name, found),) = serve.structured_outputs.items()

        # Its variables live only as long as what was loaded.
        def run(images, _=loaded):
            return serve(tf.constant(images))[name].numpy()

        return given.dtype.name, given.shape.as_list(), found.shape[-1], run


def beside(path: Path) -> tuple[list[str], int | None]:
    """Reads what is beside an exported model, as far as it is there.

    Returns:
        The names of the classes, and the side of the images it was trained on, in pixels.

    Raises:
        OSError, ValueError: A file is damaged, or belongs to another model.
    """
    folder = Path(os.path.abspath(path)).parent
    named, prepared = folder / LABELS, folder / PREPROCESSING
    names, side, hashes = [], None, {}
    try:
        if named.exists():
            names = [*map(terminal.printable, named.read_text(encoding="utf-8").splitlines())]
        if prepared.exists():
            known = files.read_json(prepared)
            side = known["size"]["height"]
            if type(side) is not int or not 1 <= side <= LARGEST_TRAINED_SIDE:
                raise ValueError(
                    f"expected a size of 1 to {LARGEST_TRAINED_SIDE}. Received: {side}"
                )
            hashes = dict(known.get(HASHES, {}))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"what is beside {path} is damaged: {terminal.first_line(error)} ({LABELS} or "
            f"{PREPROCESSING}): export the model again"
        ) from error
    kind = runtime_of(path)
    also = FORMATS[kind].also if kind else ()
    checked = [path, *(path.with_suffix(Path(name).suffix) for name in also)]
    if path.is_dir():  # older exports have no hashes of a SavedModel
        nested = any("/" in name for name in hashes)
        checked = [path / "saved_model.pb", path / "variables"] if nested else []
    for file in files.files_of(checked) if hashes else ():
        if files.digest(file) not in hashes.values():  # it may have another name
            raise ValueError(
                f"{file} is not the model that {PREPROCESSING} beside it describes: export it again"
            )
    if names and files.digest(named) != hashes.get(LABELS, files.digest(named)):
        terminal.complain(
            f"{named} was changed after the export: make sure that its classes are still in their order"
        )
    return names, side
