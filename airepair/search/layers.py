"""Weighted layers of a module, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from airepair.exam import evaluating

Weighted = nn.Linear | nn.Conv2d
WEIGHTED = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, eq=False)
class Run:
    """One call of a leaf module: its name, itself, the shape of its output (for two images) and whether that output is what the root returned."""

    name: str
    layer: nn.Module
    shape: tuple[int, ...]
    returned: bool


@torch.no_grad()
def runs(module: nn.Module, x: Tensor) -> list[Run]:
    """The calls of leaf modules in their order, on at most two images of `x`. Modules whose output is no tensor are left out."""
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda layer, _, out: seen.append((name, layer, out.clone())) if isinstance(out, Tensor) else None

    leaves = [(n, m) for n, m in module.named_modules() if not list(m.children())]
    handles = [m.register_forward_hook(watch(n)) for n, m in leaves]
    try:
        with evaluating(module):
            out = module(x[:2])
    finally:
        for handle in handles:
            handle.remove()
    return [Run(n, m, tuple(o.shape), o.shape == out.shape and torch.equal(o, out)) for n, m, o in seen]


def weighted(order: list[Run]) -> list[Run]:
    """The first call of each Linear and Conv2d, in order."""
    found: dict[str, Run] = {}
    for run in order:
        if isinstance(run.layer, WEIGHTED):
            found.setdefault(run.name, run)
    return list(found.values())
