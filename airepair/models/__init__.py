"""The architectures, one family a file: functions of (classes, shape). Other packages use the entry point `airepair.models`.

A name may be registered for one data set only ("digits/cnn"); that line is preferred there. This page loads without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airepair.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry(
    "model",
    "airepair.models",
    {
        "digits/fc": "airepair.models.digits:fc",
        "digits/cnn": "airepair.models.digits:cnn",
    },
)


def build(name: str, dataset: str, classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """An untrained network of that name for images of `shape` (C, H, W). UsageError for an unknown name."""
    special = f"{dataset}/{name}"
    found: nn.Module = MODELS.get(special if special in MODELS.names() else name)(classes, shape)
    return found
