"""What TensorBoard shows of a run."""

from pathlib import Path

import keras
import tensorflow as tf


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
