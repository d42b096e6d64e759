"""How long a run is likely to take: from milliseconds per image that were measured, by depth."""

from transfer import recipes, terminal
from transfer.precision import CORES, computes_in_bfloat16
from transfer.progress import Progress
from transfer.settings import of_head

# Milliseconds for an image of 160 px on two cores of an AMD EPYC with bfloat16, its gradients included.
TRAINED = {
    "head": 0.05, "fire9": 0.5, "fire8": 0.7, "fire7": 0.9, "fire6": 1.1, "fire5": 2.6,
    "fire4": 3.0, "fire3": 3.3, "fire2": 3.5, "all": 3.6,
}  # fmt: skip
FORWARD = 1.2  # through the whole network, to keep or to evaluate what comes out
AT_ONCE = 1.3  # how much faster two processes get through a sweep than one (docs/speed.md)
# Times as long in float32, measured on an Intel Xeon with AVX-512; 5 with AVX2 alone. What a CPU
# emulates takes longer still.
FLOAT32 = 4.0
ONCE = 7.0  # seconds for building, compiling, plots and files


def seconds(depth, config, dataset):
    """Estimates the seconds of a run whose settings have been filled in by `settings.follow`.

    Args:
        depth: One of `depths.DEPTHS`.
        config: `settings.Config` of the run.
        dataset: Its `data.Dataset`.

    Returns:
        Seconds, on two cores.
    """
    images, validated = len(dataset.train.labels), len(dataset.validation.labels)
    area, trained_area = ((side / 160) ** 2 for side in (config.image_size, config.trained_side))
    head = of_head(config, dataset) if config.head_epochs else config
    views = max(recipes.standardised_views(one.all_views, one.mirror) for one in (config, head))
    reports = Progress.reports(config.epochs, dataset, config.early_stopping)
    frozen = TRAINED[depth] < FORWARD  # most of the network: its features are kept, if any are
    kept = config.features == "cache" and config.all_views
    passes, evaluated = images * views, validated
    if not (frozen and kept):
        evaluated += validated * reports
    if frozen and not kept:
        passes += images * config.epochs
    if config.features != "cache":
        passes += images * config.head_epochs
    milliseconds = (
        FORWARD * (area * evaluated + trained_area * passes)
        + TRAINED["head"] * images * config.head_epochs
        + (1 if depth == "head" else trained_area) * TRAINED[depth] * images * config.epochs
    )
    slower = 1 if computes_in_bfloat16(config.precision) else FLOAT32
    return ONCE + slower * milliseconds / 1000


def in_words(seconds):
    """States an estimate for one or two cores; more were never measured."""
    return (
        f"about {terminal.duration(2 * seconds)} on one core"
        if CORES == 1
        else f"about {terminal.duration(seconds)} on two cores"
    )
