"""random: a random change of a given norm, the control of the direct weight modifications.

Idea: any change flips some predictions; what a weight modification gains must be more than what a
random change of the same size does. Each parameter tensor gets Gaussian noise whose L2 norm is
`norm` times the tensor's own, in all layers or in those that the method beside it changes. The
state with the better validation accuracy is *not* selected: a control must be free to do harm.

Changes parameters, never batch-norm statistics; a tensor of zeros stays as it is. Refuses nothing.
The default, a tenth, is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from airepair.errors import UsageError
from airepair.options import Space, option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class RandomChange:
    """Adds Gaussian noise of relative norm `norm` to the parameter tensors of some or all layers."""

    name: ClassVar[str] = "random"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "control"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing",))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    norm: float = option(
        0.1,
        "L2 norm of the change relative to each tensor's own",
        low=0.0,
        source="control",
        tune=Space(1e-3, 1.0, log=True),
    )
    layers: tuple[str, ...] = option(
        (),
        "names of the layers to change (their parts included); `last` is the last one; none: all",
        source="form",
    )

    def budget(self, task: Task) -> int:
        """0: nothing is trained."""
        return 0

    @torch.no_grad()
    def repair(self, task: Task) -> nn.Module:
        """Returns the module with noise on the parameters."""
        if not len(task.failing):
            return task.module
        generator = task.generator()
        for parameter in chosen(task.module, self.layers):
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(noise * (self.norm * parameter.norm() / noise.norm().clamp_min(1e-12)))
        return task.module


def chosen(module: nn.Module, layers: tuple[str, ...]) -> list[nn.Parameter]:
    """Returns the parameters in the named layers, in order; all for ().

    UsageError lists the layers that have parameters.
    """
    owners = [n for n, m in module.named_modules() if next(m.parameters(recurse=False), None) is not None]
    names = [owners[-1] if name == "last" else name for name in layers]
    for name in names:
        if not any(o == name or o.startswith(name + ".") for o in owners):
            raise UsageError(f"random.layers={name!r} has no parameters; accepted: last, {', '.join(owners)}")
    return [
        p
        for n, p in module.named_parameters()
        if not names or any(n.startswith(name + ".") for name in names)
    ]
