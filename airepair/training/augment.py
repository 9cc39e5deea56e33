"""The augmentations that a recipe may name: batched, on the images' device, from a seeded generator.

They move pixels and change none, so they take bytes as well as floats: the training loop augments
before it converts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.errors import choose
from airepair.types import Transform


def none(x: Tensor, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return x


def shift(x: Tensor, generator: torch.Generator, pad: int | None = None) -> Tensor:
    """Each image moved by up to `pad` pixels (an eighth of its height by default) in each
    direction, zeros moving in.
    """
    n, c, h, w = x.shape
    pad = max(1, h // 8) if pad is None else pad
    width, area = w + 2 * pad, (w + 2 * pad) * (h + 2 * pad)
    flat = torch.nn.functional.pad(x, (pad, pad, pad, pad)).reshape(-1)
    top = torch.randint(2 * pad + 1, (n, 1), generator=generator).to(x.device, non_blocking=True)
    left = torch.randint(2 * pad + 1, (n, 1), generator=generator).to(x.device, non_blocking=True)
    # Each row of a crop is w neighbours of the padded images laid end to end: copied as a whole,
    # faster than pixel by pixel.
    first = (top + torch.arange(h, device=x.device)) * width + left
    rows = torch.arange(0, n * c * area, area, device=x.device).reshape(n, c, 1) + first[:, None, :]
    return flat.unfold(0, w, 1).index_select(0, rows.reshape(-1)).reshape(n, c, h, w)


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """The CIFAR standard: zero-padding by an eighth, a random crop, and a mirror image half of the time."""
    flip = (torch.rand(len(x), generator=generator) < 0.5).to(x.device, non_blocking=True)
    return shift(torch.where(flip[:, None, None, None], x.flip(3), x), generator)


AUGMENTATIONS: dict[str, Transform] = {"none": none, "shift": shift, "crop+flip": crop_flip}


def augmentation(name: str) -> Transform:
    """The augmentation of a recipe's `augment`."""
    return AUGMENTATIONS[choose("augmentation", name, list(AUGMENTATIONS))]
