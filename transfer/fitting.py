"""How a model is fitted: the head first, what is frozen computed once, then what trains."""

import functools
import sys
import time

import keras
import numpy as np

from squeezenet import resized
from transfer import checkpoints, depths, terminal
from transfer.batches import Batches, evaluation_batch, views_of
from transfer.board import Confusion, TensorBoard
from transfer.features import Cache, FeatureBatches, normalizations, split, standardise
from transfer.network import set_trainable
from transfer.optimizers import lean, make_optimizer
from transfer.progress import epochs_at_once
from transfer.settings import of_head
from transfer.terminal import say


def train(model, trainable, dataset, config, facts, progress):
    """Trains a model, from its run's last checkpoint where it resumes one.

    Args:
        model, trainable, dataset, config: Of the run.
        facts: Dict of what must be equal for a run to be resumed.
        progress: `Progress` of the run; the model of its last or best epoch is in its folder.

    Returns:
        The `board.TensorBoard` of the run.
    """
    progress.start = time.perf_counter()
    with terminal.one_line_errors():
        arrays, state = checkpoints.read(progress.folder, facts) if config.resume else (None, None)
        if config.head_epochs and not state:
            train_head(model, dataset, config)
            set_trainable(model, trainable)
        standardised = bool(config.head_epochs or state)
        trained, training, validation = feed(model, dataset, config, standardised)
    if state:
        progress.restore(state)
    progress.plan(config.epochs, dataset)
    at_once = progress.epochs_at_once
    optimizer = lean(make_optimizer(config, steps=config.epochs * len(training)))
    confusion = Confusion(len(dataset.class_names))
    compile_model(trained, optimizer, confusion)
    compile_model(model, optimizer)  # so that its file can be evaluated
    board = TensorBoard(
        progress.folder, model, confusion, dataset.class_names, at_once, config.histograms
    )
    board.show_views(dataset.train, config)
    # In float16, Keras has wrapped it in a LossScaleOptimizer, which loses track of some of the variables
    # that the optimizer makes unless they are there already.
    optimizer.build(trained.trainable_variables)
    optimizer = trained.optimizer
    optimizer.build(trained.trainable_variables)
    variables = [v for layer in trained.layers for v in layer.variables] + optimizer.variables
    if state:
        with terminal.one_line_errors():
            restore(trained, variables, arrays, progress.folder)
        say("resume", f"after epoch {progress.epochs} of {config.epochs}", flush=True)

    # A progress bar per epoch, unless there would be hundreds.
    bars = sys.stdout.isatty() and len(progress.reported) == config.epochs
    done = config.epochs if progress.out_of_patience() else progress.epochs

    def stop_if_hopeless(block, logs):
        if progress.epochs == (block + 1) * at_once:
            progress.stop_if_hopeless()

    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        Keeping(model, variables, facts, progress, report=not bars),
        board,  # after `Keeping`, which restores the raw weights: its histograms are all of these
        keras.callbacks.LambdaCallback(on_epoch_end=stop_if_hopeless),
    ]
    fit(
        trained,
        training,
        config,
        at_once,
        callbacks,
        initial_epoch=done // at_once,
        validation_data=validation.dataset(),
        validation_steps=len(validation),
        validation_freq=[epoch // at_once for epoch in progress.reported],
        verbose=1 if bars else 0,
    )
    if progress.diverged:
        terminal.stop(
            "the loss became infinite or NaN: start a new run with a lower --learning-rate or "
            f"--weight-decay ({progress.kept(resumable=False)})"
        )
    steps = progress.epochs * len(training)
    if skipped := steps - int(optimizer.iterations):
        say(
            "note",
            f"{skipped:,} of {steps:,} training steps skipped, as they overflowed in float16",
        )
    if config.early_stopping:
        say("best epoch", f"{progress.kept_epoch} of {progress.epochs}, by validation loss")
    return board


def fit(model, batches, config, at_once, callbacks=(), **options):
    """Fits a compiled model for the epochs of a `Config`.

    Args:
        model, batches: The model, and the `Batches` that train it.
        at_once: How many of the epochs are one of Keras' fit().
        callbacks, options: Of that.
    """
    model.fit(
        batches.dataset(at_once),
        epochs=config.epochs // at_once,
        # Without it, Keras makes the iterator of each epoch twice, and that of each validation.
        steps_per_epoch=at_once * len(batches),
        class_weight=class_weights(batches.labels, config.class_weights),
        shuffle=False,  # Batches does
        callbacks=[batches.drawn_each_epoch(at_once), *callbacks],
        **options,
    )


def restore(model, variables, arrays, folder):
    """Gives a model and its optimizer, by their Keras variables, the values of a checkpoint.

    Raises:
        ValueError: These are of other shapes.
    """
    if [variable.shape for variable in variables] != [array.shape for array in arrays]:
        raise ValueError(
            f"{folder} can't be resumed: its checkpoint was written by another version of this "
            "project; start a new run"
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    for layer in normalizations(model):
        layer.finalize_state()


class Keeping(keras.callbacks.Callback):
    """Keeps the model and a checkpoint after each validation.

    If the optimizer averages the weights, the average is validated and kept, and training goes on
    from the raw weights, which are those of the checkpoint.

    Args:
        model: The whole model, even where fit() trains its tail alone.
        variables: Keras variables of the checkpoint.
        facts: As in `train`.
        progress: `Progress` of the run.
        report: Whether to print a line after each validation.
    """

    def __init__(self, model, variables, facts, progress, report):
        super().__init__()
        self.whole, self.variables, self.facts = model, variables, facts
        self.progress, self.report = progress, report

    def on_test_begin(self, logs=None):
        self.raw = [np.array(variable) for variable in self.model.trainable_variables]
        # In float16, a first step may not have been taken yet; an average begins with it.
        if int(self.model.optimizer.iterations):
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def on_epoch_end(self, epoch, logs=None):
        progress = self.progress
        epochs = (epoch + 1) * progress.epochs_at_once

        def save():
            for variable, values in zip(self.model.trainable_variables, self.raw, strict=True):
                variable.assign(values)
            state = progress.state()
            checkpoints.save(progress.folder, epochs, self.variables, self.facts, state)

        progress.epoch_end(epochs, self.whole, self.model, logs, self.report, save)


def train_head(model, dataset, config):
    """Trains the head alone of a model whose `trainable` is the regime's, and says how far it gets.

    Only the head is trainable then.

    Gradients through a randomly initialised head would distort the pretrained layers
    (Kumar et al. 2022, https://arxiv.org/abs/2202.10054), so the head is trained first.
    """
    only_head = depths.rule("head")
    some_frozen = not all(layer.trainable for layer in model.layers if layer.weights)
    keeps_features = some_frozen and config.all_views
    config = of_head(config, dataset)
    # Reads the features that the regime keeps; if it keeps none, those of the frozen backbone.
    kept = None
    if keeps_features:
        kept, _ = split(model)
    else:
        set_trainable(model, only_head)
    tail, training, validation = feed(model, dataset, config)
    set_trainable(model, only_head)
    head = tail
    if kept and isinstance(training, FeatureBatches) and training.views < config.epochs:
        # What is between them and the head is passed once for each view, not each epoch.
        backbone, head = split(model)
        # Keras refuses a model of which an input is an output, too.
        read = [keras.layers.Identity()(tensor) for tensor in backbone.outputs]
        between = keras.Model(kept.outputs, read)
        training = training.through(at_training_size(between, training, config))
    optimizer = lean(make_optimizer(config, steps=config.epochs * len(training)))
    compile_model(head, optimizer)
    if tail is not head:
        compile_model(tail, optimizer)  # to be evaluated
    at_once = epochs_at_once(config.epochs, len(dataset.train.labels))
    fit(head, training, config, at_once, verbose=0)
    _, accuracy = tail.evaluate(validation.dataset(), verbose=0)
    say("head", f"trained alone: validation accuracy {accuracy:.4f}", flush=True)


def feed(model, dataset, config, standardised=False):
    """Decides what is trained on what: the model on pixels, or its tail on cached features.

    What the head reads is standardised by the training images, unless it is already.

    Returns:
        The Keras model to train, and the batches that train and validate it.

    Raises:
        OSError: There is no room for the features.
        ValueError: The features overflow in the precision of the run.
    """
    classes = len(dataset.class_names)
    drawn = views_of(config)
    training = Batches(dataset.train, classes, config.batch_size, **drawn)
    at_once = evaluation_batch(config.image_size)
    validation = Batches(dataset.validation, classes, at_once)
    kept = training.views and config.features == "cache"
    prefix, tail = split(model) if kept else (None, model)
    if prefix is None:
        # Compiled otherwise than the one that is saved.
        tail = keras.Model(model.inputs, model.outputs[0], name=model.name)
    else:
        views = Batches(dataset.train, classes, at_once, **drawn)
        cache = Cache(prefix, dataset, at_training_size(prefix, views, config))
        seen, held_out = cache.load([("train", views), ("validation", validation)])
        training = FeatureBatches(
            seen, dataset.train, classes, batch_size=config.batch_size, **drawn
        )
        validation = FeatureBatches(held_out, dataset.validation, classes)
    at_size = functools.partial(at_training_size, batches=training, config=config)
    if not standardised:
        standardise(model, prefix.outputs if prefix else model.inputs, training, at_size)
    smaller = at_size(tail)
    return tail if smaller is tail else TrainedSmaller(tail, smaller), training, validation


def at_training_size(part, batches, config):
    """Makes a part of a network take the views that it trains on: those may be smaller than whole images.

    Args:
        part: `keras.Model` from pixels or from features.
        batches: `Batches` of these views, which are of pixels or of the same features.
        config: Of the run.
    """
    if not config.training_size:
        return part
    inputs = None
    if isinstance(batches, FeatureBatches):
        inputs = [
            keras.Input(tensor.shape[1:], dtype=tensor.dtype.name)
            for tensor in batches.features.tensors
        ]
        if all(new.shape == old.shape for new, old in zip(inputs, part.inputs, strict=True)):
            return part
    return resized(part, config.training_size, inputs)


class TrainedSmaller(keras.Model):
    """Evaluates a network on images of one size, and trains it on smaller ones.

    Args:
        model: Functional `keras.Model`.
        smaller: Another one of the same layers.
    """

    def __init__(self, model, smaller):
        super().__init__(name=model.name)
        self.model, self.smaller = model, smaller

    def call(self, images, training=None):
        return (self.smaller if training else self.model)(images, training=training)

    @property
    def layers(self):
        return self.model.layers


def class_weights(labels, kind):
    """Returns for each class, by its number, the weight that makes it count as much as any other.

    That is for the kind `balanced`; for `none`, None.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels)
    return {label: len(labels) / (len(counts) * count) for label, count in enumerate(counts)}


def compile_model(model, optimizer, accuracy="accuracy", loss="categorical_crossentropy"):
    model.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=[accuracy],
        jit_compile=False,  # XLA on a CPU is slower: 4 times at 96 px
        steps_per_execution=16,  # a small tail's step is shorter than Keras' work between two
    )
