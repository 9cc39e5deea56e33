"""Named label-preserving modifications of images, batched on the images' device: each has a range, and
together they form a unit cube.

A modification vector m in [0, 1]^d says how much of each is applied to one image. 0.5 leaves an
image as it is where a modification goes both ways (rotation, shifts, brightness, contrast), 0 where
it only adds (noise, blur).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from airepair.errors import UsageError, choose


@dataclass(frozen=True)
class Modification:
    """It is one axis of the space: from `low` to `high` in `unit`."""

    low: float
    high: float
    unit: str


MODIFICATIONS: dict[str, Modification] = {
    "rotation": Modification(-20.0, 20.0, "degrees"),
    "shift_x": Modification(-0.125, 0.125, "of the width"),
    "shift_y": Modification(-0.125, 0.125, "of the height"),
    "brightness": Modification(-0.25, 0.25, "added to pixels in 0..1"),
    "contrast": Modification(-0.5, 0.5, "added to the factor 1 around the image's mean"),
    "blur": Modification(0.0, 1.0, "standard deviation of a Gaussian, in pixels"),
    "noise": Modification(0.0, 0.15, "standard deviation, pixels in 0..1"),
}


def names_of(text: str) -> tuple[str, ...]:
    """Returns the axes of a comma-separated list, or all of them; UsageError for an unknown one."""
    if text == "all":
        return tuple(MODIFICATIONS)
    names = tuple(dict.fromkeys(n.strip() for n in text.split(",") if n.strip()))
    if not names:
        raise UsageError(
            f"modifications={text!r} names none; accepted: all, or some of {', '.join(MODIFICATIONS)}"
        )
    return tuple(choose("modification", n, list(MODIFICATIONS)) for n in names)


def modify(x: Tensor, vectors: Tensor, names: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Returns the images (N x C x H x W, in [0, 1]), each modified by its own vector (N x d, in [0,
    1]), in [0, 1] again.
    """
    values = vectors.to(x)
    amount = {
        n: MODIFICATIONS[n].low + values[:, i] * (MODIFICATIONS[n].high - MODIFICATIONS[n].low)
        for i, n in enumerate(names)
    }
    zero = x.new_zeros(len(x))
    if {"rotation", "shift_x", "shift_y"} & amount.keys():
        x = move(x, *(amount.get(n, zero) for n in ("rotation", "shift_x", "shift_y")))
    if "contrast" in amount:
        mean = x.mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * (1 + amount["contrast"])[:, None, None, None]
    if "brightness" in amount:
        x = x + amount["brightness"][:, None, None, None]
    if "blur" in amount:
        x = blur(x, amount["blur"])
    if "noise" in amount:
        x = x + torch.randn(x.shape, generator=generator).to(x) * amount["noise"][:, None, None, None]
    return x.clamp(0, 1)


def move(x: Tensor, degrees: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Returns each image turned clockwise about its centre and then shifted (shares of width and
    height), bilinear, its border pixels continued.
    """
    h, w = x.shape[2:]
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    # Sampling coordinates run from -1 to 1 on both axes, so that a turn of a non-square image needs
    # the ratio of its sides.
    ratio = h / w
    x0, y0 = -2 * right, -2 * down
    theta = torch.stack(
        [
            torch.stack([cos, sin * ratio, cos * x0 + sin * ratio * y0], 1),
            torch.stack([-sin / ratio, cos, -sin / ratio * x0 + cos * y0], 1),
        ],
        1,
    )
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def blur(x: Tensor, sigma: Tensor, radius: int = 3) -> Tensor:
    """Returns each image under a Gaussian of its own standard deviation (N, pixels; 0 leaves it),
    border pixels continued.
    """
    n, c, h, w = x.shape
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = (-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)
    flat = torch.nn.functional.pad(x, (radius,) * 4, mode="replicate").reshape(
        1, n * c, h + 2 * radius, w + 2 * radius
    )
    flat = torch.nn.functional.conv2d(flat, kernel[:, None, None, :], groups=n * c)
    return torch.nn.functional.conv2d(flat, kernel[:, None, :, None], groups=n * c).view(n, c, h, w)
