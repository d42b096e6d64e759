"""The same network in PyTorch, written out: what its training step takes on this processor.

    pip install torch==2.13.0
    python -m benchmarks.torch_peer bfloat16        # or float32

Channels last, raw uint8 images in, Adam and cross-entropy on everything: the step of train_full.py.
"""

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

STEPS = 20
BATCH_SIZE, CLASSES, DROPOUT = 32, 10, 0.5  # of a run


class Fire(nn.Module):
    """squeezenet.FireModule."""

    def __init__(self, channels, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.left = nn.Conv2d(squeeze, expand, 1)
        self.right = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.left(x)), functional.relu(self.right(x))], 1)


class SqueezeNet(nn.Module):
    """squeezenet.SqueezeNet with its pixels and the head `conv`; returns logits."""

    def __init__(self, size, classes, dropout):
        super().__init__()
        self.size = size
        self.register_buffer("means", torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1))
        self.layers = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, stride=2),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, stride=2),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
            nn.Dropout(dropout),
            nn.Conv2d(512, classes, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images):
        x = images.permute(0, 3, 1, 2).flip(1).float() - self.means
        x = functional.interpolate(x, (self.size, self.size), mode="bilinear")
        return self.layers(x.contiguous(memory_format=torch.channels_last))


def step_milliseconds(precision, size=96):
    """Times the training step on one fixed batch.

    Args:
        precision: `"float32"`, or `"bfloat16"` for autocast to it.
        size: Side of the images in the network, in pixels.

    Returns:
        Milliseconds an image, the median of `STEPS` steps.
    """
    torch.manual_seed(0)
    images = torch.randint(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (BATCH_SIZE,))
    model = SqueezeNet(size, CLASSES, DROPOUT).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, fused=True)
    times = []
    for _ in range(STEPS + 5):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:]) / BATCH_SIZE * 1000


if __name__ == "__main__":
    for precision in sys.argv[1:] or ("float32", "bfloat16"):
        print(f"{precision}: {step_milliseconds(precision):.2f} ms per image")
