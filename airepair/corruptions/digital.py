"""What cameras and files do (parameters: CIFAR-10-C)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from airepair.corruptions.filters import averaging

# Quantisation tables of the JPEG standard (ITU-T T.81, Annex K), quality 50.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# RGB to Y, Cb, Cr (JFIF).
YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def contrast(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Each channel drawn towards its mean over the image."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean


def pixelate(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Each cell of a coarser grid takes the mean of what it covers, and is sampled up by the nearest cell."""
    h, w = x.shape[2:]
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    rows, columns = averaging(h, max(1, int(h * share))).to(x), averaging(w, max(1, int(w * share))).to(x)
    return nn.functional.interpolate(rows @ x @ columns.T, (h, w), mode="nearest-exact")


def jpeg_compression(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """The loss of a JPEG file of quality 80 to 40: cosine coefficients of 8 x 8 blocks rounded to the standard's tables, chroma at half size."""
    quality = (80, 65, 58, 50, 40)[severity - 1]
    h, w = x.shape[2:]
    x = nn.functional.pad(x, (0, -w % 16, 0, -h % 16), mode="replicate") if h % 16 or w % 16 else x
    if x.shape[1] != 3:
        n, c = x.shape[:2]
        return quantised(x.flatten(0, 1)[:, None], LUMA, quality).reshape(n, c, *x.shape[2:])[:, :, :h, :w]
    matrix = x.new_tensor(YCC)
    ycc = torch.einsum("ij,njhw->nihw", matrix, x)
    luma = quantised(ycc[:, :1], LUMA, quality)
    colour = nn.functional.avg_pool2d(ycc[:, 1:], 2)
    colour = torch.cat([quantised(colour[:, k : k + 1] + 0.5, CHROMA, quality) - 0.5 for k in (0, 1)], 1)
    whole = torch.cat([luma, nn.functional.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)], 1)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), whole)[:, :, :h, :w]


def quantised(x: Tensor, table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """One channel (N x 1 x H x W in [0, 1], sides divisible by 8) after rounding its cosine coefficients (libjpeg's scaling of the table)."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = ((x.new_tensor(table) * scale + 50) / 100).floor().clamp(1, 255)
    k = torch.arange(8, device=x.device, dtype=x.dtype)
    basis = torch.cos((2 * k[None, :] + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    n, _, h, w = x.shape
    blocks = (255 * x - 128).reshape(n, h // 8, 8, w // 8, 8).transpose(2, 3)
    blocks = basis.T @ (((basis @ blocks @ basis.T) / steps).round() * steps) @ basis
    return ((blocks.transpose(2, 3).reshape(n, 1, h, w) + 128) / 255).clamp(0, 1)
