"""The augmentations that a recipe may name: batched, on the images' device, from a seeded generator."""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.errors import choose
from airepair.types import Transform


def none(x: Tensor, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return x


def shift(x: Tensor, generator: torch.Generator, pad: int | None = None) -> Tensor:
    """Each image moved by up to `pad` pixels (an eighth of its height by default) in each direction, zeros moving in."""
    n, c, h, w = x.shape
    pad = max(1, h // 8) if pad is None else pad
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    top = torch.randint(2 * pad + 1, (n, 1), generator=generator)
    left = torch.randint(2 * pad + 1, (n, 1), generator=generator)
    rows = (top + torch.arange(h)).to(x.device, non_blocking=True)
    columns = (left + torch.arange(w)).to(x.device, non_blocking=True)
    index = (rows[:, :, None] * (w + 2 * pad) + columns[:, None, :]).reshape(n, 1, h * w).expand(n, c, h * w)
    return padded.reshape(n, c, -1).gather(2, index).reshape(n, c, h, w)


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """The CIFAR standard: zero-padding by an eighth, a random crop, and a mirror image half of the time."""
    flip = (torch.rand(len(x), generator=generator) < 0.5).to(x.device, non_blocking=True)
    return shift(torch.where(flip[:, None, None, None], x.flip(3), x), generator)


AUGMENTATIONS: dict[str, Transform] = {"none": none, "shift": shift, "crop+flip": crop_flip}


def augmentation(name: str) -> Transform:
    """The augmentation of a recipe's `augment`."""
    return AUGMENTATIONS[choose("augmentation", name, list(AUGMENTATIONS))]
