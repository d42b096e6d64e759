"""Feeds a network: batches in an order, and of views, that follow from the seed and the epoch."""

import math

import keras
import numpy as np
import tensorflow as tf

EVALUATION_BATCH = 200


class Batches:
    """Batches of uint8 images and one-hot labels, each a tuple of the two.

    Each is a function of the seed, the epoch and its number alone, so that equal runs see equal
    batches. The epoch is the last one given to `draw`, as Keras' fit() also takes a batch before
    its first epoch, to learn the shapes.

    Args:
        split: `data.Split` of images uint8 (n, height, width, 3) and labels (n,).
        classes: Number of classes.
        batch_size: Images a batch; the last of an epoch may be smaller.
        seed: Seed of order and views; `None` keeps the order, for evaluation.
        mirror: Whether half of the images, at random, are mirrored left to right.
        shift: Images are moved at random by up to this share of their side, either way, in both
            directions; the edge is repeated.
    """

    def __init__(
        self, split, classes, batch_size=EVALUATION_BATCH, seed=None, mirror=False, shift=0.0
    ):
        self.images = split.images
        self.targets = keras.utils.to_categorical(split.labels, classes)
        self.batch_size = batch_size
        self.seed = seed
        self.mirror = mirror
        self.shift = shift
        self.draw(epoch=0)

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"expected a batch from 0 to {len(self) - 1}. Received: {index}")
        batch = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.inputs(batch), self.targets[self.order[batch]]

    def dataset(self):
        """Makes the `tf.data.Dataset` of an epoch, which has the next batch ready.

        Not a keras.utils.PyDataset, of which Keras makes a Dataset.from_generator: from
        TensorFlow 2.21 on that has malloc return all memory at once, which slows every step. And
        no autotuning: an epoch's end would wait for its next look, up to as long as the epoch.
        """
        example = self[0]
        leaves = keras.tree.flatten(example)

        def load(index):
            arrays = tf.numpy_function(
                lambda i: keras.tree.flatten(self[i]), [index], [leaf.dtype for leaf in leaves]
            )
            for array, leaf in zip(arrays, leaves, strict=True):
                array.set_shape((None, *leaf.shape[1:]))
            return keras.tree.pack_sequence_as(example, arrays)

        options = tf.data.Options()
        options.autotune.enabled = False
        return tf.data.Dataset.range(len(self)).map(load).prefetch(2).with_options(options)

    def inputs(self, batch):
        """Makes the views of a batch, a slice of the epoch's order."""
        which = self.order[batch]
        if not (self.mirror or self.shift):
            return self.images[which]
        height, width = self.images.shape[1:3]
        rows = np.arange(height) + self.row_shifts[batch, np.newaxis]
        columns = np.arange(width) + self.column_shifts[batch, np.newaxis]
        columns = np.where(self.mirrored[batch, np.newaxis], width - 1 - columns, columns)
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        return self.images[which[:, None, None], rows[:, :, None], columns[:, None, :]]

    def draw(self, epoch):
        """Draws the order and the views of an epoch, counted from 0."""
        self.epoch = epoch
        count, height, width, _ = self.images.shape
        if self.seed is None:
            self.order = np.arange(count)
            return
        random = np.random.default_rng((self.seed, self.epoch))
        self.order = random.permutation(count)
        self.mirrored = random.random(count) < 0.5 * self.mirror
        reach = int(self.shift * height), int(self.shift * width)
        self.row_shifts = random.integers(-reach[0], reach[0], count, endpoint=True)
        self.column_shifts = random.integers(-reach[1], reach[1], count, endpoint=True)


def evaluate(path, split, classes):
    """Evaluates a saved model.

    Args:
        path: The `.keras` file.
        split: `data.Split` to evaluate it on.
        classes: Number of classes.

    Returns:
        Loss and accuracy, float; the accuracy to the seven digits that float32 has.

    Raises:
        ValueError, OSError: The file is damaged, missing, or would run code.
    """
    model = keras.models.load_model(path)
    loss, accuracy = model.evaluate(Batches(split, classes).dataset(), verbose=0)
    return loss, round(accuracy, 7)
