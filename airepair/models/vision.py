"""torchvision, imported through here and nowhere else.

torchvision's wheel for another build of torch cannot load its compiled operators; its import then
stops at `torchvision::nms`, although no network needs that operator. Only in that case its schemas
are declared first (without an implementation), and the import is done again.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@cache
def torchvision() -> Any:
    """Returns the package torchvision."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    _declare()
    return importlib.import_module("torchvision")


@cache
def _declare() -> torch.library.Library:
    """The library object must live on: its schemas vanish with it."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    return library
