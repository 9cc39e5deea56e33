"""AugMix's operations (Hendrycks et al., ICLR 2020: the set without those that occur among the
corruptions), batched, with a level an image.

Each takes images (N x C x H x W in [0, 1]), levels (N, on the CPU, from .1 to `severity` of ten)
and signs (N, +1 or -1).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def autocontrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Returns each channel stretched to 0..1; a flat one stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-6), x)


def equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Returns each channel's histogram of 256 values flattened; a channel of one value stays."""
    n, c, h, w = x.shape
    values = (x * 255).round().long().reshape(n * c, h * w)
    counts = torch.zeros(n * c, 256, device=x.device).scatter_add_(
        1, values, torch.ones(1, device=x.device).expand(n * c, h * w)
    )
    last = counts.gather(1, values.amax(1, keepdim=True))
    step = ((h * w - last) / 255).floor()  # as PIL: the brightest value's count is left out
    before = counts.cumsum(1) - counts
    table = ((before + (step / 2).floor()) / step.clamp_min(1)).floor().clamp(0, 255)
    flat = table.gather(1, values) / 255
    return torch.where(step > 0, flat, x.reshape(n * c, h * w)).reshape(n, c, h, w)


def posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keeps only the upper 4 - level * 4 / 10 bits of each value."""
    bits = 4 - (level * 4 / 10).floor()
    size = (2 ** (8 - bits)).to(x)[:, None, None, None]
    return ((x * 255).round() / size).floor() * size / 255


def solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Values from 256 - level * 256 / 10 on are inverted."""
    threshold = ((256 - (level * 256 / 10).floor()) / 255).to(x)[:, None, None, None]
    return torch.where(x >= threshold, 1 - x, x)


def rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Turns each image by up to level * 3 degrees."""
    radians = sign * (level * 3).floor() * math.pi / 180
    return _affine(x, radians.cos(), -radians.sin(), radians.sin(), radians.cos())


def shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Returns the rows pushed along by level * .03 of their height."""
    return _affine(x, b=sign * level * 0.03)


def shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Moves columns along by level * .03 of their width."""
    return _affine(x, d=sign * level * 0.03)


def translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Moves each image sideways by level / 10 of a third of the width."""
    return _affine(x, c=sign * level / 10 * 2 / 3)


def translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Moves each image up or down by level / 10 of a third of the height."""
    return _affine(x, f=sign * level / 10 * 2 / 3)


def _affine(
    x: Tensor,
    a: Tensor | float = 1.0,
    b: Tensor | float = 0.0,
    d: Tensor | float = 0.0,
    e: Tensor | float = 1.0,
    *,
    c: Tensor | float = 0.0,
    f: Tensor | float = 0.0,
) -> Tensor:
    """Resampled at (a x + b y + c, d x + e y + f), the image's edges at -1 and 1; zeros move in."""
    entries = [v if isinstance(v, Tensor) else torch.full((len(x),), v) for v in (a, b, c, d, e, f)]
    matrices = torch.stack(entries, 1).reshape(len(x), 2, 3)
    grid = nn.functional.affine_grid(matrices.to(x), list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    posterize,
    rotate,
    solarize,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
)
