"""Blur (parameters: CIFAR-10-C)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from airepair.corruptions.filters import blurred, convolved, dragged, gaussian, stored, zoomed


def gaussian_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Blurs with a Gaussian of .4 to 1 pixel."""
    return blurred(x, (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1])


def defocus_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Blurs with a disk (radius), its edge softened by a 3 x 3 Gaussian: out of focus."""
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    at = torch.arange(-3, 4)
    disk = ((at[:, None] ** 2 + at[None, :] ** 2) <= radius**2).float()
    line = gaussian(alias, 1)
    soft = convolved((disk / disk.sum())[None, None], line[:, None] * line[None, :], "mirror")[0, 0]
    return convolved(x, soft, "mirror")


def glass_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Gives pixels a neighbour's value, between two Gaussian blurs: frosted glass.

    The published loop goes from the last pixel to the first and means to swap two, but on arrays of
    channels its assignment copies: a pixel takes the value of itself or of a neighbour above or to
    the left, which the loop has not come to yet. So one gather does it for all. The first two rows
    and columns stay.
    """
    sigma, reach, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    n, c, h, w = x.shape
    x = stored(blurred(x, sigma))
    for _ in range(rounds):
        shift = torch.randint(
            -reach, reach, (2, n, h, w), generator=generator
        )  # -reach to reach - 1, as published
        shift[:, :, : reach + 1] = 0
        shift[:, :, :, : reach + 1] = 0
        rows, columns = torch.arange(h)[None, :, None] + shift[0], torch.arange(w)[None, None, :] + shift[1]
        index = (rows * w + columns).reshape(n, 1, h * w).expand(n, c, h * w).to(x.device)
        x = x.reshape(n, c, h * w).gather(2, index).reshape(n, c, h, w)
    return blurred(x, sigma)


def motion_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Draws a fading trail in a direction from -45 to 45 degrees: the camera moved."""
    length, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    return dragged(x, length, sigma, 90 * torch.rand(len(x), generator=generator) - 45)


def zoom_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """The mean of the image and its enlargements in steps of 1 %: the camera moved towards it.

    An enlargement by less than half a pixel is none, so severity 1 leaves images of 8 x 8 pixels as they are.
    """
    # As published, rounding and all: 7, 12, 16, 21 and 26 factors, the first of them 1.
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01).tolist()
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)
