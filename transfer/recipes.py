"""Settings that follow from the data: training length, learning rate and regularisation.

A recipe is a rule for each regime: a function of the number of training images, adjusted for their
size and, if they are few, for the number of classes. Values measured at a few numbers of images are
interpolated by a power law, so that one image more or less makes no jump (except in the number of
views, which is whole); outside that range the nearest measured value holds. Modelled on BiT's
hyper-rule (Kolesnikov et al. 2020, https://arxiv.org/abs/1912.11370), which counts steps, not epochs:
few images need many more epochs than many images do.
"""

import math

# Lines of progress, confusion matrices and the like in a run, at most.
REPORTS = 20
# The least side in pixels of crops: from 47 on, the last map has several cells.
LEAST_CROP = 48


def between(images: int, measured: dict[int, float]) -> float:
    """Interpolates a positive figure by a power law between the amounts at which it was measured.

    Args:
        images: Number of training images, above 0.
        measured: Dict of the figure by number of images.
    """
    (least, figure), *others = sorted(measured.items())
    for more, other in others:
        if images <= least:
            break
        if images < more:
            fraction = math.log(images / least) / math.log(more / least)
            return figure * (other / figure) ** fraction
        least, figure = more, other
    return figure


def fixed_views(mirror: bool) -> int:
    """Counts the views that are not random: the image and, with `mirror`, its mirrored copy."""
    return 2 if mirror else 1


def all_views(views: int, mirror: bool, shift: float, zoom: float) -> int:
    """Counts the views of an image that a run ever sees, by its settings; 0 if each epoch draws new ones."""
    return views if shift or zoom else fixed_views(mirror)


def standardised_views(views: int, mirror: bool) -> int:
    """Counts the views that a head is standardised over: those kept or, if each epoch draws new ones,
    the image and its mirrored copy."""
    return views or fixed_views(mirror)


def training_size(image_size: int, zoom: float) -> int:
    """Returns the side in pixels to which the views that a run trains on are resized.

    Of whole images that is `image_size`; of random crops it is less, which makes objects as
    large, on average, as they are in the whole images that are evaluated: enlarged to the size of
    those, crops would show them larger (Touvron et al. 2019, https://arxiv.org/abs/1906.06423) and
    take longer.

    Args:
        image_size: Side to which whole images are resized, in pixels.
        zoom: How much smaller than an image's side a crop's may be, as a fraction of it.
    """
    return max(round(image_size * (1 - zoom / 2)), min(image_size, LEAST_CROP))


def kept_views(images: int) -> int:
    """Returns how many views of an image to keep features of, itself and its mirrored copy first.

    Each view costs a pass through the frozen layers; only a small set of images needs many.
    """
    return round(between(images, {500: 20, 10_000: 2}))


def frozen(images: int) -> dict[str, float]:
    return {
        "steps": between(images, {100: 500, 1_000: 1_000, 40_000: 6_260}),
        "batch_size": between(images, {1_000: 64, 10_000: 128}),
        # The head is new and holds nothing to lose.
        "learning_rate": 1e-3,
        # Few images can't determine weights for thousands of features: decay keeps those small.
        "weight_decay": between(images, {250: 10, 1_000: 3, 40_000: 0.3}),
        "dropout": between(images, {1_000: 0.5, 40_000: 0.3}),
        "shift": 0.0,
        "zoom": 0.5,
        "views": kept_views(images),
        "averaging": 0.0,
        "head_steps": 0,
    }


def last_fire(images: int) -> dict[str, float]:
    return {
        "steps": between(images, {100: 100, 1_000: 250, 40_000: 6_260}),
        "batch_size": between(images, {1_000: 64, 10_000: 128}),
        # Few images should not change pretrained layers much; and over the many steps that many
        # images take, a rate of 1e-3 would destroy what those layers have learnt.
        "learning_rate": between(images, {200: 1e-4, 1_000: 1e-3, 40_000: 5e-4}),
        # Even a tail this small overfits unless decay keeps its weights small. Decay also shrinks
        # the pretrained weights: over the many steps that many images take, 1.5 is too much.
        "weight_decay": between(images, {250: 20, 1_000: 3, 40_000: 0.4}),
        "dropout": 0.5,
        "shift": 0.0,
        "zoom": 0.5,
        "views": kept_views(images),
        "averaging": 0.0,
        # Gradients through a random head distort the pretrained layers, so it is trained first.
        "head_steps": between(images, {100: 500, 1_000: 1_000, 40_000: 626}),
    }


def full(images: int) -> dict[str, float]:
    return {
        "steps": between(images, {100: 150, 1_000: 240, 10_000: 2_350, 40_000: 9_375}),
        "batch_size": between(images, {100: 32, 1_000: 64}),
        "learning_rate": between(images, {100: 1e-4, 1_000: 1e-3, 40_000: 3e-4}),
        "weight_decay": between(images, {250: 4, 1_000: 1, 10_000: 0.3, 40_000: 0.05}),
        "dropout": between(images, {1_000: 0.5, 40_000: 0.3}),
        # With all layers trainable the network overfits: new views each epoch counter that.
        "shift": 0.125,
        "zoom": 0.5,
        "views": 0,
        # Trained on few images, pretrained layers forget what they learnt from many. An average that
        # still includes the initial weights forgets less, as Wortsman et al.'s interpolation between
        # both does (2022, https://arxiv.org/abs/2109.01903).
        "averaging": between(images, {250: 1.0, 1_000: 0.5, 10_000: 0.36, 40_000: 0.02}),
        "head_steps": between(images, {100: 500, 1_000: 1_000, 40_000: 1_878}),
    }


def report(images: int) -> dict[str, float]:
    """The protocol of 2018, to the letter, whatever the images."""
    return {
        "epochs": 10,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "dropout": 0.5,
        "shift": 0.0,
        "zoom": 0.0,
        "views": 0,
        "averaging": 0.0,
        "head_epochs": 0,
    }


RULES = {
    # The features of what is frozen up to pool5 or beyond are small enough to be kept.
    "tuned": {
        "frozen": frozen,
        "fire9": last_fire,
        "last_fire": last_fire,
        "fire7": last_fire,
        "fire6": last_fire,
        "full": full,
    },
    "report": {"full": report},
}


# The side in pixels to which a recipe enlarges smaller images, by rule. Below it the last map has
# too few cells; but a step through all layers costs time in proportion to the image's area.
LEAST_SIZE = {frozen: 160, last_fire: 160, full: 128}
# The ImageNet weights were trained on crops of 224 px, in which objects look larger than in a whole
# image of that size: a larger side makes up for that, and smaller photographs are enlarged as much
# (Touvron et al. 2019, https://arxiv.org/abs/1906.06423, who gain most at 288 px).
TRAINED_SIZE, LARGEST_SIZE = 224, 288


def caution(images: int, classes: int) -> float:
    """Returns by how much a few images of few classes are regularised more than those of ten classes.

    The loss of a random guess is ln(classes). Trained on 20 or 100 images of two classes that are hard
    to tell apart, a model would otherwise end above it: confident, but wrong.

    Args:
        images: Number of training images.
        classes: Number of classes, at least 2.
    """
    factor = between(images, {20: 8, 60: 3, 100: 2, 200: 1})
    return factor ** max(0, (10 - classes) / 8)


def settings(
    recipe: str,
    regime: str,
    images: int,
    side: int,
    given: dict[str, float],
    classes: int = 10,
    pretrained: bool = True,
) -> dict[str, float]:
    """Returns the settings that a recipe chooses for so many images.

    Args:
        recipe, regime: Names; a regime without a rule of its own takes that of `full`.
        images: Number of training images, at least 1.
        side: Side of the images, in pixels.
        given: Dict of the settings that are given, which override the rule's.
        classes: Number of classes.
        pretrained: Whether the layers below the head are, and not random.

    Returns:
        Dict of `image_size`, `epochs`, `head_epochs`, `batch_size`, `learning_rate` (Adam's),
        `weight_decay`, `dropout`, `shift`, `zoom`, `views` and `averaging`, those of `given` as they
        were.
    """
    rules = RULES[recipe]
    chosen = rules.get(regime, rules["full"])(images)
    if recipe == "tuned":
        factor = caution(images, classes)
        chosen["weight_decay"] *= factor
        if pretrained and regime != "frozen":
            # What these layers have learnt is worth more than a few images.
            chosen["learning_rate"] /= factor
    least = LEAST_SIZE[RULES["tuned"].get(regime, full)]
    # Images that are enlarged have no detail to zoom in on: it would only blur them.
    chosen["zoom"] *= min(1, max(0, side - least) / (TRAINED_SIZE - least))
    # Two are the image and its mirrored copy, which are not zoomed.
    if "views" not in given and 0 < chosen["views"] <= 2:
        chosen["zoom"] = 0
    chosen["image_size"] = min(LARGEST_SIZE, max(least, round(side * LARGEST_SIZE / TRAINED_SIZE)))
    rule = chosen["shift"], chosen["zoom"]
    chosen |= given
    # The rule's number of views holds only for its own shift and zoom, and only if one is above 0.
    if "views" not in given and ((chosen["shift"], chosen["zoom"]) != rule or not any(rule)):
        chosen["views"] = 0
    fitted = _whole if recipe == "report" or "batch_size" in given else _even
    chosen["batch_size"] = fitted(chosen["batch_size"], images)
    head_batch_size = _even(frozen(images)["batch_size"], images)
    for epochs, steps, batch_size in (
        ("epochs", "steps", chosen["batch_size"]),
        ("head_epochs", "head_steps", head_batch_size),
    ):
        total = chosen.pop(steps, 0)
        if epochs not in chosen:
            steps_per_epoch = math.ceil(images / batch_size)
            chosen[epochs] = _divisible(max(total / steps_per_epoch, min(1, math.ceil(total))))
    if "epochs" in given and "head_epochs" not in given:  # a short run is short before it, too
        chosen["head_epochs"] = min(chosen["head_epochs"], given["epochs"])
    return chosen


def _divisible(epochs):
    """Rounds a number of epochs so that at most twenty equal parts make it up."""
    part = math.ceil(epochs / REPORTS)
    return round(epochs / part) * part if part else 0


def _whole(batch_size, images):
    return max(1, min(round(batch_size), images))


def _even(batch_size, images):
    """Makes batches smaller where the last of an epoch would have less than an eighth of their images.

    Even a tiny last batch is a full training step: with two batches per epoch, every other step. With
    a hundred, it hardly matters, and may stay.
    """
    size = _whole(batch_size, images)
    last = images % size
    return math.ceil(images / math.ceil(images / size)) if 0 < last < size / 8 else size
