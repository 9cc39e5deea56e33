"""The architectures, one family a file: functions of (classes, shape). Other packages use the entry
point `airepair.models`.

A name may be registered for one data set only ("digits/cnn"); that line is preferred there. This
page loads without torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airepair.errors import UsageError
from airepair.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry(
    "model",
    "airepair.models",
    {
        "digits/fc": "airepair.models.digits:fc",
        "digits/cnn": "airepair.models.digits:cnn",
        "cnn": "airepair.models.plain:cnn",
        "fc": "airepair.models.plain:fc",
        "resnet18": "airepair.models.resnet:resnet18",
        "resnet34": "airepair.models.resnet:resnet34",
        "resnet50": "airepair.models.resnet:resnet50",
        "resnet20": "airepair.models.resnet_cifar:resnet20",
        "resnet32": "airepair.models.resnet_cifar:resnet32",
        "resnet44": "airepair.models.resnet_cifar:resnet44",
        "resnet56": "airepair.models.resnet_cifar:resnet56",
    },
)
UNDERTRAINED = "_undertrained"
WIDTH = re.compile(r"(resnet\d+)w(\d+)")


def registered(name: str) -> bool:
    """Whether an architecture has that name, with a width or without; `_undertrained` is training."""
    plain = name.removesuffix(UNDERTRAINED)
    width = WIDTH.fullmatch(plain)
    return bool(name) and (width[1] if width else plain) in {n.rpartition("/")[2] for n in MODELS.names()}


def build(
    name: str, dataset: str, classes: int, shape: tuple[int, int, int], *, shortcut: str | None = None
) -> nn.Module:
    """Returns an untrained network of that name for images of `shape` (C, H, W). UsageError for an
    unknown name.

    `resnet18w16` is resnet18 with 16 channels in its stem; what follows the architecture
    (`_undertrained`, `+fault`) is training, not shape. `shortcut` "A" or "B" is for ResNet-20 and
    its family.
    """
    architecture = name.partition("+")[0].removesuffix(UNDERTRAINED)
    width = WIDTH.fullmatch(architecture)
    architecture = width[1] if width else architecture
    options: dict[str, Any] = ({"width": int(width[2])} if width else {}) | (
        {"shortcut": shortcut} if shortcut else {}
    )
    if options.get("width") == 0:
        raise UsageError(f"model {name!r} would have no channels; accepted: a width of 1 or more")
    special = f"{dataset}/{architecture}"
    found: nn.Module = MODELS.get(special if special in MODELS.names() else architecture)(
        classes, shape, **options
    )
    return found
