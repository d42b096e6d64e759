"""The formats that a model is exported to: how each is written, and read by its own runtime."""

import contextlib
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transfer import files

# What is beside the file: a class a line, and what to do to images.
LABELS, PREPROCESSING = "labels.txt", "preprocessor_config.json"
INSTALL = "pip install -r requirements-export.txt"


class Format(NamedTuple):
    """A format: the name of its file or folder, what it is written with and read with."""

    file: str
    keras: str  # Model.export's name for it
    packages: tuple[str, ...]
    fixed: bool  # whether it takes images of one size only


FORMATS = {
    "litert": Format("model.tflite", "litert", ("ai_edge_litert",), True),
    "onnx": Format("model.onnx", "onnx", ("onnxruntime", "tf2onnx"), False),
    "openvino": Format("model.xml", "openvino", ("openvino",), False),
    "saved_model": Format("saved_model", "tf_saved_model", (), False),
}
BY_SUFFIX = {Path(each.file).suffix: name for name, each in FORMATS.items() if "." in each.file}


def name_of(path: Path) -> str | None:
    """Names the format of an exported model by what its file is called; None of any other file."""
    return "saved_model" if path.is_dir() else BY_SUFFIX.get(path.suffix.lower())


def missing(name: str) -> list[str]:
    """Names the packages of a format that are not installed."""
    return [each for each in FORMATS[name].packages if not importlib.util.find_spec(each)]


def check(name: str) -> None:
    """Refuses a format whose packages are not installed.

    Raises:
        OSError: One is missing.
    """
    if lacking := missing(name):
        raise OSError(f"{name} needs {' and '.join(lacking)}: {INSTALL}")


def write(model: Any, name: str, path: Path) -> None:
    """Writes a model in a format.

    Args:
        model: `keras.Model` of `deployment.network`.
        name: Of the format.
        path: Of the file or folder.

    Raises:
        ValueError: The format lacks what the model is made of.
        OSError: It can't be written.
    """
    with _converting(name):
        model.export(str(path), format=FORMATS[name].keras, verbose=False)


def write_int8(model: Any, images: np.ndarray, path: Path) -> None:
    """Writes a model as LiteRT in full-integer int8; images go in as uint8.

    Args:
        model: As of `write`, but of float32 images of one size.
        images: uint8 (n, side, side, 3), by which the ranges of all activations are set.
        path: Of the file.

    Raises:
        As `write`.
    """
    import tensorflow as tf

    def representative():
        for image in np.float32(images):
            yield [image[np.newaxis]]

    with _converting("int8"):
        model.export(
            str(path),
            format="litert",
            verbose=False,
            optimizations=[tf.lite.Optimize.DEFAULT],
            representative_dataset=representative,
            inference_input_type=tf.uint8,
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        )
        from tensorflow.lite.tools import flatbuffer_utils

        written = flatbuffer_utils.read_model(str(path))
        flatbuffer_utils.strip_strings(written)  # the names of hundreds of tensors
        flatbuffer_utils.write_model(written, str(path))


@contextlib.contextmanager
def _converting(name: str) -> Iterator[None]:
    """Silences the converters, which print hundreds of lines, and explains what they can't do."""
    try:
        with _silenced():
            yield
    except OSError:
        raise
    except Exception as error:  # of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the model can't be converted to {name}: {reason}") from error


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    sys.stdout.flush()
    try:
        with tempfile.TemporaryFile() as log:
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                yield
    finally:
        for descriptor, old in zip((1, 2), saved, strict=True):
            os.dup2(old, descriptor)
            os.close(old)


class Runtime:
    """A model that was exported, in its format's own runtime.

    Args:
        path: Of the file, or the folder of a SavedModel.
        threads: How many it may use; 0 leaves that to the runtime.

    `side` is that of the images it takes, in pixels, or None if it takes any; `classes` is their
    number.

    Raises:
        OSError, ValueError: The runtime is not installed, or the file is no such model.
    """

    def __init__(self, path: Path, threads: int = 0):
        name = name_of(path)
        if name is None or not path.exists():
            raise FileNotFoundError(f"{path} does not exist, or is no model that export.py wrote")
        check(name)
        try:
            with _silenced():
                shape, classes, self._run = getattr(self, f"_{name}")(str(path), threads)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path} can't be loaded as a {name} model: {reason}") from error
        self.side, self.classes = shape, classes

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Gives probabilities float32 (n, classes) of images uint8 (n, height, width, 3)."""
        return self._run(np.ascontiguousarray(images))

    def _litert(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(path, num_threads=threads or os.cpu_count())
        (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
        shape = [None]

        def run(images):
            if shape[0] != images.shape:
                with _silenced():
                    interpreter.resize_tensor_input(given["index"], images.shape)
                    interpreter.allocate_tensors()
                shape[0] = images.shape
            interpreter.set_tensor(given["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(found["index"])

        return int(given["shape"][1]), int(found["shape"][-1]), run

    def _onnx(self, path, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (given,), (found,) = session.get_inputs(), session.get_outputs()
        return None, found.shape[-1], lambda images: session.run(None, {given.name: images})[0]

    def _openvino(self, path, threads):
        import openvino

        # Where the CPU has bfloat16, OpenVINO would use it without being asked.
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        found = compiled.outputs[0]  # OpenVINO makes others of what resizing computes on its way
        classes = found.partial_shape[-1].get_length()
        return None, classes, lambda images: np.array(compiled([images])[found])

    def _saved_model(self, path, threads):
        import tensorflow as tf

        loaded = tf.saved_model.load(path)
        serve = loaded.signatures["serving_default"]
        (found,) = serve.structured_outputs
        classes = serve.structured_outputs[found].shape[-1]
        # The signature keeps the variables of what was loaded alive only through a weak reference.
        return None, classes, lambda images, _=loaded: serve(tf.constant(images))[found].numpy()


def beside(path: Path) -> tuple[list[str], int | None]:
    """Reads what is beside an exported model, as far as it is there.

    Returns:
        The names of the classes, and the side of the images it was trained on, in pixels.

    Raises:
        OSError, ValueError: A file is damaged.
    """
    named, prepared = path.with_name(LABELS), path.with_name(PREPROCESSING)
    names = named.read_text(encoding="utf-8").splitlines() if named.exists() else []
    size = files.read_json(prepared).get("size", {}) if prepared.exists() else {}
    side = size.get("height") if isinstance(size, dict) else None
    return names, side if isinstance(side, int) and side > 0 else None
