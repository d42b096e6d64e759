"""The peer of few_images.py: a linear classifier on features that never saw these images.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.linear_peer cifar10 100 0      # source, images per class (0: all), seed

It is scikit-learn's LogisticRegressionCV on the standardised averages and maxima of fire3 to fire9,
float32, of the training images and their mirrored copies at 160 px. It chooses C among seven by the
accuracy in folds that keep an image and its copy together: five folds, or three of more than 1,000
images. Of more than 5,000 it chooses C on 5,000 of them and then fits on all. Prints its figures as
JSON; total_params are those of SqueezeNet and of the classifier.
"""

import json
import warnings

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

import data
import squeezenet
from transfer import recipes, terminal
from transfer.batches import EVALUATION_BATCH

SIZE = 160
CS = np.logspace(-6, 0, 7)
# A fit takes a time that grows with the images, and the best C hardly moves with them.
SEARCH_IMAGES = 5000


def peer(source, images_per_class, seed):
    """Trains and evaluates the peer on the same images as the regimes; returns its figures."""
    dataset = data.load(source, recipes.LARGEST_SIZE, seed, images_per_class=images_per_class)
    model = feature_model()
    training = features(model, dataset.train.images, mirror=True)
    validation = features(model, dataset.validation.images, mirror=False)
    probabilities, params = fit_peer(training, dataset.train.labels, validation, seed)
    truth = dataset.validation.labels
    likelihood = np.maximum(probabilities[range(len(truth)), truth], np.finfo("f4").tiny)
    return {
        "validation_images": len(truth),
        "validation_accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        "validation_loss": float(-np.log(likelihood).mean()),
        "total_params": model.count_params() + params,
        "image_size": SIZE,
    }


def feature_model(image_size=SIZE, weights="imagenet"):
    """Makes a model of images uint8 (n, height, width, 3) to float32 (n, 4864)."""
    x = squeezenet.pixels(image_size)
    backbone = squeezenet.SqueezeNet(include_top=False, weights=weights, input_tensor=x)
    pooled = []
    for fire in range(3, 10):
        x = backbone.get_layer(f"fire{fire}_concat").output
        for pooling in (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D):
            # A window as large as the map: see squeezenet.pooled_head.
            pooled.append(keras.layers.Flatten()(pooling(x.shape[1:3])(x)))
    return keras.Model(backbone.input, keras.layers.Concatenate()(pooled))


def features(model, images, mirror):
    """Computes float32 (views * n, 4864): of the images, then of their mirrored copies."""
    count = len(images)
    made = np.empty((count * (2 if mirror else 1), model.output.shape[-1]), "f4")
    for first in range(0, len(made), EVALUATION_BATCH):
        rows = np.arange(first, min(first + EVALUATION_BATCH, len(made)))
        batch = images[rows % count]
        batch[rows >= count] = batch[rows >= count, :, ::-1]
        made[rows] = model.predict_on_batch(batch)
    return made


def fit_peer(training, labels, validation, seed):
    """Fits the peer to the features of images and, after them, of their mirrored copies.

    Returns:
        The probabilities float64 (n, classes) of the validation images, and how many weights the
        classifier has.
    """
    # Where C is far too large, it stops before it has converged, and loses.
    warnings.simplefilter("ignore", ConvergenceWarning)
    scaler = StandardScaler(copy=False)
    training, validation = scaler.fit_transform(training), scaler.transform(validation)
    count = len(labels)
    chosen = np.random.default_rng(seed).permutation(count)[:SEARCH_IMAGES]
    rows, groups, twice = np.r_[chosen, count + chosen], np.tile(chosen, 2), np.tile(labels, 2)
    folds = GroupKFold(5 if count <= 1000 else 3).split(rows, groups=groups)
    settings = {"solver": "lbfgs", "max_iter": 200}
    model = LogisticRegressionCV(
        Cs=CS, cv=list(folds), scoring="accuracy", l1_ratios=(0,),
        use_legacy_attributes=False, n_jobs=1, **settings,
    ).fit(training[rows], twice[rows])  # fmt: skip
    if count > SEARCH_IMAGES:
        model = LogisticRegression(C=model.C_, **settings).fit(training, twice)
    probabilities = model.predict_proba(validation).astype("f8")
    return probabilities, model.coef_.size + model.intercept_.size


def main(arguments=None):
    parser = terminal.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="cifar10, shapes, FILE.npz or a folder")
    parser.add_argument("images_per_class", type=int, help="so many of each class, or 0 for all")
    parser.add_argument("seed", type=int, help="the seed")
    asked = parser.parse_args(arguments)
    with terminal.one_line_errors():
        print(json.dumps(peer(asked.source, asked.images_per_class, asked.seed)))


if __name__ == "__main__":
    main()
