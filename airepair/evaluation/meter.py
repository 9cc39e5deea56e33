"""The harness's counting hooks on a module: found, taken off, put back."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from airepair.types import Meter

Module = TypeVar("Module", bound=nn.Module)


def meters_of(module: nn.Module) -> list[Meter]:
    """The meters on the module's root, where the harness puts them."""
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, Meter)]


def without_meter(module: Module, meter: Meter | None = None) -> Module:
    """The module with this meter, or all of them, taken off every part (in place)."""
    for part in module.modules():
        for key in [
            k
            for k, hook in part._forward_pre_hooks.items()
            if isinstance(hook, Meter) and meter in (None, hook)
        ]:
            del part._forward_pre_hooks[key]
    return module


def metered(module: Module, meter: Meter) -> Module:
    """The module with the meter on its root, once: an earlier step may have wrapped the root that
    carried it.
    """
    without_meter(module, meter).register_forward_pre_hook(meter)
    return module
