"""What a careful Keras user writes after the transfer-learning guide: the whole model on pixels.

    python -m benchmarks.plain_keras frozen --image-size 96     # the flags are those of train_*.py

https://keras.io/guides/transfer_learning: freeze, compile, fit on a tf.data pipeline with prefetch, in
float32. The network, its weights, the images, the rule of the regime and the optimizer are the
project's own; views (mirror, shift) are left out.
"""

import importlib
import itertools
import time

import data
from transfer import depths, terminal
from transfer.batches import EVALUATION_BATCH, Batches
from transfer.command_line import parse_config
from transfer.network import build, set_trainable
from transfer.optimizers import make_optimizer
from transfer.settings import follow


def train(trainable, config):
    """Trains one regime on pixels.

    Args:
        trainable: The regime's rule, a function of a Keras layer.
        config: `settings.Config`; its `features`, `precision` and views have no effect.

    Returns:
        A dict of `seconds`, standardisation included; of `at_best`, the number of epochs times the
        seconds of the shortest one; and of the `validation_accuracy` of the last epoch.
    """
    import keras
    import tensorflow as tf

    from transfer.features import standardise

    dataset = data.load(config.data)
    config, _ = follow(config, dataset)
    keras.utils.set_random_seed(config.seed)
    model, _ = build(config, len(dataset.class_names))
    set_trainable(model, trainable)

    start = time.perf_counter()
    standardise(model, model.inputs, Batches(dataset.train, len(dataset.class_names)))

    def batches(split, size):
        labels = keras.utils.to_categorical(split.labels, len(dataset.class_names))
        images = tf.data.Dataset.from_tensor_slices((split.images, labels))
        if split is dataset.train:
            images = images.shuffle(len(split.images), seed=config.seed)
        return images.batch(size).prefetch(tf.data.AUTOTUNE)

    training = batches(dataset.train, config.batch_size)
    model.compile(
        optimizer=make_optimizer(config, steps=config.epochs * len(training)),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # the faster choice on a processor, so the fairer one
    )
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: times.append(time.perf_counter()),
        on_train_end=lambda logs: times.append(time.perf_counter()),
    )
    history = model.fit(
        training,
        epochs=config.epochs,
        validation_data=batches(dataset.validation, EVALUATION_BATCH),
        shuffle=False,
        verbose=2,
        callbacks=[clock],
    ).history
    return {
        "seconds": time.perf_counter() - start,
        "at_best": config.epochs * min(end - begin for begin, end in itertools.pairwise(times)),
        "validation_accuracy": history["val_accuracy"][-1],
    }


def main(arguments=None):
    further = "Further flags are those of train_*.py."
    parser = terminal.Parser(description=__doc__.splitlines()[0], epilog=further)
    parser.add_argument("regime", choices=depths.REGIMES.values())
    asked, flags = parser.parse_known_args(arguments)
    script = importlib.import_module(f"train_{asked.regime}")
    config = parse_config(script.DEFAULTS, flags)
    with terminal.one_line_errors():
        print(train(script.trainable, config))


if __name__ == "__main__":
    main()
