"""Which weights of which layer a fault of the weights strikes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from airepair.errors import UsageError


def weights_of(module: nn.Module, layer: int) -> tuple[str, Tensor]:
    """Returns the name and weight of the layer-th of the module's linear and convolutional layers
    (negative: from the end); UsageError without one.
    """
    found = [
        (f"{name}.weight".lstrip("."), part.weight)
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    if not -len(found) <= layer < len(found):
        raise UsageError(f"layer {layer} is none of the model's {len(found)} linear and convolutional layers")
    return found[layer]


def struck(weight: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Returns the flat indices of the weights that are struck: that share of them, at least one,
    without repetition.
    """
    count = max(1, round(share * weight.numel()))
    return torch.randperm(weight.numel(), generator=generator)[:count]
