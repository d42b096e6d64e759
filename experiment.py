"""One run, top to bottom: its settings (Config), the command line (parse_config), run()."""

import argparse
import dataclasses
import hashlib
import math
import os
import platform
import statistics
import sys
import time
import typing
from pathlib import Path

import numpy as np

import checkpoints
import cli
import data
import recipes
import runs

# Each one's default learning rate as a multiple of Adam's, which the recipes give, and its settings.
# All of them use the recipe's weight decay, so adamw is the same as adam.
OPTIMIZERS = {
    "adam": (1, {}),
    "adamw": (1, {}),
    "nadam": (1, {}),
    "rmsprop": (1, {}),
    "lion": (0.1, {}),
    "adagrad": (10, {}),
    "sgd": (10, {"momentum": 0.9, "nesterov": True}),
}

# The settings that a recipe chooses by the number of images.
BY_THE_IMAGES = (
    "image_size", "epochs", "head_epochs", "batch_size", "learning_rate", "weight_decay", "dropout",
    "shift", "zoom", "views",
)  # fmt: skip

# Lines of progress, confusion matrices and the like in a run, at most.
REPORTS = 20

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


def flag(default, help, **limits):
    """A field of Config that is a flag too.

    `limits` are `choices`, `minimum`, `above` or `below`; `shown` is what the help calls the default.
    """
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Those with a help text are flags of the command line.

    The defaults are those of the recipe `tuned`; RECIPES has what the others set. A setting that
    is None follows from the images (see recipes.py), unless the user or a train script sets it.
    """

    regime: str

    data: str = flag("cifar10", "cifar10, shapes (drawn, no download), FILE.npz or a folder")
    weights: str = flag("imagenet", "imagenet, none (random) or the FILE of SqueezeNet's weights")
    recipe: str = flag(
        "tuned", "tuned (ours) or report (2018, to the letter)", choices=("tuned", "report")
    )

    # ImageNet's features are of objects that fill 224 px: 32 px leave a last map of 1x1.
    image_size: int | None = flag(None, "side in pixels to which images are resized", minimum=32)
    epochs: int | None = flag(None, "passes over the training images", minimum=1)
    batch_size: int | None = flag(None, "images per training step", minimum=1)
    learning_rate: float | None = flag(None, "of the optimizer, at its peak", above=0)
    # A step takes this fraction of the rate off each weight (Adam's, decoupled: arXiv 1711.05101).
    weight_decay: float | None = flag(None, "of the weights that train", minimum=0)
    # Before the classifier, as in the paper.
    dropout: float | None = flag(None, "fraction of what the classifier reads", minimum=0, below=1)
    shift: float | None = flag(
        None, "how far training images move, as a fraction of their side", minimum=0, below=1
    )
    zoom: float | None = flag(
        None, "how much smaller random crops may be, as a fraction of the side", minimum=0, below=1
    )
    # Of what is frozen, the features of each view are computed once.
    views: int | None = flag(
        None, "kept per training image where layers are frozen; 0: new each epoch", minimum=0
    )
    # A random head would distort the layers below it.
    head_epochs: int | None = flag(None, "epochs that first train the head alone", minimum=0)

    optimizer: str = flag("adam", "the optimizer", choices=tuple(OPTIMIZERS))
    early_stopping: int = flag(
        0, "stop after so many epochs without a lower validation loss; 0: never", minimum=0
    )
    # Caffe's BGR and means: without them no channel has the values the weights were trained on.
    preprocessing: str = "caffe"
    # Frozen or barely changing layers help more, the more of them the head reads.
    head: str = "pooled"
    # A mirrored truck is a truck.
    mirror: bool = True
    # Warm-up over the first tenth of the steps, then cosine decay to zero.
    schedule: str = "cosine"

    # 0 stands for all, and for one run.
    images_per_class: int = flag(
        0, "train on so many of each class, drawn at random by the seed", minimum=1, shown="all"
    )
    folds: int = flag(
        0, "train so many runs, each validated on a different fold", minimum=2, shown="one run"
    )
    fold: int = flag(
        0, "train this one of the folds alone, from 1", minimum=1, shown="all of them"
    )
    # The epochs that it was first meant to have, if it got more: its rate then decayed more than once.
    extended_from: str = ""

    evaluation: str = flag(
        "plain",
        "of images as they are, or averaged with their mirrored copies",
        choices=("plain", "mirrored"),
    )
    histograms: bool = flag(False, "of all weights, each epoch, for TensorBoard")
    features: str = flag(
        "cache", "of the frozen layers: computed once, or none kept", choices=("cache", "none")
    )
    on_bad_image: str = flag(
        "stop", "of a folder that can't be read: name all and stop, or skip", choices=("stop", "skip")
    )
    near_duplicates: str = flag(
        "keep", "of a folder, that are in two splits: keep or drop", choices=("keep", "drop")
    )
    class_weights: str = flag(
        "none", "of the loss; balanced gives each class equal weight", choices=("none", "balanced")
    )
    seed: int = flag(0, "of weights, order and views, and of a folder's split", minimum=0, below=2**32)
    precision: str = flag("auto", "of the arithmetic; auto looks at the hardware", choices=PRECISIONS)
    resume: str = flag("", "folder of a run to resume, with that run's settings")
    logs: str = flag("logs", "folder of all runs")
    name: str = flag("", "of the run's folder (default: recipe and time)")


# What a recipe sets whatever the images; recipes.py has the rest.
RECIPES = {
    "tuned": {},
    "report": {
        "optimizer": "adam",
        "image_size": 32,
        "preprocessing": "none",
        "head": "conv_relu",
        "mirror": False,
        "schedule": "constant",
        "precision": "float32",
    },
}


def parse_config(defaults, arguments=None):
    """Reads the command line.

    Args:
        defaults: `Config` with the regime, and what it changes in the recipe `tuned`.
        arguments: List of strings; by default those of the program.

    Returns:
        A `Config`. A flag overrides the recipe, the recipe overrides `defaults`. An argument out
        of range ends the program with one line and exit status 2.
    """
    parser = cli.Parser(
        description=f"Trains SqueezeNet, regime {defaults.regime}.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    flags = [field for field in dataclasses.fields(Config) if "help" in field.metadata]
    for field in flags:
        default = getattr(defaults, field.name)
        option = "--" + field.name.replace("_", "-")
        kind = next(iter(typing.get_args(field.type)), field.type)
        if kind is bool:
            parser.add_argument(option, action="store_true", help=field.metadata["help"])
            continue
        shown = field.metadata.get("shown", "by the images" if default is None else default)
        about = field.metadata["help"] + (f" [{shown}]" if shown != "" else "")
        choices = field.metadata.get("choices")
        parser.add_argument(option, type=kind, choices=choices, help=about)
    given = vars(parser.parse_args(arguments))
    for field in flags:
        if field.name in given:
            _check_range(parser, field, given[field.name])
    if "resume" in given:
        return _resumed(parser, defaults, given)
    recipe = given.get("recipe", defaults.recipe)
    return dataclasses.replace(defaults, **RECIPES[recipe] | given)


def _resumed(parser, defaults, given):
    """Gives the settings of the run to go on with; of them only the epochs may grow."""
    folder = Path(given.pop("resume"))
    try:
        known = runs.read_json(folder / "config.json")
        saved = Config(**known)
        finished = (folder / "metrics.json").exists()
        done = runs.read_metrics(folder)["epochs"] if finished else 0
    except (OSError, ValueError, TypeError) as error:
        parser.error(f"argument --resume: {folder} can't be resumed ({error})")
    given |= {"regime": defaults.regime} | located(given)
    for key, value in given.items():
        grows = key == "epochs" and value >= saved.epochs
        if getattr(saved, key) != value and not grows:
            parser.error(
                f"argument --resume: {folder} has {key} {getattr(saved, key)}, not {value}; only "
                "--epochs may be increased"
            )
    epochs = given.get("epochs", saved.epochs)
    if finished and epochs == saved.epochs:
        parser.error(f"argument --resume: {folder} is finished; give more --epochs to go on")
    if finished and done < saved.epochs:
        parser.error(
            f"argument --resume: {folder} stopped early, after epoch {done} of {saved.epochs}; it "
            "would stop there again"
        )
    extended = saved.extended_from
    if epochs > saved.epochs and saved.schedule == "cosine":
        extended = f"{extended}, {saved.epochs}" if extended else str(saved.epochs)
    return dataclasses.replace(saved, epochs=epochs, extended_from=extended, resume=str(folder))


def located(settings):
    """Gives those of the settings that are paths as they hold in any working directory: absolute."""
    known = {"data": data.SOURCES, "weights": runs.WEIGHTS}
    return {
        key: os.path.abspath(os.path.expanduser(settings[key]))
        for key in known.keys() & settings.keys()
        if settings[key] not in known[key]
    }


def _check_range(parser, field, value):
    option = "--" + field.name.replace("_", "-")
    minimum, above, below = map(field.metadata.get, ("minimum", "above", "below"))
    if minimum is not None and not minimum <= value < math.inf:
        parser.error(f"argument {option}: expected {minimum} or more. Received: {value}")
    if above is not None and not above < value < math.inf:
        parser.error(f"argument {option}: expected more than {above}. Received: {value}")
    if below is not None and not value < below:
        parser.error(f"argument {option}: expected less than {below}. Received: {value}")
    if field.name == "name" and not (value.isprintable() and Path(value).name == value != ".."):
        parser.error(f"argument {option}: expected a plain name, not a path. Received: {value!r}")


def run(title, trainable, config):
    """Trains and evaluates one regime; leaves its figures and its model in the run's folder.

    Args:
        title: Printed before the figures.
        trainable: The regime: a function of a Keras layer that says whether it trains.
        config: `Config`. With `folds`, so many runs are made, one after the other.

    Returns:
        The metrics, as written to metrics.json; with `folds`, a list of them. An error that the
        reader can mend, a loss that is NaN and Ctrl-C end the program with one line.
    """
    if not config.folds or config.fold:
        return _run_one(title, trainable, config)
    names = [
        config.name and f"{config.name}-fold-{fold}" for fold in range(1, config.folds + 1)
    ]
    with cli.one_line_errors():
        runs.refuse_taken(config.logs, config.regime, filter(None, names))
    made = []
    for fold, name in enumerate(names, 1):
        print(f"fold        {fold} of {config.folds}", flush=True)
        made.append(_run_one(title, trainable, dataclasses.replace(config, fold=fold, name=name)))
    losses, accuracies = (
        [metrics[key] for metrics in made] for key in ("validation_loss", "validation_accuracy")
    )
    spread = statistics.stdev(accuracies)
    print(f"folds       validation accuracy {statistics.fmean(accuracies):.4f} ± {spread:.4f}")
    print_result(title, statistics.fmean(losses), statistics.fmean(accuracies))
    return made


def print_result(title, loss, accuracy):
    """Prints the three lines of the 2018 report."""
    print(title)
    print(f"Validation loss: {loss}")
    print(f"Validation accuracy (NORMALIZED): {accuracy}", flush=True)


def _run_one(title, trainable, config):
    with cli.one_line_errors():
        check_weights(config.weights)
        if config.resume:
            folder, made = Path(config.resume), ()
            runs.clear_parts(folder)
        else:
            folder, made = runs.create(config.logs, config.regime, config.recipe, config.name)
    progress = Progress(folder, config.early_stopping, bool(config.resume))
    try:
        with runs.removed_if_empty(made):
            return _run(title, trainable, config, progress)
    except KeyboardInterrupt:
        cli.stop(f"interrupted: {progress.kept()}", status=130)
    except OSError as error:  # such as of a disk that is full
        cli.stop(f"{error}: {progress.kept()}")
    except Exception as error:
        if type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's, of disk or memory
            raise
        full = "No space left on device" in str(error)
        reason = "no space is left on the disk" if full else "memory ran out, try a smaller --batch-size"
        cli.stop(f"{reason}: {progress.kept()}")


def _run(title, trainable, config, progress):
    with cli.one_line_errors():
        dataset = data.load(
            config.data,
            config.image_size or recipes.LARGEST_SIZE,
            config.seed,
            config.on_bad_image,
            config.images_per_class,
            config.folds,
            config.fold,
            config.near_duplicates,
        )
        classes, folder = len(dataset.class_names), progress.folder
        config = dataclasses.replace(config, **located(dataclasses.asdict(config)))
        config, chosen = follow(config, dataset)
        progress.plan(config.epochs, dataset)
        keras = cli.import_keras()
        precision, reason = choose_precision(config.precision)
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(precision)
        model, weights = build(config, classes)
    import pictures
    from pipeline import evaluate

    set_trainable(model, trainable)
    trainable_params, total_params = count(model.trainable_weights), count(model.weights)
    print(f"regime      {config.regime}: {trainable_params:,} of {total_params:,} parameters train")
    print(f"recipe      {config.recipe}, seed {config.seed}")
    print(f"data        {describe(dataset)}")
    for note in dataset.notes:
        print(f"note        {note}")
    if chosen:
        print(f"settings    {chosen}")
    print(f"weights     {config.weights}")
    print(f"precision   {precision} ({reason})")
    print(f"run folder  {folder} (tensorboard --logdir {config.logs})", flush=True)

    settings = dataclasses.asdict(config) | {"resume": ""}
    if config.resume:
        progress.settings = settings
    else:
        if dataset.files:
            runs.write_json(folder / "split.json", dataset.files)
        runs.write_json(folder / "config.json", settings)
    facts = {
        "data": " ".join(sha256[:16] for sha256 in dataset.order.values()),
        "weights": weights["sha256"],
        "precision": precision,
        "versions": versions(),
    }
    board = train(model, trainable, dataset, config, facts, progress)
    progress.reopen()  # it still is as it was where what was trained further was no better

    # The printed figures are those of the file, not of the model in memory.
    probabilities, loss, accuracy = evaluate(
        folder / "model.keras", dataset.validation, config.evaluation
    )
    metrics = {
        "regime": config.regime,
        "recipe": config.recipe,
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "validation_images": len(dataset.validation.labels),
        "trainable_params": trainable_params,
        "total_params": total_params,
        "epochs": progress.epochs,
        "best_epoch": progress.kept_epoch,
        "seconds": progress.seconds,
        "images_per_second": progress.epochs * len(dataset.train.images) / progress.seconds,
        "history": progress.history,
        "data": {
            "source": config.data,
            "description": dataset.description,
            "sha256": dataset.fingerprint,
            "class_names": list(dataset.class_names),
        },
        "weights": weights,
        "precision": precision,
        "versions": facts["versions"],
        "config": settings,
    }
    pictures.save(pictures.losses(progress.history, progress.kept_epoch), folder / "losses.png")
    runs.write_probabilities(folder / "validation.npz", probabilities)
    board.show_run(model, dataset, config, metrics)
    runs.write_json(folder / "metrics.json", metrics)
    checkpoints.prune(folder, kept=1)  # so that it can go on for more epochs
    warn(metrics, dataset)
    images = metrics["validation_images"]
    low, high = runs.wilson(accuracy, images)
    print(f"interval    95 % of validation accuracy on {images:,} images: {low:.4f} to {high:.4f}")
    print_result(title, loss, accuracy)
    return metrics


def follow(config, dataset):
    """Fills in the settings that neither the reader nor the script gave, by the recipe's rule.

    Returns:
        The whole `Config`, and a line that says what was chosen and why (`""` if nothing was).
    """
    images, classes = len(dataset.train.labels), len(dataset.class_names)
    if config.folds and not config.images_per_class:  # equal settings for folds of unequal size
        together = images + len(dataset.validation.labels)
        images = together * (config.folds - 1) // config.folds
    multiple, _ = OPTIMIZERS[config.optimizer]
    values = {name: getattr(config, name) for name in BY_THE_IMAGES}
    given = {name: value for name, value in values.items() if value is not None}
    side = min(dataset.train.images.shape[1:3])
    chosen = recipes.settings(config.recipe, config.regime, images, side, given)
    if "learning_rate" not in given:
        chosen["learning_rate"] *= multiple
    shown = [
        f"{name.replace('_', ' ')} {chosen[name]:.3g}"
        for name in BY_THE_IMAGES
        if name not in given and (name != "views" or chosen["shift"] or chosen["zoom"])
    ]
    line = f"for {images:,} images of {classes} classes: {', '.join(shown)}"
    return dataclasses.replace(config, **chosen), line if shown else ""


def warn(metrics, dataset):
    """Says it where a model is no better than a guess, and what the likeliest cause is."""
    classes = len(dataset.class_names)
    counts = np.bincount(dataset.validation.labels, minlength=classes)
    largest = counts.max() / counts.sum()
    loss, accuracy = metrics["validation_loss"], metrics["validation_accuracy"]
    if loss > math.log(classes):
        what = f"the validation loss of {loss:.2f} is above ln({classes}) = {math.log(classes):.2f}, that of a guess"
    elif accuracy <= largest:
        what = (
            f"the validation accuracy of {accuracy:.4f} is not above {largest:.4f}, the fraction of "
            f"the largest class ({dataset.class_names[counts.argmax()]})"
        )
    else:
        return
    config = metrics["config"]
    if config["recipe"] == "report":
        cause = "the report's own protocol (raw pixels, a ReLU on the logits): see --recipe tuned"
    elif config["weights"] == "none":
        cause = "weights that are random below the head: see --weights imagenet"
    elif runs.training_accuracy(metrics) > (1 + accuracy) / 2:
        cause = "overfitting: more images, or more --weight-decay or --dropout"
    else:
        cause = "too few updates, or too high a rate: see --epochs and --learning-rate"
    print(f"warning     {what}; the likeliest cause: {cause}")


def train(model, trainable, dataset, config, facts, progress):
    """Trains a model, from its run's last checkpoint where it resumes one.

    Args:
        model, trainable, dataset, config: Of the run.
        facts: Dict of what must be equal for a run to be resumed.
        progress: `Progress` of the run; the model of its last or best epoch is in its folder.

    Returns:
        The `board.TensorBoard` of the run.
    """
    import keras

    from board import Confusion, TensorBoard
    from features import normalizations

    progress.start = time.perf_counter()
    with cli.one_line_errors():
        arrays, state = (
            checkpoints.read(progress.folder, facts) if config.resume else (None, None)
        )
        if config.head_epochs and not state:
            train_head(model, dataset, config)
            set_trainable(model, trainable)
        standardised = bool(config.head_epochs or state)
        trained, training, validation = feed(model, dataset, config, standardised)
    optimizer = make_optimizer(config, steps=config.epochs * len(training))
    confusion = Confusion(len(dataset.class_names))
    compile_model(trained, optimizer, confusion)
    compile_model(model, optimizer)  # so that its file can be evaluated
    board = TensorBoard(progress.folder, model, confusion, dataset.class_names, config.histograms)
    board.show_views(dataset.train, config)
    optimizer.build(trained.trainable_variables)
    variables = [v for layer in trained.layers for v in layer.variables] + optimizer.variables
    if state:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        for layer in normalizations(trained):
            layer.finalize_state()
        progress.restore(state)
        print(f"resume      after epoch {progress.epochs} of {config.epochs}", flush=True)

    # A progress bar per epoch, unless there would be hundreds.
    bars = sys.stdout.isatty() and len(progress.reported) == config.epochs
    trained.fit(
        training.dataset(),
        epochs=config.epochs,
        initial_epoch=config.epochs if progress.out_of_patience() else progress.epochs,
        validation_data=validation.dataset(),
        class_weight=class_weights(dataset.train.labels, config.class_weights),
        shuffle=False,  # Batches does
        validation_freq=progress.reported,
        verbose=1 if bars else 0,
        callbacks=[
            training.drawn_each_epoch(),
            board,
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: progress.epoch_end(
                    epoch + 1, model, trained, logs, report=not bars
                )
                and checkpoints.save(
                    progress.folder, progress.epochs, variables, facts, progress.state()
                )
            ),
        ],
    )
    if progress.diverged:
        cli.stop(
            f"the loss became infinite or NaN: {progress.kept()}; try a lower --learning-rate"
        )
    if config.early_stopping:
        print(f"best epoch  {progress.kept_epoch} of {progress.epochs}, by validation loss")
    return board


class Progress:
    """The epochs that are reported; one counts only once its model is in the run's folder.

    With a patience, only the model with the lowest validation loss is kept, and training stops
    after that many epochs without a better one.
    """

    def __init__(self, folder, patience=0, resumed=False):
        self.folder = folder
        self.patience = patience
        # A run that goes on stays as it was, its settings too, until its model changes.
        self.as_it_was = resumed
        self.settings = {}
        self.total = 0
        self.reported = []
        self.epochs = 0
        self.kept_epoch = 0
        self.best_loss = math.inf
        self.diverged = False
        self.history = {}
        self.seconds = 0.0
        self.start = time.perf_counter()

    def plan(self, epochs, dataset):
        """Chooses the epochs after which to validate, keep the model and print a line.

        They are at most `REPORTS`, and fewer where validating would take longer than training.
        """
        seen = epochs * len(dataset.train.labels) / len(dataset.validation.labels)
        reports = min(epochs, REPORTS, math.ceil(seen))
        self.total = epochs
        self.reported = [math.ceil(epochs * i / reports) for i in range(1, reports + 1)]

    def state(self):
        """Gives what `restore` needs to go on from here, as JSON has it."""
        names = ("epochs", "kept_epoch", "best_loss", "history", "seconds")
        return {name: getattr(self, name) for name in names}

    def restore(self, state):
        for name, value in state.items():
            setattr(self, name, value)

    def out_of_patience(self):
        return 0 < self.patience <= self.epochs - self.kept_epoch

    def reopen(self):
        """Lets a run that goes on be as it was no longer; of any other it does nothing."""
        if self.as_it_was:
            runs.reopen(self.folder, self.settings)
            self.as_it_was = False

    def epoch_end(self, epoch, model, trained, logs, report):
        """Keeps the epoch's `model` or ends fit() of `trained`; `report` prints a line about it.

        Returns:
            Whether the epoch counts.
        """
        if not all(math.isfinite(logs[key]) for key in ("loss", "val_loss") if key in logs):
            self.diverged = trained.stop_training = True
            return False
        if "val_loss" not in logs:
            return False
        self.epochs = epoch
        if not self.patience or logs["val_loss"] < self.best_loss:
            self.reopen()
            with runs.written_whole(self.folder / "model.keras") as part:
                model.save(part)
            self.kept_epoch, self.best_loss = self.epochs, logs["val_loss"]
        elif self.out_of_patience():
            trained.stop_training = True
        for key, figure in ({"epoch": epoch} | logs).items():
            self.history.setdefault(key, []).append(figure)
        seconds = time.perf_counter() - self.start
        self.seconds += seconds
        self.start = time.perf_counter()
        if report:
            print(
                f"epoch {self.epochs}/{self.total}: loss {logs['loss']:.4f}, "
                f"accuracy {logs['accuracy']:.4f}, validation loss {logs['val_loss']:.4f}, "
                f"validation accuracy {logs['val_accuracy']:.4f}, {seconds:.0f} s",
                flush=True,
            )
        return True

    def kept(self):
        """Says what an unfinished run has saved, and how to resume it."""
        if self.as_it_was:
            return f"{self.folder} is unchanged; the same command continues the run"
        if not self.kept_epoch:
            return "no model was saved yet, so there is nothing to resume"
        return (
            f"{self.folder}/model.keras is the model after epoch {self.kept_epoch} of {self.total}; "
            f"--resume {self.folder} continues the run"
        )


def check_weights(weights):
    """Refuses, before Keras is imported, a weights file that is none.

    Raises:
        OSError: It does not exist or can't be read as HDF5.
    """
    if weights in runs.WEIGHTS:
        return
    import h5py

    if not Path(weights).is_file():
        raise FileNotFoundError(
            f"--weights {weights} does not exist: expected imagenet, none or a file"
        )
    try:
        h5py.File(weights).close()
    except OSError as error:
        raise OSError(
            f"--weights {weights} is damaged or not HDF5 ({error}): expected SqueezeNet's weights"
        ) from error


def choose_precision(requested):
    """Resolves the precision `auto`: bfloat16 where the hardware multiplies in it.

    Returns:
        The name of a Keras dtype policy, and the reason for it.
    """
    if requested != "auto":
        return requested, "as asked"
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        # Tensor cores take bfloat16 from compute capability 8.0 (NVIDIA's Ampere).
        if details.get("compute_capability", (0, 0)) >= (8, 0):
            return "mixed_bfloat16", f"{details['device_name']} supports bfloat16"
        return "float32", "the GPU has no bfloat16 arithmetic"
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    found = sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    if found:
        return "mixed_bfloat16", f"the processor has {found[0]}"
    return "float32", "this CPU is not known to have bfloat16 instructions"


def build(config, classes):
    """Builds the network from pixels to class probabilities.

    Returns:
        The model, and where its weights come from: their source and its sha256.

    Raises:
        ValueError, OSError: The weights can't be had or do not fit.
    """
    import squeezenet

    path = None if config.weights == "none" else config.weights
    if path == "imagenet":
        path = squeezenet.imagenet_weights()
    backbone = squeezenet.SqueezeNet(
        include_top=False,
        weights=path,
        input_tensor=squeezenet.pixels(config.image_size, config.preprocessing),
    )
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    return (
        squeezenet.replace_head(backbone, classes, config.head, config.dropout),
        {"source": config.weights, "sha256": sha256},
    )


def set_trainable(model, trainable):
    """Applies a regime's rule to every layer; to be called before compile().

    Raises:
        ValueError: The rule leaves nothing to train.
    """
    for layer in model.layers:
        layer.trainable = bool(trainable(layer))
    if not model.trainable_weights:
        raise ValueError("the regime's rule matches no layer with weights: nothing would train")


def train_head(model, dataset, config):
    """Trains the head of a model alone, under the regime's rule, and says how far it gets.

    Gradients through a randomly initialised head would distort the pretrained layers
    (Kumar et al. 2022, https://arxiv.org/abs/2202.10054), so the head is trained first.
    """

    def only_head(layer):
        return layer.name.startswith("head_")

    # As the features are fixed, it is trained like the head of train_frozen.py.
    alone = {name: None for name in BY_THE_IMAGES if name not in ("image_size", "dropout")} | {
        "regime": "frozen", "optimizer": "adam", "epochs": config.head_epochs, "head_epochs": 0,
    }  # fmt: skip
    config, _ = follow(dataclasses.replace(config, **alone), dataset)
    # Reads the features that the regime keeps; if it keeps none, those of the frozen backbone.
    if all(layer.trainable for layer in model.layers if layer.weights):
        set_trainable(model, only_head)
    tail, training, validation = feed(model, dataset, config)
    set_trainable(model, only_head)
    compile_model(tail, make_optimizer(config, steps=config.epochs * len(training)))
    tail.fit(
        training.dataset(),
        epochs=config.epochs,
        class_weight=class_weights(dataset.train.labels, config.class_weights),
        shuffle=False,
        verbose=0,
        callbacks=[training.drawn_each_epoch()],
    )
    _, accuracy = tail.evaluate(validation.dataset(), verbose=0)
    print(f"head        trained alone: validation accuracy {accuracy:.4f}", flush=True)


def feed(model, dataset, config, standardised=False):
    """Decides what is trained on what: the model on pixels, or its tail on cached features.

    What the head reads is standardised by the training images, unless it is already.

    Returns:
        The Keras model to train, and the batches that train and validate it.

    Raises:
        OSError: There is no room for the features.
    """
    import keras

    from features import Cache, FeatureBatches, split, standardise
    from pipeline import Batches, views_of

    classes = len(dataset.class_names)
    drawn = views_of(config)
    training = Batches(dataset.train, classes, config.batch_size, **drawn)
    validation = Batches(dataset.validation, classes)
    # Views that are new each epoch are too many to keep.
    kept = training.views and config.features == "cache"
    prefix, tail = split(model) if kept else (None, model)
    if prefix is None:
        # Compiled otherwise than the one that is saved.
        tail = keras.Model(model.inputs, model.outputs[0], name=model.name)
    else:
        views = Batches(dataset.train, classes, **drawn)
        seen, held_out = Cache(prefix, dataset).load([("train", views), ("validation", validation)])
        training = FeatureBatches(
            seen, dataset.train, classes, batch_size=config.batch_size, **drawn
        )
        validation = FeatureBatches(held_out, dataset.validation, classes)
    if not standardised:
        standardise(model, prefix.outputs if prefix else model.inputs, training)
    return tail, training, validation


def class_weights(labels, kind):
    """Gives each class, by its number, the weight that makes it count as much as any other.

    That is with the kind `balanced`; with `none` there are no weights, None.
    """
    if kind == "none":
        return None
    counts = np.bincount(labels)
    return {label: len(labels) / (len(counts) * count) for label, count in enumerate(counts)}


def make_optimizer(config, steps):
    """Makes the optimizer of a run of so many training steps."""
    import keras

    rate = config.learning_rate
    if config.schedule == "cosine":
        warmup = steps // 10
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    multiple, settings = OPTIMIZERS[config.optimizer]
    settings = settings | {"learning_rate": rate}
    if config.weight_decay:
        settings["weight_decay"] = config.weight_decay / multiple  # it is multiplied by the rate
    return keras.optimizers.get({"class_name": config.optimizer, "config": settings})


def compile_model(model, optimizer, accuracy="accuracy"):
    model.compile(
        optimizer=optimizer,
        loss="categorical_crossentropy",
        metrics=[accuracy],
        jit_compile=False,  # XLA on a CPU is slower: 4 times at 96 px
        steps_per_execution=16,  # a small tail's step is shorter than Keras' work between two
    )


def describe(dataset):
    counts = (len(split.images) for split in (dataset.train, dataset.validation, dataset.test))
    sizes = "{:,} train, {:,} validation, {:,} test images".format(*counts)
    return f"{dataset.description}: {sizes}, sha256 {dataset.fingerprint[:12]}"


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def versions():
    """Versions of what a figure depends on."""
    import keras
    import numpy
    import tensorflow

    modules = {"keras": keras, "numpy": numpy, "tensorflow": tensorflow}
    return {"python": platform.python_version()} | {
        name: module.__version__ for name, module in modules.items()
    }
