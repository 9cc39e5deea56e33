"""random: a random change of a given norm, the control of the direct weight modifications.

Idea: any change flips some predictions; what a weight modification gains must be more than what the same distance in a random direction
does. Each parameter tensor gets Gaussian noise whose L2 norm is `norm` times the tensor's own (a tenth by default,
its lr). The state with the better validation accuracy is *not* selected: a control must be free to do harm.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from airepair.options import Space, option
from airepair.types import Category, Task


@dataclass(frozen=True)
class RandomChange:
    """Adds Gaussian noise of relative norm `norm` to every parameter tensor."""

    name: ClassVar[str] = "random"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "control"

    norm: float = option(
        0.1, "L2 norm of the change relative to each tensor's own", low=0.0, source="control", tune=Space(1e-3, 1.0, log=True)
    )

    @torch.no_grad()
    def repair(self, task: Task) -> nn.Module:
        """The module with noise on every parameter."""
        if not len(task.failing):
            return task.module
        generator = task.generator()
        for parameter in task.module.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(noise * (self.norm * parameter.norm() / noise.norm().clamp_min(1e-12)))
        return task.module
