"""One run, top to bottom: data, network, training, figures."""

import dataclasses
import math
import os
import platform
import shlex
import statistics
from pathlib import Path

import numpy as np

import data
from transfer import checkpoints, cost, depths, files, hints, results, runs, terminal
from transfer.precision import choose_precision
from transfer.progress import Progress
from transfer.settings import RECIPES, check_flags, check_weights, follow, learnt
from transfer.terminal import counted, say


def run(title, trainable, config, hopeless=None):
    """Trains and evaluates one regime; leaves its figures and its model in the run's folder.

    Args:
        title: Printed before the figures.
        trainable: The regime: a function of a Keras layer that says whether it trains.
        config: `Config`. With `folds`, so many runs are made, one after the other.
        hopeless: As `Progress` takes it.

    Returns:
        The metrics, as written to metrics.json; with `folds`, a list of them. An error that the
        user can fix, a loss that is NaN and Ctrl-C end the program with one line.

    Raises:
        progress.Hopeless: `hopeless` said so.
    """
    if not config.folds or config.fold:
        return _run_one(title, trainable, config, hopeless)
    with terminal.ends_quietly("the folds that are finished are kept"):
        return _run_folds(title, trainable, config, hopeless)


def print_result(title, loss, accuracy):
    """Prints the three lines of the 2018 report."""
    print(title)
    print(f"Validation loss: {loss}")
    print(f"Validation accuracy (NORMALIZED): {accuracy}", flush=True)


def _run_folds(title, trainable, config, hopeless):
    names = [config.name and f"{config.name}-fold-{fold}" for fold in range(1, config.folds + 1)]
    with terminal.one_line_errors():
        runs.refuse_taken(config.logs, config.regime, filter(None, names))
    made = []
    try:
        for fold, name in enumerate(names, 1):
            say("fold", f"{fold} of {config.folds}", flush=True)
            one = dataclasses.replace(config, fold=fold, name=name)
            made.append(_run_one(title, trainable, one, hopeless))
    except (SystemExit, KeyboardInterrupt) as ended:
        interrupted = not isinstance(ended, SystemExit) or ended.code == terminal.INTERRUPTED
        if made or interrupted:  # else --fold would be refused, too
            say("folds", f"{len(made)} of {config.folds} finished; --fold trains a single one")
        if isinstance(ended, KeyboardInterrupt):
            terminal.stop("interrupted between two folds", status=terminal.INTERRUPTED)
        raise
    losses, accuracies = (
        [metrics[key] for metrics in made] for key in ("validation_loss", "validation_accuracy")
    )
    spread = statistics.stdev(accuracies)
    say("folds", f"validation accuracy {statistics.fmean(accuracies):.4f} ± {spread:.4f}")
    print_result(title, statistics.fmean(losses), statistics.fmean(accuracies))
    return made


def _run_one(title, trainable, config, hopeless):
    with terminal.one_line_errors():
        check_flags(config)
        check_weights(config.weights)
        if config.resume:
            folder, made = Path(config.resume), []
            if not os.access(folder, os.W_OK):
                raise OSError(f"{folder} can't be resumed: it can't be written to")
        else:
            runs.check_logs(config.logs, config.data)
            folder, made = runs.create(config.logs, config.regime, config.recipe, config.name)
    progress = Progress(folder, config.early_stopping, bool(config.resume), hopeless)
    try:
        with runs.removed_without_model(made), files.held(folder) as alone:
            if alone is False:
                terminal.stop(f"{folder} can't be resumed: another process is training it")
            files.clear_parts(folder)
            return _run(title, trainable, config, progress)
    except KeyboardInterrupt:
        terminal.stop(f"interrupted: {progress.kept()}", status=terminal.INTERRUPTED)
    except OSError as error:  # such as a full disk
        terminal.stop(f"{terminal.reason(error)}: {progress.kept()}")
    except Exception as error:
        if terminal.interruption.is_set():
            terminal.stop(f"interrupted: {progress.kept()}", status=terminal.INTERRUPTED)
        # TensorFlow's own, of disk or memory, and Python's.
        if type(error).__name__ != "ResourceExhaustedError" and not isinstance(error, MemoryError):
            raise
        if "No space left on device" in str(error):
            terminal.stop(f"no space is left on the disk: {progress.kept()}")
        terminal.stop(
            "memory ran out: start a new run with a smaller --batch-size or --image-size "
            f"({progress.kept(resumable=False)})"
        )


def _run(title, trainable, config, progress):
    folder = progress.folder
    with terminal.one_line_errors():
        dataset = data.load(config.data, **config.for_data)
        if config.resume:
            runs.refuse_changed(folder, dataset, config.data)
        config = config.with_absolute_sources()
        config, chosen = follow(config, dataset)
        keras = terminal.import_keras()
        from transfer import fitting, network

        if RECIPES[config.recipe].get("precision") == config.precision:
            asked = f"as the recipe {config.recipe} has it"
        else:
            asked = "as asked"
        precision, reason = choose_precision(config.precision, asked)
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(precision)
        model, weights = network.build(config, len(dataset.class_names))
    network.set_trainable(model, trainable)
    params = {
        "trainable_params": network.count(model.trainable_weights),
        "total_params": network.count(model.weights),
    }
    trained, total = params.values()
    say("regime", f"{config.regime}: {trained:,} of {total:,} parameters are trained")
    say("recipe", f"{config.recipe}, seed {config.seed}")
    say("data", describe(dataset))
    say("classes", ": ".join(data.named_classes(dataset.class_names)))
    for note in notes(dataset, mirror=config.mirror and not config.resume):
        say("note", note)
    if chosen:
        say("settings", chosen)
    say("weights", config.weights)
    say("precision", f"{precision} ({reason})")
    depth = depths.depth(config.regime)
    if depth and config.recipe == "tuned" and not config.resume:
        say("time", cost.in_words(cost.seconds(depth, config, dataset)))
    logs = shlex.quote(str(folder.parent.parent))
    say("run folder", f"{folder} (tensorboard --logdir {logs})", flush=True)

    settings = dataclasses.asdict(config) | {"resume": ""}
    if config.resume:
        progress.settings = settings
    else:
        if dataset.files:
            files.write_json(folder / "split.json", dataset.files)
        files.write_json(folder / "config.json", settings)
    facts = {
        "settings": learnt(config),
        "data": " ".join(sha256[:16] for sha256 in dataset.order.values()),
        "weights": weights["sha256"],
        "precision": precision,
        "versions": versions(),
    }
    board = fitting.train(model, trainable, dataset, config, facts, progress)
    progress.reopen()  # still untouched if further training improved nothing
    known = {key: facts[key] for key in ("precision", "versions")}
    known |= {"weights": weights, "config": settings} | params
    metrics = _finish(dataset, config, progress, known, board)
    print_result(title, metrics["validation_loss"], metrics["validation_accuracy"])
    return metrics


def _finish(dataset, config, progress, known, board):
    """Evaluates the model that was kept, and writes the run's figures; returns its metrics."""
    from transfer import plots
    from transfer.evaluation import judge, load

    # All that is shown is of the file: the model in memory may be that of a later epoch.
    folder = progress.folder
    model = load(folder / "model.keras")
    probabilities, loss, accuracy = judge(model, dataset, "validation", config.evaluation)
    images = len(dataset.validation.labels)
    metrics = {
        "regime": config.regime,
        "recipe": config.recipe,
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "validation_images": images,
        "model_weights_sha256": runs.weights_digest(folder / "model.keras"),
        "epochs": progress.epochs,
        "best_epoch": progress.kept_epoch,
        "seconds": progress.seconds,
        "images_per_second": progress.epochs * len(dataset.train.images) / progress.seconds,
        "history": progress.history,
        "data": {
            "source": config.data,
            "description": dataset.description,
            "side": dataset.side,
            "validation_pool": dataset.validation_pool,
            "validation_drawn_from": dataset.validation_drawn_from,
        }
        | dataset.identity,
    } | known
    weighted = config.class_weights != "none"
    plot = plots.losses(progress.history, progress.kept_epoch, weighted)
    plots.save(plot, folder / "losses.png")
    runs.write_probabilities(folder / "validation.npz", probabilities)
    board.show_run(model, dataset, metrics)
    (folder / "test.json").unlink(missing_ok=True)  # compare.py may have judged an earlier model
    files.write_json(folder / "metrics.json", metrics)
    checkpoints.prune(folder, kept=1)  # so that it can go on for more epochs
    warn(metrics, dataset)
    low, high = results.wilson(accuracy, images)
    say(
        "interval",
        f"validation accuracy on {counted(images, 'image')}, 95 %: {low:.4f} to {high:.4f}",
    )
    return metrics


def notes(dataset, mirror):
    """Returns lines on what is unusual about the images, and about training on them."""
    if not mirror:
        return dataset.notes
    return *dataset.notes, *hints.mirrored(dataset.class_names, named=bool(dataset.files))


def warn(metrics, dataset):
    """Warns if a model is no better than guessing, and names the likeliest cause."""
    classes = len(dataset.class_names)
    counts = np.bincount(dataset.validation.labels, minlength=classes)
    largest = counts.max() / counts.sum()
    loss, accuracy = metrics["validation_loss"], metrics["validation_accuracy"]
    guess = math.log(classes)
    if loss > guess:
        # Where every logit is dead, it is that in float32.
        above = "" if math.isclose(loss, guess, rel_tol=1e-6) else "above "
        what = (
            f"the validation loss of {loss:.2f} is {above}ln({classes}) = {guess:.2f}, "
            "the loss of a random guess"
        )
    elif accuracy <= largest < 1:
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
    elif results.training_accuracy(metrics) > (1 + accuracy) / 2:
        cause = "overfitting: more images, or more --weight-decay or --dropout"
    else:
        cause = "too few updates, or too high a learning rate: see --epochs and --learning-rate"
    say("warning", f"{what}; the likeliest cause: {cause}")


def describe(dataset):
    train, validation, test = (len(split.images) for split in dataset[:3])
    sizes = f"{train:,} train, {validation:,} validation, {counted(test, 'test image')}"
    return f"{dataset.description}: {sizes}, sha256 {dataset.fingerprint[:12]}"


def versions():
    """Versions of what a figure depends on."""
    keras = terminal.import_keras()
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "numpy": np.__version__,
        "tensorflow": tf.__version__,
    }
