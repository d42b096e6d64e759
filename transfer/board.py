"""What TensorBoard shows of a run."""

import math
import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tensorboard.plugins import projector
from tensorboard.plugins.hparams import api as hparams

from transfer import features, plots
from transfer.batches import Batches, views_of
from transfer.terminal import DRAWN_BY, printable

VIEWS = 24  # training images shown, six in a row
# Validation images in the projector, at most, and what they may take of the memory: 2,000 of 288 px.
PROJECTED, PROJECTED_BYTES = 2000, 2**29
THUMBNAIL = 32  # pixels


class Confusion(keras.metrics.Metric):
    """Accuracy that remembers which class was taken for which.

    Args:
        classes: Number of classes.

    `matrix` counts, since the last reset, the images of each (true class, predicted class).
    """

    def __init__(self, classes):
        super().__init__(name="accuracy")
        self.matrix = self.add_weight(shape=(classes, classes), initializer="zeros", name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        predicted = keras.ops.one_hot(keras.ops.argmax(y_pred, axis=-1), y_pred.shape[-1])
        true = keras.ops.cast(y_true, self.dtype)
        self.matrix.assign_add(keras.ops.matmul(keras.ops.transpose(true), predicted))

    def result(self):
        images = keras.ops.maximum(keras.ops.sum(self.matrix), 1)
        return keras.ops.trace(self.matrix) / images


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' callback (scalars and histograms), plus what it lacks.

    That is `layers_graph` of the whole model; the graph of the training step, which Keras
    tries to write but looks for where Keras 3 no longer has it; the confusion matrix after each validation; the
    training views; and, by `show_run`, settings against figures and the validation images' features.

    Args:
        folder: The run's folder.
        model: The whole model, whose layers are shown even where fit() trains its tail alone.
        confusion: The metric `Confusion` that fit() fills.
        class_names: Names of the classes.
        epochs_at_once: How many are one epoch of fit().
        histograms: Whether to show the weights' distribution, each epoch of fit().
    """

    def __init__(self, folder, model, confusion, class_names, epochs_at_once, histograms):
        super().__init__(folder, write_graph=False, histogram_freq=int(histograms))
        self.traced = False
        self.writer = tf.summary.create_file_writer(str(folder))
        with self.writer.as_default():
            tf.summary.graph(layers_graph(model))
        self.confusion = confusion
        self.class_names = class_names
        self.epochs_at_once = epochs_at_once

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        if not self.traced:
            tf.summary.trace_on()

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if not self.traced:
            self.traced = True
            with tf.summary.create_file_writer(str(Path(self.log_dir, "train"))).as_default():
                tf.summary.trace_export("batch_1", step=0)

    def on_epoch_end(self, epoch, logs=None):
        epoch = (epoch + 1) * self.epochs_at_once - 1
        super().on_epoch_end(epoch, logs)
        if "val_loss" not in logs:  # an epoch that is not reported
            return
        figure = plots.confusion(self.confusion.matrix.numpy(), self.class_names)
        with self.writer.as_default():
            tf.summary.image("confusion matrix", plots.to_pixels(figure)[np.newaxis], step=epoch)

    def show_views(self, split, config):
        """Shows training images as the network sees them: cropped, shifted, mirrored and resized."""
        few = split.take(_spread(len(split.labels), VIEWS))
        batches = Batches(few, len(self.class_names), batch_size=VIEWS, **views_of(config))
        images, _ = next(iter(batches.dataset()))
        size = 2 * (config.trained_side,)
        seen = np.asarray(keras.ops.cast(keras.ops.image.resize(images, size), "uint8"))
        white = np.full((-len(seen) % 6, *seen.shape[1:]), 255, np.uint8)
        seen = np.concatenate([seen, white])
        rows = [np.concatenate(seen[start : start + 6], axis=1) for start in range(0, len(seen), 6)]
        with self.writer.as_default():
            tf.summary.image("training views", np.concatenate(rows)[np.newaxis], step=0)

    def show_run(self, model, dataset, metrics):
        """Shows settings against the figures of the run, and what the classifier reads."""
        figures = {
            "validation_accuracy": metrics["validation_accuracy"],
            "validation_loss": metrics["validation_loss"],
        }
        settings = metrics["config"] | {"precision": metrics["precision"]}
        settings = {
            key: printable(value) if isinstance(value, str) else value
            for key, value in settings.items()
            if key not in ("logs", "name", "given")
        }
        # TensorBoard shows the first settings that it finds: those of a run that was extended since.
        suffix = ".settings"
        for path in Path(self.log_dir).glob(f"events.*{suffix}"):
            path.unlink()
        self.writer.close()
        writer = tf.summary.create_file_writer(self.log_dir, filename_suffix=suffix)
        with writer.as_default():
            hparams.hparams_config(
                hparams=[hparams.HParam(key) for key in settings],
                metrics=[
                    hparams.Metric(key, display_name=key.replace("_", " ")) for key in figures
                ],
            )
            hparams.hparams(settings, trial_id="/".join(Path(self.log_dir).parts[-2:]))
            for key, figure in figures.items():
                tf.summary.scalar(key, figure, step=metrics["epochs"])
        writer.close()
        show_features(Path(self.log_dir), model, dataset)


def _spread(count, most):
    """Returns the numbers of at most so many images, evenly spaced: those of a folder are sorted by class."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def layers_graph(model):
    """Makes the graph of a model's layers, in which each fire module and the head is a box.

    In the boxes layers have the paper's names, `fire2/squeeze1x1`. TensorBoard colours by device,
    and here the device of a layer with weights is `trained` or `frozen`.

    Args:
        model: Functional `keras.Model` whose layers have `trainable` set.

    Returns:
        A `GraphDef` with a node for each layer or operation.
    """

    def in_box(operation):
        return re.sub(
            r"^(head_)?(fire\d+_)?", lambda boxes: boxes[0].replace("_", "/"), operation.name
        )

    graph = tf.compat.v1.GraphDef()
    for operation in model.operations:
        node = graph.node.add(name=in_box(operation), op=type(operation).__name__)
        if getattr(operation, "weights", ()):
            node.device = "trained" if operation.trainable else "frozen"
        if not isinstance(operation, keras.layers.InputLayer):
            sources = keras.tree.flatten(operation.input)
            node.input.extend(in_box(tensor._keras_history.operation) for tensor in sources)
    return graph


def show_features(folder, model, dataset):
    """Writes what TensorBoard's projector shows: features of validation images, with thumbnails.

    A feature is what the last layer with weights reads, averaged over places if it is a map.
    """
    images, labels = dataset.validation
    rows = _spread(len(labels), min(PROJECTED, max(1, PROJECTED_BYTES // images[0].nbytes)))
    read = [layer for layer in model.layers if layer.weights][-1].input
    if len(read.shape) == 4:
        read = keras.layers.GlobalAveragePooling2D()(read)
    asked = keras.Model(model.inputs, read)
    values = features.predict(asked, dataset, "validation", rows)

    columns = math.ceil(math.sqrt(len(rows)))
    sprite = np.full((columns * THUMBNAIL, columns * THUMBNAIL, 3), 255, np.uint8)
    for place, number in enumerate(rows):
        top, left = (THUMBNAIL * steps for steps in divmod(place, columns))
        thumbnail = Image.fromarray(images[number]).resize((THUMBNAIL, THUMBNAIL))
        sprite[top : top + THUMBNAIL, left : left + THUMBNAIL] = np.asarray(thumbnail)
    files = folder / "projector"
    files.mkdir(exist_ok=True)
    np.savetxt(files / "features.tsv", values, fmt="%.4g", delimiter="\t")
    names = "".join(f"{dataset.class_names[label]}\n" for label in labels[rows])
    (files / "labels.tsv").write_text(names, encoding="utf-8")
    drawn_here = PngInfo()
    drawn_here.add_text("Software", DRAWN_BY)
    Image.fromarray(sprite).save(files / "thumbnails.png", pnginfo=drawn_here, compress_level=1)

    config = projector.ProjectorConfig()
    embedding = config.embeddings.add()
    embedding.tensor_name = "validation features"
    embedding.tensor_path = "projector/features.tsv"
    embedding.metadata_path = "projector/labels.tsv"
    embedding.sprite.image_path = "projector/thumbnails.png"
    embedding.sprite.single_image_dim.extend((THUMBNAIL, THUMBNAIL))
    projector.visualize_embeddings(str(folder), config)
