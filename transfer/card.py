"""The files beside an exported model: labels.txt, preprocessor_config.json and a model card.

The card begins with the YAML metadata that the Hugging Face Hub reads
(https://huggingface.co/docs/hub/model-cards).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transfer import files, results, runs, terminal
from transfer.formats import FORMATS, HASHES, LABELS, PREPROCESSING
from transfer.results import NAMED_CLASSES
from transfer.settings import NOT_LEARNT
from transfer.terminal import printable

COLUMNS = (
    "format",
    "file",
    "bytes",
    "ms per image",
    "max difference",
    "agreement",
    "validation accuracy",
)
CODE = {
    "litert": """\
from ai_edge_litert.interpreter import Interpreter  # pip install ai-edge-litert

model = Interpreter("{file}")
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], images)
model.invoke()
probabilities = model.get_tensor(model.get_output_details()[0]["index"])""",
    "onnx": """\
import onnxruntime  # pip install onnxruntime

model = onnxruntime.InferenceSession("{file}")
probabilities = model.run(None, {{model.get_inputs()[0].name: images}})[0]""",
    "openvino": """\
import openvino  # pip install openvino

settings = {{"INFERENCE_PRECISION_HINT": "f32"}}  # else bfloat16, where the processor has it
model = openvino.Core().compile_model("{file}", "CPU", settings)
probabilities = model([images])[0]""",
    "saved_model": """\
import tensorflow as tf  # pip install tensorflow

model = tf.saved_model.load("{file}")
probabilities = model.serve(images).numpy()""",
}


class Measured(NamedTuple):
    """How a model does on validation images: its bytes, seconds for one image, and probabilities.

    The probabilities are float32 (n, classes).
    """

    bytes: int
    seconds: float
    probabilities: np.ndarray


class Row(NamedTuple):
    """A model of the table, compared with the Keras model that it was made of.

    `labels` are those of the images, int (n,).
    """

    name: str
    file: str
    measured: Measured
    reference: Measured
    labels: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.measured.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())

    @property
    def difference(self) -> float:
        """Largest difference in any probability from the Keras model's."""
        difference = np.abs(self.measured.probabilities - self.reference.probabilities)
        return float(difference.max())

    @property
    def agreement(self) -> float:
        """Fraction of images to which it gives the same class as the Keras model."""
        return float((self.predicted == self.reference.probabilities.argmax(axis=1)).mean())

    def cells(self) -> list[str]:
        low, high = results.wilson(self.accuracy, len(self.labels))
        return [
            self.name,
            self.file,
            f"{self.measured.bytes:,}",
            milliseconds(1000 * self.measured.seconds),
            f"{self.difference:.1g}",
            f"{self.agreement:.2%}",
            f"{self.accuracy:.4f} [{low:.3f}, {high:.3f}]",
        ]


def milliseconds(figure: float) -> str:
    """Shows milliseconds to a tenth; of less than one, which small models take, two digits."""
    return f"{figure:.1f}" if figure >= 1 else f"{figure:#.2g}"


def table(rows: list[Row]) -> str:
    return terminal.markdown_table(COLUMNS, [row.cells() for row in rows])


def write(folder: Path, run: runs.Run, dataset: Any, rows: list[Row]) -> None:
    """Writes what is beside exported models.

    Args:
        folder: The folder in which they are.
        run, dataset: What they were made of, and its `data.Dataset`.
        rows: The table's, the Keras model's first.
    """
    names = [printable(name) for name in dataset.class_names]
    (folder / LABELS).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    size = {"height": dataset.side, "width": dataset.side}
    hashes = {run.model.name: files.digest(run.model)}
    made = [path for row in rows[1:] for path in FORMATS[row.name].paths(folder)]
    hashes |= {
        file.relative_to(folder).as_posix(): files.digest(file)
        for file in files.files_of([folder / LABELS, *made])
    }
    files.write_json(
        folder / PREPROCESSING,
        {"do_center_crop": True, "do_resize": True, "size": size, "do_rescale": False,
         "do_normalize": False, "resample": 2, HASHES: hashes},
    )  # fmt: skip
    (folder / "README.md").write_text(card(run, dataset, rows), encoding="utf-8")


def card(run: runs.Run, dataset: Any, rows: list[Row]) -> str:
    """Returns the model card, in Markdown with a YAML head."""
    metrics, config = run.metrics, run.config
    about, images = metrics["data"], metrics["validation_images"]
    low, high = results.wilson(metrics["validation_accuracy"], images)
    name = f"squeezenet-{metrics['regime']}"
    side = dataset.side
    tuned = "trained" if config["weights"] == "none" else "fine-tuned"
    text = f"""\
---
{_head(name, metrics)}---

# {name}

SqueezeNet v1.1 with a classifier of {len(dataset.class_names)} classes, {tuned} (regime {metrics["regime"]}: \
{metrics["trainable_params"]:,} of {metrics["total_params"]:,} parameters trained) on {terminal.literal(about["description"])}: \
{len(dataset.train.labels):,} training images.

{table(rows)}

Measured on {_measured_on(rows[0], images)}, the Keras model in float32; latency is the median of single-image calls on one \
thread. "max difference" is the largest difference in any probability from the Keras model's; "agreement" is the fraction of \
images to which a model gives the same class as the Keras model does; in brackets, the 95 % Wilson interval. After \
training in {metrics["precision"]}, on all {images:,} validation images, the Keras \
model's accuracy was {metrics["validation_accuracy"]:.4f} [{low:.3f}, {high:.3f}] and its loss \
{metrics["validation_loss"]:.4f}.

## How to run it

The model takes RGB pixels, uint8 0 to 255 (n, height, width, 3): preprocessing is built in. Crop images to their \
largest central square and resize them to {side}x{side} pixels, which is the size that it was trained on.

```python
import numpy as np
from PIL import Image, ImageOps

photo = ImageOps.exif_transpose(Image.open("photo.jpg"))  # of 8 bits per channel
if photo.has_transparency_data:
    photo = photo.convert("RGBA")
    photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
photo, side = photo.convert("RGB"), min(photo.size)
left, top = (photo.width - side) // 2, (photo.height - side) // 2
box = (left, top, left + side, top + side)
if side > {side}:
    image = photo.resize(({side}, {side}), Image.Resampling.BILINEAR, box, reducing_gap=3.0)
else:
    image = photo.crop(box).resize(({side}, {side}))
images = np.asarray(image, np.uint8)[np.newaxis]
{_code(rows[1])}
print(open("{LABELS}", encoding="utf-8").read().splitlines()[probabilities[0].argmax()])
```
{_other_code(rows)}{_page(rows)}
## Recipe

{_recipe(config)}

## Confusion on the validation images

Rows are true classes, columns are predicted ones (the Keras model, {len(rows[0].labels):,} images).

{_confusion(rows[0], dataset.class_names)}

## Intended use and limits

It distinguishes {len(dataset.class_names)} classes, in images like those it was trained on. It assigns one of them to every \
image, whatever the image shows. It has not been examined for how it treats images of people, and must not be used to make decisions about them.

## Licences

Network: SqueezeNet v1.1 by its authors, BSD 2-clause. Weights: {_weights(config["weights"])}. Images: \
under the terms of their source, which are not recorded here.
"""
    return text


def _measured_on(row, images):
    count = f"{len(row.labels):,}"
    if len(row.labels) == images:
        return f"the {count} validation images"
    return f"{count} of the {images:,} validation images, drawn by the run's seed"


def _head(name, metrics):
    """Returns the YAML metadata. A string of JSON is one of YAML, but for its surrogate pairs."""
    accuracy = metrics["validation_accuracy"]
    return f"""\
license: other
library_name: keras
pipeline_tag: image-classification
tags: [squeezenet, image-classification]
model-index:
- name: {name}
  results:
  - task: {{type: image-classification}}
    dataset: {{type: custom, name: {json.dumps(metrics["data"]["description"], ensure_ascii=False)}, split: validation}}
    metrics:
    - {{type: accuracy, value: {accuracy:.4f}}}
    - {{type: loss, value: {metrics["validation_loss"]:.4f}}}
"""


def _code(row):
    return CODE[FORMATS[row.name].runtime].format(file=row.file)


def _other_code(rows):
    """Returns the code that runs the exported models after the first."""
    if not rows[2:]:
        return ""
    blocks = "\n\n".join(f"```python\n{_code(row)}\n```" for row in rows[2:])
    return f"\nTo run the other files, replace the lines from the import to `probabilities`:\n\n{blocks}\n"


def _page(rows):
    """Says how to open the page, where there is one."""
    if "web" not in {row.name for row in rows}:
        return ""
    return """
In a browser: run `npm ci --ignore-scripts` in this folder if it has no `node_modules` (it adds ONNX Runtime, licence \
MIT), then `python -m http.server`, and open http://localhost:8000. Images stay on the machine.
"""


def _recipe(config):
    others = {"weights", *NOT_LEARNT}  # the card says elsewhere what weights it began with
    shown = [name for name in sorted(config) if name not in others and config[name] != ""]
    settings = [(name, f"`{config[name]}`") for name in shown]
    return terminal.markdown_table(("setting", "value"), settings)


def _confusion(row, class_names):
    if len(class_names) > NAMED_CLASSES:
        return f"There are more than {NAMED_CLASSES} classes: the run's confusion matrix is in TensorBoard."
    names = [terminal.literal(printable(name)) for name in class_names]
    matrix = results.confusion(row.labels, row.predicted, len(names))
    body = [[name, *map(str, counts)] for name, counts in zip(names, matrix, strict=True)]
    return terminal.markdown_table(("", *names), body)


def _weights(source):
    if source == "imagenet":
        return (
            "pretrained on ImageNet, in Keras' format by DeepCognition (MIT), then fine-tuned; "
            "ImageNet's images are for non-commercial research"
        )
    return {
        "drawn": "pretrained on synthetic images by this project (MIT), then fine-tuned",
        "none": "trained from random initialization",
    }.get(source, f"fine-tuned from the file {terminal.literal(printable(Path(source).name))}")
