"""Blur (parameters: CIFAR-10-C)."""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.corruptions.filters import blurred, convolved, gaussian, motion, zoomed


def gaussian_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A Gaussian of .4 to 1 pixel."""
    return blurred(x, (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1])


def defocus_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A disk (radius), its edge softened by a 3 x 3 Gaussian: out of focus."""
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    at = torch.arange(-3, 4)
    disk = ((at[:, None] ** 2 + at[None, :] ** 2) <= radius**2).float()[None, None]
    line = gaussian(alias, 1)
    return convolved(x, convolved(disk / disk.sum(), (line[:, None] * line[None, :])[None])[0])


def glass_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Pixels take a neighbour's value, between two Gaussian blurs: frosted glass.

    The original swaps pixels one after another; here all choose at once (a value may then appear twice), since that is one gather.
    """
    sigma, reach, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    n, c, h, w = x.shape
    x = blurred(x, sigma)
    for _ in range(rounds):
        shift = torch.randint(-reach, reach, (2, n, h, w), generator=generator)  # -reach to reach - 1, as published
        rows = (torch.arange(h)[None, :, None] + shift[0]).clamp(0, h - 1)
        columns = (torch.arange(w)[None, None, :] + shift[1]).clamp(0, w - 1)
        index = (rows * w + columns).reshape(n, 1, h * w).expand(n, c, h * w).to(x.device)
        x = x.reshape(n, c, h * w).gather(2, index).reshape(n, c, h, w)
    return blurred(x, sigma)


def motion_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A fading trail in a direction from -45 to 45 degrees: the camera moved."""
    length, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    degrees = 90 * torch.rand(len(x), generator=generator) - 45
    return convolved(x, motion(length, sigma, degrees))


def zoom_blur(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """The mean of the image and its enlargements in steps of 1 %: the camera moved towards it."""
    factors = [1 + k / 100 for k in range((6, 11, 16, 21, 26)[severity - 1])]
    total = x
    for factor in factors:
        total = total + zoomed(x, factor)
    return total / (len(factors) + 1)
