"""The layers of a module in the order in which they run, and the affine layer under repair: which
one, and whether it gives the logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import evaluating

Affine = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Site:
    """It names an affine layer in the module and holds its sizes.

    `final`: its output is the logits; `width` and `positions`: outputs, and places where it acts.
    """

    name: str
    final: bool
    width: int
    positions: int

    def layer(self, module: nn.Module) -> Affine:
        """Returns the layer itself, in `module` or a copy of it."""
        found = module.get_submodule(self.name)
        assert isinstance(found, nn.Linear | nn.Conv2d)
        return found


@torch.no_grad()
def sites(module: nn.Module, x: Tensor) -> list[Site]:
    """Returns the linear and convolutional layers that run exactly once on the images `x` (at least
    one), in the order in which they run.
    """
    calls: list[tuple[str, Tensor]] = []
    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}

    def listen(name: str) -> torch.utils.hooks.RemovableHandle:
        return layers[name].register_forward_hook(lambda _m, _a, out: calls.append((name, out)))

    handles = [listen(name) for name in layers]
    try:
        with evaluating(module):
            logits = module(x[:2])
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in calls]
    return [
        Site(
            name,
            out.shape == logits.shape and torch.equal(out, logits),
            _width(layers[name]),
            out[0].numel() // _width(layers[name]),
        )
        for name, out in calls
        if names.count(name) == 1
    ]


def _width(layer: Affine) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def find_site(module: nn.Module, x: Tensor, which: str) -> Site:
    """Returns the layer called `which`: "last", a name, or its place from the end (-1 is the last
    that runs). UsageError lists the layers.

    Places count from the end only, because the names in a Sequential are numbers.
    """
    found = sites(module, x)
    if not found:
        raise Unsupported("the module has no linear or convolutional layer that runs exactly once")
    known = (
        {s.name: s for s in found}
        | {str(i - len(found)): s for i, s in enumerate(found)}
        | {"last": found[-1]}
    )
    if which not in known:
        listed = ", ".join(f"{s.name} ({i - len(found)})" for i, s in enumerate(found))
        raise UsageError(
            f"layer {which!r} is not one that runs exactly once; accepted: last, or one of {listed}"
        )
    return known[which]


def final_site(module: nn.Module, x: Tensor) -> Site:
    """Returns the linear layer whose output is the logits; Unsupported if the module does
    something after it.
    """
    found = [s for s in sites(module, x) if s.final and isinstance(s.layer(module), nn.Linear)]
    if not found:
        raise Unsupported(
            "no linear layer gives the logits: something runs after the last one, or it runs more than once"
        )
    return found[-1]


def exact(module: nn.Module) -> nn.Module:
    """Returns a copy in float64 and evaluation mode, for the coefficients of a linear program."""
    return copy.deepcopy(module).double().eval()


@torch.no_grad()
def change(layer: Affine, weight: Tensor, bias: Tensor | None) -> None:
    """Adds to the layer's weight (out x in..., flattened or not) and bias, in place."""
    layer.weight.add_(weight.reshape(layer.weight.shape).to(layer.weight))
    if bias is not None and layer.bias is not None:
        layer.bias.add_(bias.to(layer.bias))


Weighted = nn.Linear | nn.Conv2d
WEIGHTED = (nn.Linear, nn.Conv2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, eq=False)
class Run:
    """It describes one call of a leaf module: its name, itself, the shape of its output (for two
    images) and whether that output is what the root returned.
    """

    name: str
    layer: nn.Module
    shape: tuple[int, ...]
    returned: bool


@torch.no_grad()
def runs(module: nn.Module, x: Tensor) -> list[Run]:
    """The calls of leaf modules in their order, on at most two images of `x`.

    Modules whose output is no tensor are left out.
    """
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda layer, _, out: (
            seen.append((name, layer, out.clone())) if isinstance(out, Tensor) else None
        )

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
    """Returns the first call of each Linear and Conv2d, in order."""
    found: dict[str, Run] = {}
    for run in order:
        if isinstance(run.layer, WEIGHTED):
            found.setdefault(run.name, run)
    return list(found.values())
