"""What several corruptions need: values of eight bits, filters that keep the size of an image,
enlargement and resampling.

Each function follows the library that CIFAR-10-C's published code calls (scipy, scikit-image,
OpenCV, ImageMagick), the edge included.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

# How an image goes on outside: "nearest" aa|abc|cc, "reflect" ba|abc|cb, "mirror" cb|abc|ba (scipy's names).
Edge = Literal["nearest", "reflect", "mirror"]


def stored(x: Tensor) -> Tensor:
    """Returns values as a file of eight bits holds them, rounded down; half a thousandth of a step
    is left to rounding errors.
    """
    return (x.clamp(0, 1) * 255 + 5e-4).floor() / 255


def gaussian(sigma: float, radius: int) -> Tensor:
    """Returns the normalised weights at -radius..radius."""
    if sigma <= 0:
        return torch.cat([torch.zeros(radius), torch.ones(1), torch.zeros(radius)])
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def beyond(size: int, radius: int, edge: Edge) -> Tensor:
    """Returns the indices of `size` pixels, continued by `radius` to each side."""
    at = torch.arange(-radius, size + radius)
    if edge == "nearest" or size == 1:
        return at.clamp(0, size - 1)
    period, last = (2 * size, 2 * size - 1) if edge == "reflect" else (2 * size - 2, 2 * size - 2)
    at = at % period
    return torch.where(at < size, at, last - at)


def convolved(x: Tensor, kernel: Tensor, edge: Edge) -> Tensor:
    """Returns every channel of every image under one kernel (k x k', both odd)."""
    n, c, h, w = x.shape
    tall, wide = kernel.shape
    rows, columns = beyond(h, tall // 2, edge), beyond(w, wide // 2, edge)
    padded = x.reshape(n * c, 1, h, w)[:, :, rows[:, None], columns]
    return nn.functional.conv2d(padded, kernel.to(x)[None, None]).reshape(n, c, h, w)


def blurred(x: Tensor, sigma: float, truncate: float = 4.0, edge: Edge = "nearest") -> Tensor:
    """Applies a Gaussian blur of `sigma` pixels, one axis after the other, as
    scipy.ndimage.gaussian_filter.
    """
    line = gaussian(sigma, int(truncate * sigma + 0.5))
    return convolved(convolved(x, line[None, :], edge), line[:, None], edge)


def dragged(x: Tensor, length: int, sigma: float, degrees: Tensor) -> Tensor:
    """Returns each image drawn out in its own direction, as ImageMagick's
    MotionBlurImage(radius=length, sigma, angle) and a file of eight bits do it.

    2 * length + 1 pixels along the ray, each the nearest to its point on it, weighted by the right
    half of a Gaussian; the edge is repeated. Sums are rounded to 16 bits, and of these the file
    takes the upper eight.
    """
    n, c, h, w = x.shape
    along = torch.arange(2 * length + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (along / sigma) ** 2)
    weights /= weights.sum()
    radians = degrees.double() * math.pi / 180
    right, down = ((along * part[:, None] - 0.5).ceil().long() for part in (radians.cos(), radians.sin()))
    total = torch.zeros_like(x)
    for k, weight in enumerate(weights.tolist()):
        rows = (torch.arange(h) + down[:, k, None]).clamp(0, h - 1)
        columns = (torch.arange(w) + right[:, k, None]).clamp(0, w - 1)
        index = (
            (rows[:, :, None] * w + columns[:, None, :]).reshape(n, 1, h * w).expand(n, c, h * w).to(x.device)
        )
        total += weight * x.flatten(2).gather(2, index).reshape(x.shape)
    return ((total * 65535).round() / 257).floor() / 255


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Returns the middle, enlarged to fill the image: a crop of 1 / factor (rounded up),
    scipy.ndimage.zoom of order 1, cut to size.
    """
    rows, columns = (_zoom(size, factor).to(x) for size in x.shape[2:])
    return rows @ x @ columns.T


def _zoom(size: int, factor: float) -> Tensor:
    """Weights (size x size) of the pixels of one axis: the first and the last pixel of the crop
    stay the first and last of its enlargement.
    """
    crop = math.ceil(size / factor)
    wide = round(crop * factor)
    at = torch.arange(wide, dtype=torch.float64) * ((crop - 1) / max(1, wide - 1))
    at = at[(wide - size) // 2 :][:size]
    below = at.floor().clamp(max=crop - 1).long()
    part, first = at - below, (size - crop) // 2
    weights, pixel = torch.zeros(size, size, dtype=torch.float64), torch.arange(size)
    weights[pixel, first + below] = 1 - part
    weights[pixel, first + (below + 1).clamp(max=crop - 1)] += part
    return weights


def pixels(n: int, h: int, w: int) -> Tensor:
    """Where each pixel lies (n x h x w x 2: column, then row)."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([columns, rows], 2).float().expand(n, h, w, 2)


def mapped(matrices: Tensor, n: int, h: int, w: int) -> Tensor:
    """Returns where `matrices` (n x 2 x 3, in pixels, column first) take each pixel (n x h x w x 2)."""
    return torch.einsum("nij,nhwj->nhwi", matrices[:, :, :2], pixels(n, h, w)) + matrices[:, None, None, :, 2]


def sampled(x: Tensor, at: Tensor, outside: Literal["zeros", "reflect", "mirror"]) -> Tensor:
    """Returns each image's values at points of its own (n x h x w x 2, in pixels, column first), bilinear."""
    # grid_sample's two conventions: -1 and 1 are the centres of the outer pixels (it then mirrors
    # about them), or their outer edges.
    centres = outside == "mirror"
    size = at.new_tensor([x.shape[3], x.shape[2]])
    grid = 2 * at / (size - 1).clamp_min(1) - 1 if centres else (2 * at + 1) / size - 1
    padding = "zeros" if outside == "zeros" else "reflection"
    return nn.functional.grid_sample(
        x, grid.to(x), mode="bilinear", padding_mode=padding, align_corners=centres
    )


def grey(x: Tensor) -> Tensor:
    """Returns the luma (N x 1 x H x W): ITU-R 601 weights for three channels, else the mean of the
    channels.
    """
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
