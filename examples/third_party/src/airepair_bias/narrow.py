"""narrow: a fully connected network of 16 units, to show a model in a package of its own."""

from torch import nn


def network(classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Images C x H x W in [0, 1] to logits, through one hidden layer of 16 units."""
    channels, height, width = shape
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * height * width, 16), nn.ReLU(), nn.Linear(16, classes)
    )
