"""What is asked of a run: its settings, their defaults, and what follows from the images."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import data
from transfer import recipes, terminal

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

# The settings that a recipe derives from the images: their number, size and classes.
BY_THE_IMAGES = (
    "image_size", "epochs", "head_epochs", "batch_size", "learning_rate", "weight_decay", "dropout",
    "shift", "zoom", "views", "averaging",
)  # fmt: skip

# Settings that say nothing about what was trained.
NOT_LEARNT = ("name", "logs", "data", "features", "histograms", "on_bad_image", "resume", "given")

# Values of --weights that are not files.
WEIGHTS = ("imagenet", "drawn", "none")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


def flag(default, help, **limits):
    """A field of Config that is a flag too.

    `limits` are `choices`, `minimum`, `above`, `below` or `maximum` (of numbers a million by default);
    `shown`, the default as the help shows it; `parse`, the function that reads the text.
    """
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Those with a help text are flags of the command line.

    The defaults are those of the recipe `tuned`; RECIPES has what the others set. A setting that
    is None follows from the images (see recipes.py), unless the user or a training script sets it.
    """

    regime: str

    data: str = flag(
        "cifar10", "cifar10, shapes (synthetic images, no download), FILE.npz or a folder"
    )
    weights: str = flag(
        "imagenet",
        "imagenet, drawn (pretrained on synthetic images; no download), none (random) or a FILE of "
        "SqueezeNet's weights",
        parse=terminal.filled,
    )
    recipe: str = flag(
        "tuned", "tuned (ours) or report (2018, to the letter)", choices=tuple(RECIPES)
    )

    # ImageNet's features are of objects that fill 224 px: 32 px leave a last map of 1x1.
    image_size: int | None = flag(
        None, "side in pixels to which images are resized", minimum=32, maximum=2048
    )
    epochs: int | None = flag(None, "passes over the training images", minimum=1)
    batch_size: int | None = flag(None, "images per training step", minimum=1)
    learning_rate: float | None = flag(None, "the optimizer's peak learning rate", above=0)
    # A step shrinks each weight by this times the learning rate (Adam's; decoupled: arXiv 1711.05101).
    weight_decay: float | None = flag(None, "weight decay of the layers that train", minimum=0)
    # Before the classifier, as in the paper.
    dropout: float | None = flag(
        None, "fraction of the classifier's inputs dropped in training", minimum=0, below=1
    )
    shift: float | None = flag(
        None, "how far training images are shifted, as a fraction of their side", minimum=0, below=1
    )
    zoom: float | None = flag(
        None, "how much smaller random crops may be, as a fraction of the side", minimum=0, below=1
    )
    # Of what is frozen, the features of each view are computed once.
    views: int | None = flag(
        None,
        "views kept per training image for frozen layers; 0: new each epoch",
        minimum=0,
        maximum=1000,
    )
    # An exponential moving average (Polyak and Juditsky 1992), as Keras' optimizers keep it.
    averaging: float | None = flag(
        None,
        "time constant of the weights' moving average, as a fraction of all steps; 0: none",
        minimum=0,
        maximum=10,
    )
    # A random head would distort the layers below it.
    head_epochs: int | None = flag(
        None, "epochs for which the head is first trained alone", minimum=0
    )

    optimizer: str = flag("adam", "the optimizer", choices=tuple(OPTIMIZERS))
    early_stopping: int = flag(
        0,
        "stop at the first validation at which the loss has not fallen for this many epochs; 0: never",
        minimum=0,
    )
    # Caffe's BGR and means: without them no channel has the values the weights were trained on.
    preprocessing: str = "caffe"
    # Reads several fire modules: worth most where the layers below are frozen or barely change.
    head: str = "pooled"
    # A mirrored truck is a truck.
    mirror: bool = flag(True, "train on mirrored copies of the images, too")
    # Warm-up over the first tenth of the steps, then cosine decay to zero.
    schedule: str = "cosine"

    # 0 stands for all, and for one run.
    images_per_class: int = flag(
        0, "train on this many of each class, chosen at random by the seed", minimum=1, shown="all"
    )
    folds: int = flag(
        0, "train this many runs, each validated on a different fold", minimum=2, shown="one run"
    )
    fold: int = flag(0, "train only this fold, counted from 1", minimum=1, shown="all of them")
    # The epochs for which rate and averaging were planned before --resume extended the run, and where
    # that was before the last of them: "15 at 4, 30".
    extended_from: str = ""
    # The side in pixels to which the views that a run trains on are resized; 0: image_size.
    training_size: int = 0
    # Those of BY_THE_IMAGES that were given, not chosen by the recipe's rule, and `mirror`; None before
    # the rule has chosen.
    given: str | None = None

    evaluation: str = flag(
        "plain",
        "evaluate images as they are, or average over them and their mirrored copies (test-time "
        "augmentation)",
        choices=("plain", "mirrored"),
    )
    histograms: bool = flag(False, "write histograms of the weights to TensorBoard")
    features: str = flag(
        "cache",
        "features of the frozen layers: compute them once (cache), or for every batch (none)",
        choices=("cache", "none"),
    )
    on_bad_image: str = flag(
        "stop",
        "if images of a folder can't be read: list them and stop, or skip them",
        choices=("stop", "skip"),
    )
    near_duplicates: str = flag(
        "keep",
        "images of a folder that look alike across splits: keep or drop",
        choices=("keep", "drop"),
    )
    class_weights: str = flag(
        "none",
        "class weights in the loss; balanced gives each class equal weight",
        choices=("none", "balanced"),
    )
    seed: int = flag(
        0, "seed of all randomness: weights, order, views, splits, folds", minimum=0, below=2**32
    )
    precision: str = flag(
        "auto", "floating-point precision; auto depends on the hardware", choices=PRECISIONS
    )
    resume: str = flag(
        "", "folder of a run to resume, with that run's settings", parse=terminal.expanded
    )
    logs: str = flag("logs", "folder of all runs", parse=terminal.expanded)
    name: str = flag(
        "", "name of the run's folder (default: recipe and time)", parse=terminal.filled
    )

    @property
    def all_views(self) -> int:
        """The number of views of an image; 0 if each epoch draws new ones, too many to keep."""
        return recipes.all_views(self.views or 0, self.mirror, self.shift or 0.0, self.zoom or 0.0)

    @property
    def trained_side(self) -> int | None:
        """The side in pixels of the views that a run trains on; None before the rule has chosen."""
        return self.training_size or self.image_size

    @property
    def for_data(self) -> dict[str, Any]:
        """Those of the settings that `data.load` takes."""
        return {name: getattr(self, name) for name in data.SETTINGS}

    def with_absolute_sources(self) -> "Config":
        """Returns these settings with `data` and `weights`, where they are files, as absolute paths."""
        return dataclasses.replace(self, **absolute_sources(dataclasses.asdict(self)))


def learnt(config):
    """Returns the settings that determine what a run learns, which --resume can't change.

    Of the epochs, that is the number for which a schedule or an average was planned first.
    """
    changing = (*NOT_LEARNT, "weights", "epochs", "extended_from")  # the weights have a hash
    kept = {key: value for key, value in vars(config).items() if key not in changing}
    if config.schedule == "cosine" or config.averaging:
        first = f"{config.extended_from or config.epochs}".split()[0]
        kept["planned epochs"] = int(first.rstrip(","))
    return kept


def follow(config, dataset):
    """Fills in the settings that neither the user nor the script gave, by the recipe's rule.

    Returns:
        The whole `Config`, and a line that says what was chosen and why (`""` if nothing was).

    Raises:
        ValueError: Settings that are given contradict each other.
    """
    images, classes = dataset.planned, len(dataset.class_names)
    multiple, _ = OPTIMIZERS[config.optimizer]
    values = {name: getattr(config, name) for name in BY_THE_IMAGES}
    given = {name: value for name, value in values.items() if value is not None}
    side, pretrained = dataset.side, config.weights != "none"
    chosen = recipes.settings(
        config.recipe, config.regime, images, side, given, classes, pretrained
    )
    by_rule = not {"shift", "zoom"} <= given.keys()
    if "views" in given and not chosen["shift"] + chosen["zoom"] and (given["views"] or by_rule):
        raise ValueError(
            f"--views {given['views']} has no effect without --shift or --zoom: "
            + (
                "an image and its mirrored copy are all the views there are"
                if config.mirror
                else "the image itself is the only view"
            )
        )
    fixed = recipes.fixed_views(config.mirror)
    if 0 < given.get("views", 0) <= fixed and not config.resume:
        raise ValueError(
            f"--views {given['views']}: expected {fixed + 1} or more, as the first "
            f"{'two are the image and its mirrored copy' if config.mirror else 'is the image itself'}; "
            "to train on no others, give --shift 0 --zoom 0"
        )
    if 0 < given.get("shift", 0) * side < 1 and not config.resume:
        raise ValueError(
            f"--shift {given['shift']:g} is less than a pixel of images of {side} x {side}: expected "
            f"{math.ceil(10_000 / side) / 10_000:g} or more, or 0"
        )
    if "learning_rate" not in given:
        chosen["learning_rate"] *= multiple
    shown = [
        f"{name.replace('_', ' ')} {chosen[name]:.3g}"
        for name in BY_THE_IMAGES
        if name not in given and (name != "views" or chosen["shift"] or chosen["zoom"])
    ]
    why = ""
    if images != len(dataset.train.labels):  # see `Dataset.planned`
        why = ", as for every fold" if config.folds else ", near duplicates included"
    line = f"for {images:,} images of {classes:,} classes{why}: {', '.join(shown)}"
    if config.given is None:
        named = [name for name in given if name not in RECIPES[config.recipe]]
    else:
        named = config.given.split()
    if config.mirror != _recipes_mirror(config) and "mirror" not in named:
        named.append("mirror")
    # A run that an older version of this project began has crops as large as whole images.
    if config.given is None or config.training_size:
        size = recipes.training_size(int(chosen["image_size"]), chosen["zoom"])
        chosen["training_size"] = size if size != chosen["image_size"] else 0
    whole = dataclasses.replace(config, given=" ".join(named), **chosen)
    return whole, line if shown else ""


def of_head(config, dataset):
    """Returns the settings with which the head of a run is trained alone, first.

    As the features are fixed, it is trained as by train_frozen.py; if the run's shift, zoom or views
    differ from the rule's, the head uses them, too.

    Args:
        config: The run's whole `Config`.
        dataset: Its `data.Dataset`.
    """
    alone = {name: None for name in BY_THE_IMAGES if name not in ("image_size", "dropout")} | {
        "regime": "frozen", "optimizer": "adam", "epochs": config.head_epochs, "head_epochs": 0,
    }  # fmt: skip
    side = dataset.side
    rule = recipes.settings(config.recipe, config.regime, dataset.planned, side, {})
    if any(getattr(config, name) != rule[name] for name in ("shift", "zoom", "views")):
        shift = config.shift if config.shift * side >= 1 else 0.0
        views = config.views or recipes.kept_views(dataset.planned)
        if views > recipes.fixed_views(config.mirror) and shift + config.zoom > 0:
            alone |= {"shift": shift, "zoom": config.zoom, "views": views}
        else:
            alone |= {"shift": 0.0, "zoom": 0.0, "views": None}
    return follow(dataclasses.replace(config, **alone), dataset)[0]


def _recipes_mirror(config):
    return RECIPES[config.recipe].get("mirror", Config.mirror)


def check_flags(config):
    """Refuses flags that contradict each other, before images are read.

    Raises:
        ValueError: They do.
    """
    if _recipes_mirror(config) and not config.mirror and config.evaluation == "mirrored":
        raise ValueError("--evaluation mirrored contradicts --no-mirror: give only one of them")


def absolute_sources(settings):
    """Returns `data` and `weights`, where the settings have them and they are files, as absolute paths."""
    named = {"data": data.SOURCES, "weights": WEIGHTS}  # not files
    return {
        key: os.path.abspath(os.path.expanduser(settings[key]))
        for key in named.keys() & settings.keys()
        if settings[key] not in named[key]
    }


def check_weights(weights):
    """Refuses a weights file that is missing or not HDF5, before Keras is imported.

    Raises:
        OSError: It is no file or can't be read as HDF5.
    """
    if weights in WEIGHTS:
        return
    import h5py

    path = Path(os.path.expanduser(weights))
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise OSError(f"--weights {weights} {kind}: expected imagenet, drawn, none or a file")
    try:
        h5py.File(path).close()
    except OSError as error:
        raise OSError(
            f"--weights {weights} is damaged or not HDF5 ({error}): expected SqueezeNet's weights, "
            "as an .h5 file"
        ) from error
