"""Geometry: elastic_transform of CIFAR-10-C; shear, rotate and stripe of MNIST-C (Mu and Gilmer,
"MNIST-C", 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.corruptions.filters import blurred, mapped, pixels, sampled


def elastic_transform(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Moves three points (an affine warp), then adds a smooth random displacement; all lengths are
    shares of the image's height.
    """
    n, _, h, w = x.shape
    strength, sigma, jitter = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    middle, reach = torch.tensor([w // 2, h // 2]), min(h, w) // 3
    points = torch.stack([middle + reach, middle + reach * torch.tensor([1, -1]), middle - reach]).float()
    moved = points + jitter * h * (2 * torch.rand(n, 3, 2, generator=generator) - 1)
    known = torch.cat([moved, torch.ones(n, 3, 1)], 2)
    matrices = torch.linalg.solve(known, points.expand(n, 3, 2)).transpose(
        1, 2
    )  # output point -> input point
    x = sampled(x, mapped(matrices, n, h, w), "mirror")
    if not strength:
        return x
    field = 2 * torch.rand(n, 2, h, w, generator=generator) - 1
    shift = strength * h * blurred(field, sigma * h, truncate=3, edge="reflect")
    return sampled(x, pixels(n, h, w) + shift.permute(0, 2, 3, 1), "reflect")


def shear(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Turns the vertical axis by .2 to 1 radian, to the left or to the right; zeros move in.

    Output point (x, y) from the middle takes the value at (x - sin(a) y, cos(a) y): what the
    scikit-image of 2019 made of a shear.
    """
    angle = _angles(len(x), severity, generator)
    return _about_middle(x, torch.ones_like(angle), -angle.sin(), torch.zeros_like(angle), angle.cos())


def rotate(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Turns each image by .2 to 1 radian (11 to 57 degrees), one way or the other; zeros move in."""
    angle = _angles(len(x), severity, generator)
    return _about_middle(x, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def stripe(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Inverts the left and the right edge.

    MNIST-C has one strength, a quarter of the width each: severity 5; the others are steps up to
    it.
    """
    w = x.shape[3]
    wide = max(1, round(severity * w / 20))
    column = torch.arange(w, device=x.device)
    return torch.where((column < wide) | (column >= w - wide), 1 - x, x)


def _angles(n: int, severity: int, generator: torch.Generator) -> Tensor:
    """MNIST-C's: the same for all images but for the sign."""
    return 0.2 * severity * (2.0 * torch.randint(2, (n,), generator=generator) - 1)


def _about_middle(x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Output point p takes the value at ((a, b), (c, d)) p, both measured from the middle of the
    image; zeros move in.
    """
    n, _, h, w = x.shape
    middle = torch.tensor([(w - 1) / 2, (h - 1) / 2])
    turn = torch.stack([a, b, c, d], 1).reshape(n, 2, 2)
    return sampled(x, mapped(torch.cat([turn, (middle - turn @ middle)[:, :, None]], 2), n, h, w), "zeros")
