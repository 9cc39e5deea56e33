"""The repair methods, one file each. A new one is its file and its line here; other packages use the entry point `airepair.methods`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airepair.options import configure
from airepair.registry import Registry

if TYPE_CHECKING:
    from airepair.types import Method

METHODS = Registry(
    "method",
    "airepair.methods",
    {
        "noop": "airepair.methods.noop:Noop",
        "finetune": "airepair.methods.finetune:Finetune",
        "random": "airepair.methods.random_change:RandomChange",
        "apricot": "airepair.methods.apricot:Apricot",
        "deeprepair": "airepair.methods.deeprepair:DeepRepair",
        "dl2": "airepair.methods.dl2:DL2",
    },
)


def build(name: str, options: Mapping[str, Any]) -> Method:
    """The method of that name with the given options; UsageError for an unknown name, option, type or range."""
    method: Method = configure(METHODS.get(name), options, name)
    return method
