"""Weather and light (parameters: CIFAR-10-C)."""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.corruptions.filters import dragged, grey, stored, zoomed


def plasma(n: int, side: int, decay: float, generator: torch.Generator) -> Tensor:
    """`n` fractal height maps in [0, 1] (n x side x side) by diamond-square on a torus; noise falls by
    decay^2 a level.

    The exponent is the published code's: it draws from a range that is itself the amplitude, and
    multiplies by it.
    """
    size = 1 << max(1, (side - 1).bit_length())
    field, stride, amplitude = torch.zeros(n, size, size), size, 1.0

    def noise(shape: torch.Size) -> Tensor:
        return amplitude * (2 * torch.rand(shape, generator=generator) - 1)

    while stride >= 2:
        half = stride // 2
        corners = field[:, ::stride, ::stride]
        middle = corners + corners.roll(-1, 1)
        middle = (middle + middle.roll(-1, 2)) / 4
        middle = middle + noise(middle.shape)
        field[:, half::stride, half::stride] = middle
        above = (corners + corners.roll(-1, 2) + middle + middle.roll(1, 1)) / 4
        field[:, ::stride, half::stride] = above + noise(above.shape)
        left = (corners + corners.roll(-1, 1) + middle + middle.roll(1, 2)) / 4
        field[:, half::stride, ::stride] = left + noise(left.shape)
        stride, amplitude = half, amplitude / decay**2
    field = field - field.amin((1, 2), keepdim=True)
    return (field / field.amax((1, 2), keepdim=True).clamp_min(1e-12))[:, :side, :side]


def fog(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Adds a fractal haze and keeps the image's largest value."""
    density, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    h, w = x.shape[2:]
    haze = plasma(len(x), max(h, w), decay, generator)[:, None, :h, :w].to(x.device)
    top = x.amax((1, 2, 3), keepdim=True)
    return (x + density * haze) * top / (top + density)


def snow(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Draws flakes: thresholded noise, enlarged and drawn out downwards, over a whitened image; the
    flakes also turned by half a circle.
    """
    mean, spread, zoom, threshold, length, sigma, keep = (
        (0.10, 0.2, 1.00, 0.60, 8, 3.0, 0.95),
        (0.10, 0.2, 1.00, 0.50, 10, 4.0, 0.90),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.90),
        (0.25, 0.3, 2.25, 0.60, 12, 6.0, 0.85),
        (0.30, 0.3, 1.25, 0.65, 14, 12.0, 0.80),
    )[severity - 1]
    n, _, h, w = x.shape
    flakes = zoomed(mean + spread * torch.randn(n, 1, h, w, generator=generator), zoom)
    flakes = stored(torch.where(flakes < threshold, 0.0, flakes))
    flakes = dragged(flakes, length, sigma, 90 * torch.rand(n, generator=generator) - 135).to(x.device)
    white = keep * x + (1 - keep) * torch.maximum(x, grey(x) * 1.5 + 0.5)
    return white + flakes + flakes.flip(2, 3)


def brightness(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Raises the value at the same hue and saturation (HSV): all channels of a pixel by one factor."""
    value = x.amax(1, keepdim=True)
    brighter = (value + (0.05, 0.10, 0.15, 0.20, 0.30)[severity - 1]).clamp_max(1)
    return torch.where(value > 0, x * brighter / value.clamp_min(1e-12), brighter)
