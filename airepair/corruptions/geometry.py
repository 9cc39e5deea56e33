"""Geometry: elastic_transform of CIFAR-10-C; shear, rotate and stripe of MNIST-C (Mu and Gilmer, "MNIST-C", 2019).

MNIST-C fixes one strength (shear .5 to 1, rotation 30 to 45 degrees at full strength); the five severities here are equal steps up to it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from airepair.corruptions.filters import blurred, warped


def elastic_transform(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Three points moved (an affine warp), then a smooth random displacement; all lengths are shares of the image's height."""
    n, _, h, w = x.shape
    strength, sigma, jitter = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))[severity - 1]
    corners = torch.tensor([[2 / 3, 2 / 3], [2 / 3, -2 / 3], [-2 / 3, -2 / 3]])  # of a square of a third to each side, in -1..1
    moved = corners + 2 * jitter * (2 * torch.rand(n, 3, 2, generator=generator) - 1)
    known = torch.cat([moved, torch.ones(n, 3, 1)], 2)
    matrices = torch.linalg.solve(known, corners.expand(n, 3, 2)).transpose(1, 2)  # output point -> input point
    x = warped(x, matrices)
    if not strength:
        return x
    field = 2 * torch.rand(n, 2, h, w, generator=generator) - 1
    shift = blurred(field, sigma * h, truncate=3) * strength * h  # pixels
    shift = (shift * torch.tensor([2 / w, 2 / h])[None, :, None, None]).permute(0, 2, 3, 1)
    grid = nn.functional.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 1, h, w], align_corners=False) + shift
    return nn.functional.grid_sample(x, grid.to(x), mode="bilinear", padding_mode="reflection", align_corners=False)


def shear(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Rows pushed along, to the left or to the right, by up to .2 to 1 of their height above the middle; zeros move in."""
    amount = severity / 5 * (0.5 + 0.5 * torch.rand(len(x), generator=generator)) * _signs(len(x), generator)
    matrices = torch.eye(2, 3).repeat(len(x), 1, 1)
    matrices[:, 0, 1] = amount
    return warped(x, matrices, "zeros")


def rotate(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Turned by up to 9 to 45 degrees, one way or the other; zeros move in."""
    degrees = severity / 5 * (30 + 15 * torch.rand(len(x), generator=generator)) * _signs(len(x), generator)
    radians = degrees * math.pi / 180
    zero = torch.zeros_like(radians)
    rows = [torch.stack([radians.cos(), -radians.sin(), zero], 1), torch.stack([radians.sin(), radians.cos(), zero], 1)]
    return warped(x, torch.stack(rows, 1), "zeros")


def stripe(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A vertical stripe in the middle, inverted: a twentieth to a quarter of the width to each side."""
    w = x.shape[3]
    from_middle = (torch.arange(w, device=x.device) - (w - 1) / 2).abs()
    inside = from_middle <= max(0.5, severity / 20 * w)
    return torch.where(inside, 1 - x, x)


def _signs(n: int, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, (n,), generator=generator) - 1
