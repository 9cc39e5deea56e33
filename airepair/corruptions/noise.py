"""Noise: independent in every pixel and channel (parameters: CIFAR-10-C)."""

from __future__ import annotations

import torch
from torch import Tensor


def normal(x: Tensor, generator: torch.Generator) -> Tensor:
    """Returns standard normal numbers of x's shape, on its device."""
    return torch.randn(x.shape, generator=generator).to(x.device)


def gaussian_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns x + scale * N(0, 1): low light."""
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * normal(x, generator)


def shot_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns Poisson(photons * x) / photons: light is discrete."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (torch.poisson(x.cpu() * photons, generator=generator) / photons).to(x.device)


def impulse_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A share of the values becomes 0 or 1: bit errors."""
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    u = torch.rand(x.shape, generator=generator).to(x.device)
    return torch.where(u < amount, (u < amount / 2).to(x.dtype), x)


def speckle_noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns x + x * scale * N(0, 1): brighter pixels are noisier."""
    return x + x * (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1] * normal(x, generator)
