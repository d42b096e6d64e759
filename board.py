"""What a reader sees of a run: TensorBoard's pages, and the picture of its losses."""

from pathlib import Path

import keras
import tensorflow as tf
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import runs


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' callback (scalars, the graph of the layers) and the graph of the training step.

    Keras means to write that graph too, but looks for it where Keras 3 no longer has it.

    Args:
        folder: The run's folder.
        model: The whole model, whose layers are shown even where fit() trains its tail alone.
    """

    def __init__(self, folder, model):
        super().__init__(folder, write_graph=False)
        layers = keras.callbacks.TensorBoard(folder)
        layers.set_model(model)
        layers.on_train_end()

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        tf.summary.trace_on()
        self.tracing = True

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.tracing:
            self.tracing = False
            with tf.summary.create_file_writer(str(Path(self.log_dir, "train"))).as_default():
                tf.summary.trace_export("train_step", step=0)


def draw_losses(history, kept_epoch, path):
    """Draws training and validation loss by epoch: where they part, overfitting begins.

    Args:
        history: Dict with the lists `loss` and `val_loss`, a figure an epoch.
        kept_epoch: The epoch, from 1, whose weights are kept.
        path: Path of the picture.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(history["loss"]) + 1)
    axes.plot(epochs, history["loss"], "o--", color="0.45", label="training")
    axes.plot(epochs, history["val_loss"], "s-", color="black", label="validation")
    axes.axvline(kept_epoch, color="0.7", linestyle=":", label=f"kept: epoch {kept_epoch}")
    axes.set(xlabel="epoch", ylabel="categorical cross-entropy (nats)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    with runs.written_whole(path) as part:
        figure.savefig(part, format="png", dpi=120)
