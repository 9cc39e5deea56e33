"""The two digits subjects (protocol: "Digits"): small enough for a CPU, with batch norm, so that
every method applies.
"""

from __future__ import annotations

from torch import nn


def fc(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """It is fully connected: inputs-64-32-classes with batch norm."""
    c, h, w = shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(c * h * w, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, classes),
    )


def cnn(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """It has two blocks of 3x3 convolution, batch norm, ReLU, pool (16 and 32 channels), then dense
    128-32 with batch norm, and the classes.
    """
    c, h, w = shape
    return nn.Sequential(
        *_block(c, 16),
        *_block(16, 32),
        nn.Flatten(),
        nn.Linear(32 * (h // 4) * (w // 4), 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, classes),
    )


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
