"""What is gained when the two fire modules before the classifier may adapt?

    python train_last_fire.py    # 83.3 % validation (one run, cifar10-jpeg), 5 min on two cores
"""

from experiment import Config, parse_config, run


def trainable(layer):
    return layer.name.startswith(("fire8_", "fire9_", "head_"))


# Dropout leaves out channels of the map's average, so that less of it is enough; the tail is small,
# and quicker in larger batches.
DEFAULTS = Config(
    regime="last_fire", head="average", dropout=0.2, learning_rate=1e-3, batch_size=128
)

if __name__ == "__main__":
    title = "Training last 2 Fire Modules + classification layers"
    run(title, trainable, parse_config(DEFAULTS))
