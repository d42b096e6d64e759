"""Feeds a network: batches whose order and views follow from the seed and the epoch."""

import functools
import math

import keras
import numpy as np
import tensorflow as tf

from transfer.recipes import LARGEST_SIZE, all_views, fixed_views

EVALUATION_BATCH = 128  # more at once are no faster


def evaluation_batch(image_size):
    """Returns how many images of so many pixels a side a network evaluates at once.

    In float32, 128 images of 288 px take 2 GB on their way; of larger ones it is fewer.
    """
    as_large = EVALUATION_BATCH * (LARGEST_SIZE / image_size) ** 2
    return 2 ** int(math.log2(max(2, min(EVALUATION_BATCH, as_large))))


class Batches:
    """Batches of uint8 images and one-hot labels, each a tuple of the two.

    They are a function of the seed and the epoch alone, so that equal runs see equal batches. The
    epochs are those last given to `draw`; before that, the first.

    Args:
        split: `data.Split` of images uint8 (n, height, width, 3) and labels (n,).
        classes: Number of classes.
        batch_size: Images a batch; the last of an epoch may be smaller.
        seed: Seed of order and views; `None` keeps the order, for evaluation.
        mirror: Whether half of the images, at random, are mirrored left to right.
        shift: Images are moved at random by up to this fraction of their side, either way, in both
            directions; the edge is repeated.
        zoom: Before that, a random crop of the image takes its place: anywhere in it, smaller by
            up to this fraction of its side.
        views: Number of views of each image, which follow from the seed alone and of which an
            epoch draws one: the image as it is, with `mirror` its mirrored copy, then random
            ones. 0 draws a new view each epoch. Without `shift` and `zoom` there are no random ones,
            whatever `views` is.
    """

    def __init__(
        self,
        split,
        classes,
        batch_size=EVALUATION_BATCH,
        seed=None,
        mirror=False,
        shift=0.0,
        zoom=0.0,
        views=0,
    ):
        self.images = split.images
        self.labels = split.labels
        self.classes = classes
        self.batch_size = batch_size
        self.seed = seed
        self.mirror = mirror
        self.shift = shift
        self.zoom = zoom
        self.views = all_views(views, mirror, shift, zoom)
        # For each place in the drawn epochs: number of the image and of its view, whether it is
        # mirrored, rows and columns moved.
        self.drawn = on_cpu(tf.Variable, np.zeros((0, 5), "int32"), shape=(None, 5))
        # And what is zoomed in on: top, left, bottom, right, in 0..1.
        self.boxes = on_cpu(tf.Variable, np.zeros((0, 4), "float32"), shape=(None, 4))
        self.draw(epoch=0)

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def dataset(self, epochs=1):
        """Makes the `tf.data.Dataset` of so many epochs, one after the other.

        Not a keras.utils.PyDataset, which Keras wraps in a Dataset.from_generator: since
        TensorFlow 2.21 that makes malloc return all memory at once, which slows every step. No
        autotuning either: an epoch's end would wait for the tuner to wake up, for up to half an
        epoch. And no prefetching: gathering a batch takes less time than a second thread
        would take from the network's.
        """
        inputs, labels = self.inputs(), mapped(self.labels)

        def load(index):
            epoch, batch = index // len(self), index % len(self)
            first, end = batch * self.batch_size, (batch + 1) * self.batch_size
            count = len(self.images)
            places = slice(epoch * count + first, epoch * count + tf.minimum(end, count))
            image, view, *moves = tf.unstack(self.drawn[places], axis=1)
            targets = tf.one_hot(tf.gather(labels, image), self.classes)
            return inputs(image, view, *moves, self.boxes[places]), targets

        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.max_intra_op_parallelism = 0  # all cores, not one
        # These would write what is gathered from into the graph: a second copy in memory.
        options.experimental_optimization.apply_default_optimizations = False
        return tf.data.Dataset.range(epochs * len(self)).map(load).with_options(options)

    def inputs(self):
        """Makes the function from what was drawn for a batch to its views.

        It takes int32 (batch,) each, and the boxes, float32 (batch, 4).
        """
        images = mapped(self.images)
        height, width = images.shape[1:3]

        def views(image, _, mirrored, down, right, boxes):
            batch = tf.gather(images, image)
            if self.zoom:
                batch = tf.image.crop_and_resize(
                    tf.cast(batch, "float32"), boxes, tf.range(len(image)), (height, width)
                )
                batch = tf.cast(tf.round(batch), "uint8")
            if not (self.mirror or self.shift):
                return batch
            rows = tf.range(height) + down[:, tf.newaxis]
            columns = tf.range(width) + right[:, tf.newaxis]
            columns = tf.where(mirrored[:, tf.newaxis] == 1, width - 1 - columns, columns)
            rows = tf.clip_by_value(rows, 0, height - 1)
            columns = tf.clip_by_value(columns, 0, width - 1)
            batch = tf.gather(batch, rows, axis=1, batch_dims=1)
            return tf.gather(batch, columns, axis=2, batch_dims=1)

        return views

    def drawn_each_epoch(self, epochs=1):
        """Makes the Keras callback that draws as an epoch of fit(), so many of these, begins."""
        return keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda number, _: self.draw(number * epochs, epochs)
        )

    @property
    def random_views(self):
        """Whether views are kept that follow from the seed, beside the image and its mirrored copy."""
        return self.views > fixed_views(self.mirror)

    def what_views(self):
        """Returns all that the views of an image are made of, as JSON has it."""
        facts = {"views": self.views, "mirror": self.mirror}
        if self.random_views:
            facts |= {"seed": self.seed, "shift": self.shift, "zoom": self.zoom}
        return facts

    def draw_view(self, view):
        """Takes the images in their own order, each in the given view, counted from 0."""
        order = np.arange(len(self.images))
        moves, boxes = self._fixed(view)
        self.drawn.assign(np.column_stack([order, np.full_like(order, view), moves]))
        self.boxes.assign(boxes)

    def draw(self, epoch, epochs=1):
        """Draws the order and the views of so many epochs from the given one on, counted from 0."""
        if self.seed is None:
            self.draw_view(0)
            return
        drawn, boxes = zip(*map(self._drawn, range(epoch, epoch + epochs)), strict=True)
        self.drawn.assign(np.concatenate(drawn))
        self.boxes.assign(np.concatenate(boxes))

    def _drawn(self, epoch):
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.images))
        if not self.views:
            moves, boxes = self._random(random)
            return np.column_stack([order, np.zeros_like(order), moves]), boxes
        view = random.integers(self.views, size=len(order))
        moves, boxes = self._kept
        return np.column_stack([order, view, moves[view, order]]), boxes[view, order]

    @functools.cached_property
    def _kept(self):
        """The moves and boxes of all images in each of their views, which no epoch changes."""
        moves, boxes = zip(*map(self._fixed, range(self.views)), strict=True)
        return np.stack(moves), np.stack(boxes)

    def _fixed(self, view):
        """Returns the moves and boxes of all images in one of the views that are no epoch's own."""
        if view < fixed_views(self.mirror):
            return np.tile([view, 0, 0], (len(self.images), 1)), self._whole()
        # A spawn key keeps them apart from those of the epochs.
        seed = np.random.SeedSequence(self.seed, spawn_key=(view,))
        return self._random(np.random.default_rng(seed))

    def _random(self, random):
        count, height, width, _ = self.images.shape
        mirrored = random.random(count) < 0.5 * self.mirror
        shifts = [
            random.integers(-reach, reach, count, endpoint=True)
            for reach in (int(self.shift * height), int(self.shift * width))
        ]
        boxes = self._whole()
        if self.zoom:
            side = random.uniform(1 - self.zoom, 1, count)
            top, left = random.random((2, count)) * (1 - side)
            boxes = np.stack([top, left, top + side, left + side], axis=1)
        return np.stack([mirrored, *shifts], axis=1), boxes

    def _whole(self):
        return np.tile(np.array([0, 0, 1, 1], np.float32), (len(self.images), 1))


def views_of(config):
    """Returns the settings of a run that say how `Batches` draws views, by the names of its arguments."""
    names = ("seed", "mirror", "shift", "zoom", "views")
    return {name: getattr(config, name) for name in names}


def on_cpu(make, *arguments, **named):
    """Calls a TensorFlow function on the CPU: what tf.data gathers from must not fill a GPU's memory."""
    with tf.device("CPU"):
        return make(*arguments, **named)


def mapped(array):
    """Makes a tensor from an array: a mapped file is not read, anything else is copied."""
    # TensorFlow aborts the program if the memory is not aligned.
    if not isinstance(array, np.memmap) or array.ctypes.data % 64:
        return on_cpu(tf.constant, array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
