"""Filters and resampling that several corruptions need: convolutions that keep the size, with the edge repeated, and affine warps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def gaussian(sigma: float, radius: int) -> Tensor:
    """Normalised weights at -radius..radius."""
    if sigma <= 0:
        return torch.cat([torch.zeros(radius), torch.ones(1), torch.zeros(radius)])
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def convolved(x: Tensor, kernels: Tensor) -> Tensor:
    """Each image with its own kernel (N or 1 x k x k', odd), all channels alike; the edge is repeated outwards."""
    n, c, h, w = x.shape
    tall, wide = kernels.shape[1:]
    padded = nn.functional.pad(x, (wide // 2, wide // 2, tall // 2, tall // 2), mode="replicate")
    weights = kernels.to(x).expand(n, tall, wide).repeat_interleave(c, 0)[:, None]
    return nn.functional.conv2d(padded.reshape(1, n * c, *padded.shape[2:]), weights, groups=n * c).reshape(n, c, h, w)


def blurred(x: Tensor, sigma: float, truncate: float = 4.0) -> Tensor:
    """Gaussian blur of `sigma` pixels, one axis after the other."""
    line = gaussian(sigma, max(1, int(truncate * sigma + 0.5)))
    return convolved(convolved(x, line[None, None, :]), line[None, :, None])


def motion(length: int, sigma: float, degrees: Tensor) -> Tensor:
    """Kernels (N x k x k) of a trail from the centre in each direction, fading as a Gaussian of `sigma` over `length` pixels."""
    along = torch.arange(length + 1)
    weights = torch.exp(-0.5 * (along / sigma) ** 2)
    radians = degrees * math.pi / 180
    x, y = along * radians.cos()[:, None] + length, along * radians.sin()[:, None] + length
    kernels = torch.zeros(len(degrees), 2 * length + 2, 2 * length + 2)
    rows = torch.arange(len(degrees))[:, None].expand_as(x)
    for dx in (0, 1):  # each point of the trail is shared out among its four pixels
        for dy in (0, 1):
            share = (1 - (x - x.floor() - dx).abs()) * (1 - (y - y.floor() - dy).abs())
            kernels.index_put_((rows, y.floor().long() + dy, x.floor().long() + dx), weights * share, accumulate=True)
    kernels = kernels[:, :-1, :-1]
    return kernels / kernels.sum((1, 2), keepdim=True)


def warped(x: Tensor, matrices: Tensor, fill: str = "reflection") -> Tensor:
    """Each image resampled: output pixel p (in -1..1, x then y) takes its value at `matrices` (N x 2 x 3) applied to p."""
    grid = nn.functional.affine_grid(matrices.to(x), list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, mode="bilinear", padding_mode=fill, align_corners=False)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle, `factor` times larger, cut to the size of the image."""
    matrix = torch.tensor([[1 / factor, 0.0, 0.0], [0.0, 1 / factor, 0.0]])
    return warped(x, matrix.expand(len(x), 2, 3), "border")


def averaging(size: int, cells: int) -> Tensor:
    """Means of `size` pixels over `cells` equal cells (cells x size): each pixel counts by the part of it that lies in the cell."""
    edges, pixels = torch.arange(cells + 1) * size / cells, torch.arange(size)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return overlap.clamp_min(0) * cells / size


def grey(x: Tensor) -> Tensor:
    """Luma (N x 1 x H x W): ITU-R 601 weights for three channels, else the mean of the channels."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
