"""Computes the frozen part of a network once: what it gives for an image is the same every epoch.

A model is split at its frozen boundary into a prefix and a tail. The prefix's outputs, the
features, are kept in files under $KERAS_HOME/features; the tail trains on them. As the tail shares
its layers with the model, the model is trained when the tail is.
"""

import contextlib
import copy
import functools
import hashlib
import math
import os
import shutil
import sys
import time
from typing import NamedTuple

import keras
import ml_dtypes  # noqa: F401  (gives NumPy the dtype bfloat16)
import numpy as np
import tensorflow as tf

from transfer import files
from transfer.batches import Batches, evaluation_batch, mapped, on_cpu
from transfer.precision import emulated
from transfer.recipes import standardised_views
from transfer.terminal import say

VERSION = 6  # of the files' layout
PRIOR_IMAGES = 10


def split(model):
    """Splits a model at its frozen boundary, once `trainable` is set.

    The tail begins at every layer whose output for an image may change from epoch to epoch,
    because it trains, keeps statistics of its inputs, or is random, and has all that follows. The
    prefix is the rest.

    Args:
        model: Functional `keras.Model` of one output, each layer of which is called once.

    Returns:
        `(prefix, tail)`, two models of the model's own layers: the tail takes the list of the
        prefix's outputs. `(None, model)` where no layer with weights is frozen from the input on, or
        no layer's output may change.
    """
    changing, boundary, frozen_weights = set(), {}, 0
    for operation in model.operations:  # in the order of the computation
        if isinstance(operation, keras.layers.InputLayer):
            continue
        inputs = keras.tree.flatten(operation.input)
        if _changes(operation) or any(id(tensor) in changing for tensor in inputs):
            changing.update(id(tensor) for tensor in keras.tree.flatten(operation.output))
            boundary |= {id(tensor): tensor for tensor in inputs if id(tensor) not in changing}
        else:
            frozen_weights += len(getattr(operation, "weights", ()))
    if not frozen_weights or not boundary:
        return None, model
    tensors = list(boundary.values())
    prefix = keras.Model(model.inputs, tensors, name="prefix")
    return prefix, keras.Model(tensors, model.outputs[0], name="tail")


def _changes(operation):
    if not isinstance(operation, keras.Layer):
        return False
    random = len(operation.variables) > len(operation.weights)  # the state of its seed generator
    return random or bool(operation.trainable and operation.weights)


def normalizations(model):
    """Lists the layers that standardise what a model's head reads."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]


def standardise(model, inputs, batches, at_size=lambda part: part):
    """Gives a model's Normalization layers the mean and variance of what they read.

    Both are taken over the views that are kept of the training images, or, if none are kept, over
    the images and, with `mirror`, their mirrored copies. They are computed before training and stay
    fixed, so that training and evaluation see the same function. With few images a variance is
    uncertain, and may be zero for a feature that they all share, so it is shrunk towards the mean
    variance of the layer's features, as if by `PRIOR_IMAGES` more images of that variance.

    Args:
        model: The whole model.
        inputs: Its tensors that the batches are of: its inputs, or the outputs of its prefix.
        batches: `Batches` of its training images.
        at_size: Function that makes a model of these inputs one of those that the batches have.

    Raises:
        ValueError: The features overflow in the precision of the run.
    """
    layers = normalizations(model)
    if not layers:
        return
    what_is_read = [keras.layers.Identity(dtype="float32")(layer.input) for layer in layers]
    read = tf.function(at_size(keras.Model(inputs, what_is_read)))
    sums, squares = [0.0] * len(layers), [0.0] * len(layers)
    views = standardised_views(batches.views, batches.mirror)
    for view in range(views):
        batches.draw_view(view)
        for batch, _ in batches.dataset():
            for i, values in enumerate(keras.tree.flatten(read(batch, training=False))):
                values = np.asarray(values, np.float64)
                sums[i] += values.sum(axis=0)
                squares[i] += np.square(values).sum(axis=0)
    count = len(batches.labels) * views
    for layer, total, square in zip(layers, sums, squares, strict=True):
        if not np.isfinite([total, square]).all():
            policy = keras.config.dtype_policy().name
            remedy = (
                "--weights that are not damaged" if policy == "float32" else "--precision float32"
            )
            raise ValueError(f"the features overflow in {policy}: use {remedy}")
        mean = total / count
        variance = np.maximum(square / count - np.square(mean), 0)
        prior = max(variance.mean(), keras.config.epsilon())
        layer.adapt_mean.assign(mean)
        layer.adapt_variance.assign(
            (count * variance + PRIOR_IMAGES * prior) / (count + PRIOR_IMAGES)
        )
        layer.count.assign(count)
        layer.finalize_state()


class FeatureBatches(Batches):
    """Like `Batches`, but of the features of images instead of their pixels.

    Args:
        features: `Features` of the split.
    """

    def __init__(self, features, split, classes, **arguments):
        super().__init__(split, classes, **arguments)
        self.features = features

    def inputs(self):
        tensors, rows, stored = self.features

        def features(image, view, *_):
            places = tf.gather(rows, image) + stored * view
            return tuple(tf.gather(tensor, places) for tensor in tensors)

        return features

    def through(self, model):
        """Returns the same batches of what a model makes of these features, which stays in memory."""
        model.compile(jit_compile=False)
        outputs = []
        for view in range(self.views):
            self.draw_view(view)
            outputs.append(keras.tree.flatten(model.predict(self.dataset(), verbose=0)))
        made, count = copy.copy(self), len(self.images)
        tensors = [mapped(np.concatenate(views)) for views in zip(*outputs, strict=True)]
        made.features = Features(tensors, np.arange(count, dtype="int32"), count)
        return made


def predict(model, dataset, name, rows=slice(None)):
    """Returns a model's output for the images of a split, from their kept features if there are any.

    Args:
        model: Functional `keras.Model` of one output, on pixels.
        dataset, name: `data.Dataset`, and which of its splits, such as `validation`.
        rows: Which of its images, as NumPy indexes them; by default all.
    """
    images, classes = getattr(dataset, name), len(dataset.class_names)
    prefix, tail = split(model)
    kept = prefix and Cache(prefix, dataset).read((name, Batches(images, classes)))
    batches: Batches
    if kept:
        model, places = tail, kept.rows[rows]
        # In place of the images, which are not read, where their features are.
        few = images._replace(images=places, labels=images.labels[rows])
        batches = FeatureBatches(kept._replace(rows=places), few, classes)
    else:
        at_once = evaluation_batch(model.get_layer("resize").height)
        batches = Batches(images.take(rows), classes, at_once)
    return model.predict(batches.dataset(), verbose=0)


class Features(NamedTuple):
    """The features of some images.

    `tensors` has for each output of the prefix a tensor (views * stored, ...): of `stored` images in
    their first view, then of all in their second, and so on. `rows`, int32 (n,), says which of them
    each of the n images is.
    """

    tensors: list
    rows: np.ndarray
    stored: int


class Cache:
    """The features of images by a prefix, in files of a key made of all that determines them.

    Args:
        prefix: As `split` gives it.
        dataset: `data.Dataset`.
        trained: That prefix for the size of the views of `train`, if it is another one.
    """

    def __init__(self, prefix, dataset, trained=None):
        self.prefix = prefix
        self.trained = trained or prefix
        self.dataset = dataset
        self.folder = files.keras_home() / "features"
        # Before they are compiled, which their JSON would say.
        self.layers = {
            each: hashlib.sha256(each.to_json().encode()).hexdigest()
            for each in {prefix, self.trained}
        }
        weights = hashlib.sha256()
        for array in prefix.get_weights():
            weights.update(array.tobytes())
        self.facts = {
            "version": VERSION,
            "weights": weights.hexdigest(),
            "prefix": self.layers[prefix],
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        }
        if emulated(prefix):  # other numbers
            self.facts["emulated"] = True
        if tf.config.list_physical_devices("GPU"):
            self.facts["device"] = "GPU"

    def load(self, parts):
        """Returns the features of several parts of the data, computing those that are not there.

        Args:
            parts: List of `(name of the split, its Batches)`, which have the views.

        Returns:
            For each part its `Features`, in the prefix's own dtypes. They are the mapped files, not
            copies of them, and may be those of more images, which another run has computed.

        Raises:
            OSError: The disk has no room for them, or can't be written to; nothing is written then.
        """
        lock = self.folder / f"{_key(sorted(self.facts.items()))}.lock"
        with contextlib.suppress(OSError):  # what is there already can be read all the same
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.touch()
        files.clear_parts(self.folder)
        # What another process computes by this prefix may be the same.
        with files.held(lock, "features    another run is computing features: waiting for it"):
            return self._load(parts)

    def _load(self, parts):
        found = [self.read(part) for part in parts]
        missing = [part for part, known in zip(parts, found, strict=True) if known is None]
        sizes = {part: self._size(part) for part in parts}
        total, needed = sum(sizes.values()), sum(sizes[part] for part in missing)
        state = "already computed"
        if missing:
            if not os.access(self.folder, os.W_OK):
                raise OSError(
                    f"{self.folder} can't be written to: set KERAS_HOME to another folder, or start a new "
                    "run with --features none"
                )
            free = shutil.disk_usage(self.folder).free
            if needed > free:
                raise OSError(
                    f"the features need {needed / 1e6:,.0f} MB, {self.folder} has {free / 1e6:,.0f} "
                    "MB free: free some space, move KERAS_HOME to another disk, or start a new run "
                    "with --features none"
                )
            state = f"to compute, {free / 1e9:.1f} GB free"
        say("features", f"{total / 1e6:,.0f} MB in {self.folder} ({state})", flush=True)
        computed = iter(self._compute(missing) if missing else ())
        return [known or next(computed) for known in found]

    def _prefix(self, part):
        split, _ = part
        return self.trained if split == "train" else self.prefix

    def _count(self, part):
        _, batches = part
        return len(batches.images) * batches.views

    def _size(self, part):
        return self._count(part) * sum(
            math.prod(output.shape[1:]) * np.dtype(output.dtype).itemsize
            for output in self._prefix(part).outputs
        )

    def _marker(self, part):
        """The file that says that a part's features are whole; its name is the key.

        The key begins with that of the views, so that other images' features of the same kind, of
        which these may be a subset, are found beside it.
        """
        split, batches = part
        kind = self.facts | {"prefix": self.layers[self._prefix(part)]}
        kind |= {"size": list(batches.images.shape[1:3])} | batches.what_views()
        key = _key(sorted(kind.items()))
        # Random views depend on an image's place.
        facts = kind | {"images": self.dataset.digests[split], "shared": not batches.random_views}
        return self.folder / f"{key}-{_key(facts['images'])}.json", facts

    def read(self, part):
        """Maps the features of a part, as `load` takes it; `None` if not all is as it was written."""
        marker, facts = self._marker(part)
        kind, _, _ = marker.stem.partition("-")
        others = sorted(self.folder.glob(f"{kind}-*.json")) if facts["shared"] else []
        for path in dict.fromkeys([marker, *others]):
            with contextlib.suppress(OSError, ValueError, KeyError):
                known = files.read_json(path)
                place = {digest: row for row, digest in enumerate(known["images"])}
                rows = np.array([place[digest] for digest in facts["images"]], "int32")
                if path == marker:  # of copies of an image each has its own random views
                    rows = np.arange(len(rows), dtype="int32")
                paths = self._paths(path)
                if known["sha256"] == [_digest(each, each.stat().st_mtime_ns) for each in paths]:
                    count = len(known["images"])
                    return Features(self._map(paths, part, count), rows, count)
        return None

    def _compute(self, parts):
        total = sum(self._count(part) for part in parts)
        interactive = sys.stdout.isatty()
        bar = keras.utils.Progbar(
            total, unit_name="view", stateful_metrics=["views/s"], verbose=int(interactive)
        )
        for prefix in self.layers:
            prefix.compile(jit_compile=False)
        start, done = time.perf_counter(), 0

        def advance(count):
            nonlocal done
            done += count
            bar.update(done, [("views/s", done / (time.perf_counter() - start))])

        computed = [self._compute_part(part, advance) for part in parts]
        if not interactive:
            seconds = time.perf_counter() - start
            say(
                "features",
                f"{total:,} views in {seconds:.0f} s, {total / seconds:.0f} views/s",
                flush=True,
            )
        return computed

    def _compute_part(self, part, advance):
        _, batches = part
        prefix = self._prefix(part)
        marker, facts = self._marker(part)
        with contextlib.ExitStack() as stack:
            paths = [
                stack.enter_context(files.written_whole(path, synced=False))
                for path in self._paths(marker)
            ]
            opened = [stack.enter_context(path.open("wb")) for path in paths]
            for view in range(batches.views):
                batches.draw_view(view)
                for batch, _ in batches.dataset():
                    # Of few sizes, so that an image's features don't depend on how many others
                    # there are: the last image is repeated up to the next power of two. One alone
                    # would take another path through the kernels, with other last bits.
                    count = len(batch)
                    size = min(batches.batch_size, max(2, 2 ** math.ceil(math.log2(count))))
                    if size > count:
                        batch = tf.repeat(batch, [1] * (count - 1) + [1 + size - count], axis=0)
                    outputs = keras.tree.flatten(prefix.predict_on_batch(batch))
                    for file, output in zip(opened, outputs, strict=True):
                        output[:count].tofile(file)
                    advance(count)
            for file in opened:
                file.close()
            digests = [files.digest(path) for path in paths]
            # Mapped here, they stay these bytes even if another run puts its own in their place.
            count = len(batches.images)
            tensors = self._map(paths, part, count)
        files.write_json(marker, facts | {"sha256": digests})
        return Features(tensors, np.arange(count, dtype="int32"), count)

    def _paths(self, marker):
        return [marker.with_suffix(f".{i}.bin") for i in range(len(self.prefix.outputs))]

    def _map(self, paths, part, count):
        """Makes tensors of files without reading them: DLPack hands over the mapped memory.

        They are of so many images, in all views of the part.
        """
        _, batches = part
        tensors = []
        for path, output in zip(paths, self._prefix(part).outputs, strict=True):
            bits = f"uint{8 * np.dtype(output.dtype).itemsize}"  # DLPack of NumPy has no bfloat16
            # Copy on write, as DLPack takes no read-only memory; nobody writes.
            array = np.memmap(path, bits, "c", shape=(count * batches.views, *output.shape[1:]))
            tensors.append(on_cpu(tf.bitcast, mapped(array), output.dtype))
        return tensors


def _key(facts):
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:20]


@functools.lru_cache  # the runs of a sweep read the same files
def _digest(path, changed):
    """Returns the sha256 of a file; by `changed`, the cache reads a changed file again."""
    return files.digest(path)
