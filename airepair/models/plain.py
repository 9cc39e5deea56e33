"""The paper's six-convolution network for MNIST and Fashion-MNIST (187,062 parameters at 1 x 28 x 28
and 10 classes), and a fully connected net.

Convolutions without padding, each followed by ReLU and *then* batch norm; channel dropout of .2
after each pool. Layers: conv 5x5 32, conv 5x5 32, pool, conv 3x3 64, conv 3x3 64, pool, conv 3x3
128, conv 1x1 128, dense 100, dense K.
"""

from __future__ import annotations

from torch import nn

from airepair.errors import UsageError


def cnn(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """It has the layers 5x5 C-32, 5x5 32-32, pool, 3x3 32-64, 3x3 64-64, pool, 3x3 64-128, 1x1
    128-128, dense 100, dense K.

    Images of at least 28 x 28.
    """
    channels, *sides = shape
    left = [((side - 8) // 2 - 4) // 2 - 2 for side in sides]
    if min(left) < 1:
        raise UsageError(
            f"the six-convolution network needs images of at least 28 x 28 pixels; "
            f"these are {sides[0]} x {sides[1]}"
        )
    return nn.Sequential(
        *_convolution(channels, 32, 5),
        *_convolution(32, 32, 5),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.2),
        *_convolution(32, 64, 3),
        *_convolution(64, 64, 3),
        nn.MaxPool2d(2),
        nn.Dropout2d(0.2),
        *_convolution(64, 128, 3),
        *_convolution(128, 128, 1),
        nn.Flatten(),
        nn.Linear(128 * left[0] * left[1], 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def _convolution(inputs: int, outputs: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size), nn.ReLU(), nn.BatchNorm2d(outputs)]


def fc(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """It is fully connected: inputs-256-128-classes with batch norm."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
