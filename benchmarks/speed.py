"""How fast is this compared with what one would otherwise use, and what limits it?

    python -m benchmarks.speed --data cifar10                 # what is missing: an hour and a half
    python -m benchmarks.speed --only step pipeline           # these, even if they are there

Every figure is taken in a new process, one after the other. Each section goes to benchmarks/speed.json
once it is whole; benchmarks/speed.md and speed.png show them.
"""

import dataclasses
import importlib
import math
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import data
from benchmarks import report, speed_report
from transfer import depths, files, recipes, run, terminal
from transfer.precision import bfloat16_instructions, choose_precision

REGIMES = tuple(depths.REGIMES.values())
SIZE = 96
EPOCHS = 10
CALLS = 10  # of which the median counts
REPEATS = 3
RESULTS = Path(__file__).with_name("speed.json")


def defaults(regime, **changes):
    """A regime's settings for CIFAR-10's 40,000 images of 32 px."""
    script = importlib.import_module(f"train_{regime}")
    settings = recipes.settings("tuned", regime, 40_000, 32, changes)
    return dataclasses.replace(script.DEFAULTS, **settings)


def plain(regime, **changes):
    """A regime's settings at the benchmark's image size, without what the guide has not: new views
    of an image, averaged weights, and a head trained alone before."""
    off = {"mirror": False, "shift": 0.0, "zoom": 0.0, "head_epochs": 0, "averaging": 0.0}
    return defaults(regime, **{"image_size": SIZE} | off | changes)


def trainable(config):
    return importlib.import_module(f"train_{config.regime}").trainable


# Sections: each is a generator of rows, dicts of its figures.


def frozen(source):
    """Wall time of a whole training run, against benchmarks/plain_keras.py."""
    yield beside_plain_keras(plain("frozen", data=source, epochs=EPOCHS))


def last_fire(source):
    """Wall time of a whole training run, against benchmarks/plain_keras.py."""
    yield beside_plain_keras(plain("last_fire", data=source, epochs=EPOCHS))


def full(source):
    """Wall time of a whole training run, against benchmarks/plain_keras.py."""
    yield beside_plain_keras(plain("full", data=source, epochs=EPOCHS))


def float32(source):
    """The same for full as where there is no bfloat16; one epoch."""
    yield beside_plain_keras(plain("full", data=source, epochs=1, precision="float32"))


def beside_plain_keras(config):
    ours, theirs = fresh(train, config), fresh(train_plainly, config)
    return {
        "regime": config.regime,
        "seconds": ours["seconds"],
        "validation_accuracy": ours["validation_accuracy"],
        "precision": ours["precision"],
        "plain_seconds": theirs["seconds"],
        "plain_seconds_at_best": theirs["at_best"],
        "plain_validation_accuracy": theirs["validation_accuracy"],
    }


def step(source):
    """full's training step, against PyTorch and the processor's matrix product."""
    torch = find_spec("torch") is not None
    if not torch:
        print("PyTorch is not installed, so not measured: pip install torch==2.13.0")
    for precision in ("float32", "bfloat16"):
        policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
        # As torch_peer.py has it.
        config = plain(
            "full", data=source, precision=policy, head="conv", dropout=0.5, batch_size=32
        )
        rounds = [
            fresh(keras_step, config) | ({"torch": fresh(torch_step, precision)} if torch else {})
            for _ in range(REPEATS)
        ]
        yield {"precision": precision} | {
            key: statistics.median(each[key] for each in rounds) for key in rounds[0]
        }


def kernels(source):
    """full's training step by kernels, Eigen's or oneDNN's with all or some instructions, and precision."""
    caps = {f"oneDNN, {name}": {"ONEDNN_MAX_CPU_ISA": name} for name in ("AVX2", "AVX512_CORE")}
    environments = {"Eigen": {"TF_ENABLE_ONEDNN_OPTS": "0"}, **caps, "oneDNN": {}}
    cases = [(name, "float32") for name in environments]
    if bfloat16_instructions():  # it is far slower where it is emulated
        cases.append(("oneDNN", "mixed_bfloat16"))
    with tempfile.TemporaryDirectory() as folder:
        part = subset(source, 1_000, folder)
        for name, precision in cases:
            config = plain("full", data=part, precision=precision)
            rounds = [fresh(keras_step, config, **environments[name]) for _ in range(REPEATS)]
            milliseconds = statistics.median(each["milliseconds"] for each in rounds)
            yield {"kernels": name, "precision": precision, "milliseconds": milliseconds}


def start(source):
    """Seconds to full's first training step, and a step after it, by what lays out the optimizer's graph."""
    with tempfile.TemporaryDirectory() as folder:
        part = subset(source, 1_000, folder)
        config = plain("full", data=part, image_size=32, averaging=0.1, precision="float32")
        rounds = [
            {graph: fresh(first_step, config, graph == "ours") for graph in ("Keras", "ours")}
            for _ in range(REPEATS)
        ]
        for graph, figures in rounds[0].items():
            yield {"graph": graph} | {
                key: statistics.median(each[graph][key] for each in rounds) for key in figures
            }


def pipeline(source):
    """Training steps a second: the real batches, against one fixed batch."""
    with tempfile.TemporaryDirectory() as folder:
        part = subset(source, 10_000, folder)
        for regime in REGIMES:
            config = defaults(regime, image_size=SIZE, data=part)
            yield {"regime": regime} | fresh(step_rates, config)


def memory(source):
    """Peak resident memory of default runs, above the interpreter with Keras imported, mapped files of features included, each time they are mapped: once to train the head alone, once for the run."""
    for regime in REGIMES:
        peaks = {
            epochs: fresh(train, defaults(regime, data=source, epochs=epochs))["gigabytes"]
            for epochs in (1, 3)
        }
        yield {"regime": regime, "one_epoch": peaks[1], "three_epochs": peaks[3]}


def images(source):
    """Wall time of two epochs against the number of training images."""
    with tempfile.TemporaryDirectory() as folder:
        for count in (5_000, 10_000, 20_000, 40_000):
            part = subset(source, count, folder)
            yield {"images": count} | {
                regime: fresh(train, plain(regime, data=part, epochs=2))["seconds"]
                for regime in REGIMES
            }


def sizes(source):
    """Wall time of two epochs on 5,000 images against the image size."""
    with tempfile.TemporaryDirectory() as folder:
        part = subset(source, 5_000, folder)
        for size in (64, 96, 128, 160, 192, 224):
            yield {"image_size": size} | {
                regime: fresh(train, plain(regime, data=part, epochs=2, image_size=size))["seconds"]
                for regime in REGIMES
            }


SECTIONS = {
    section.__name__: section
    for section in (
        *(frozen, last_fire, full, float32, step, kernels, start, pipeline, images, sizes, memory),
    )
}


# What runs in a process of its own.


def fresh(function, *arguments, **environment):
    """Calls a function in a new process."""
    with ProcessPoolExecutor(
        max_workers=1,
        mp_context=get_context("spawn"),
        initializer=set_environment,
        initargs=(environment,),
    ) as pool:
        return pool.submit(function, *arguments).result()


def set_environment(values):
    os.environ.update(values)


def train(config):
    """Trains as the scripts do, with no features from before.

    Returns:
        The metrics, and `gigabytes`: the peak of resident memory, pages of mapped files included,
        above that of the interpreter with Keras imported.
    """
    terminal.import_keras()
    before = peak_gigabytes()
    with report.home_without_features() as folder:
        os.environ["KERAS_HOME"] = folder
        config = dataclasses.replace(config, logs=f"{folder}/logs")
        metrics = run.run(config.regime, trainable(config), config)
    return metrics | {"gigabytes": peak_gigabytes() - before}


def train_plainly(config):
    terminal.import_keras()
    from benchmarks import plain_keras

    return plain_keras.train(trainable(config), config)


def torch_step(precision):
    from benchmarks import torch_peer

    return torch_peer.step_milliseconds(precision, size=SIZE)


def keras_step(config):
    """Times full's step on one fixed batch, and the matrix product in the same precision.

    Returns:
        A dict of `milliseconds` an image, and of `gigaflops` a second of the step and of the
        `product`.
    """
    model, training = prepare(config)
    import tensorflow as tf

    batches = iter(fixed(training, steps=None))
    model.make_train_function()
    images = model.steps_per_execution * config.batch_size
    milliseconds = median_seconds(lambda: model.train_function(batches)) / images * 1000
    side = 4096
    matrix = tf.cast(tf.random.normal((side, side)), model.get_layer("conv1").compute_dtype)
    product = median_seconds(tf.function(lambda: tf.linalg.matmul(matrix, matrix)))
    return {
        "milliseconds": milliseconds,
        "gigaflops": training_operations(model) / milliseconds / 1e6,
        "product": 2 * side**3 / product / 1e9,
    }


def first_step(config, lean):
    """Times full's first execution on a fixed batch, the building of its graph included, and later ones.

    Returns:
        A dict of `first`, in seconds, and of the `milliseconds` of a later step.
    """
    model, training = prepare(config, lean)
    batches = iter(fixed(training, steps=None))
    began = time.perf_counter()
    model.make_train_function()
    float(model.train_function(batches)["loss"])
    first = time.perf_counter() - began
    seconds = median_seconds(lambda: model.train_function(batches))
    return {"first": first, "milliseconds": 1000 * seconds / model.steps_per_execution}


def training_operations(model):
    """Counts additions and multiplications of a training step, for one image, in convolutions.

    The gradients of a layer's weights and of its inputs take as many as its output each; the
    first layer's inputs need none.
    """
    convolutions = [layer for layer in model.layers if hasattr(layer, "kernel")]
    forward = [
        2 * math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
        for layer in convolutions
    ]
    return 3 * sum(forward) - forward[0]


def step_rates(config):
    """Steps a second in epochs of the real batches, and of one fixed batch, by turns.

    The first execution of an epoch, which sets it up, does not count.
    """
    model, training = prepare(config)
    import keras

    datasets = {"real": training.dataset(), "fixed": fixed(training, steps=len(training))}
    rates = {name: [] for name in datasets}
    draw = training.drawn_each_epoch()
    for _ in range(REPEATS + 1):  # the first warms up
        for name, dataset in datasets.items():
            ends = []
            clock = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda _, logs, ends=ends: ends.append(time.perf_counter())
            )
            model.fit(dataset, shuffle=False, verbose=0, callbacks=[draw, clock])
            steps = len(training) - model.steps_per_execution  # the last execution may be short
            rates[name].append(steps / (ends[-1] - ends[0]))
    return {name: statistics.median(each[1:]) for name, each in rates.items()}


def prepare(config, lean=True):
    """Makes what run.run() trains, and its training batches; without `lean`, the optimizer is Keras' own."""
    keras = terminal.import_keras()
    from transfer import fitting, network

    dataset = data.load(config.data)
    precision, _ = choose_precision(config.precision)
    keras.config.set_dtype_policy(precision)
    model, _ = network.build(config, len(dataset.class_names))
    network.set_trainable(model, trainable(config))
    trained, training, _ = fitting.feed(model, dataset, config)
    optimizer = fitting.make_optimizer(config, steps=10_000)
    fitting.compile_model(trained, fitting.lean(optimizer) if lean else optimizer)
    return trained, training


def fixed(batches, steps):
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(next(iter(batches.dataset()))).repeat(steps)


def median_seconds(function):
    times = []
    for _ in range(CALLS + 2):
        start = time.perf_counter()
        result = function()
        float(result["loss"] if isinstance(result, dict) else result[0, 0])
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def peak_gigabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def subset(source, count, folder):
    """Writes a source's first images, plus a quarter as many for validation, as an `.npz`."""
    dataset, path = data.load(source), Path(folder, f"{count}.npz")
    train, validation, test = dataset.train, dataset.validation, dataset.test
    np.savez(
        path,
        x_train=np.concatenate([train.images[:count], validation.images[: count // 4]]),
        y_train=np.concatenate([train.labels[:count], validation.labels[: count // 4]]),
        x_test=test.images,
        y_test=test.labels,
    )
    return str(path)


def main():
    parser = terminal.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="cifar10 or FILE.npz [cifar10]")
    parser.add_argument("--only", nargs="+", choices=SECTIONS)
    arguments = parser.parse_args()
    results = files.read_json(RESULTS) if RESULTS.exists() else {}
    with terminal.one_line_errors():
        description = data.load(arguments.data).description
    missing = [name for name in SECTIONS if results.get(name, {}).get("data") != description]
    for name in arguments.only or missing:
        rows = []
        for row in SECTIONS[name](arguments.data):
            rows.append(row)
            print(name, row, flush=True)
        results[name] = {
            "title": SECTIONS[name].__doc__,
            "data": description,
            "machine": report.machine(),
            "commit": report.commit(),
            "rows": rows,
        }
        files.write_json(RESULTS, results)
        speed_report.write(results, RESULTS)


if __name__ == "__main__":
    main()
