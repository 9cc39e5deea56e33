"""Distortions at several levels, by name: DeepCorrect's blur and noise, and every corruption of the
project at its severities.
"""

from __future__ import annotations

import torch

from airepair.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from airepair.errors import choose
from airepair.search.modifications import blur
from airepair.types import Transform

# Borkar and Karam's levels: standard deviations of blur in pixels, of noise in 1/255.
BLUR = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
NOISE = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)


def levels_of(name: str) -> list[Transform]:
    """Returns one transform a level for "blur", "noise" or a corruption's name; UsageError for
    another.
    """
    if name == "blur":
        return [_blurred(sigma) for sigma in BLUR]
    if name == "noise":
        return [_noisy(sigma / 255) for sigma in NOISE]
    choose("distortion", name, ["blur", "noise", *CORRUPTIONS.names()])
    return [Corruption(name, severity) for severity in SEVERITIES]


def _blurred(sigma: float) -> Transform:
    # The published windows go up to 13 pixels; a small image cannot be padded by more than itself.
    return lambda x, _: blur(x, x.new_full((len(x),), sigma), min(6, min(x.shape[2:]) - 1))


def _noisy(sigma: float) -> Transform:
    return lambda x, generator: (x + sigma * torch.randn(x.shape, generator=generator).to(x)).clamp(0, 1)
