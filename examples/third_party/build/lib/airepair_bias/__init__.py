"""bias: shifts the logits so that no class is preferred. An example of a repair method in a package of its own.

Idea: a network that was trained on unbalanced or mislabelled data prefers some classes; on the failing and passing inputs the share of each
predicted class is compared with the share of each true one among the failing, and the output bias moves by the logarithm of the ratio.

Changes the bias of the last linear layer. Refuses a network whose last layer has none. Default: half of the full correction (this example).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.exam import sit
from airepair.options import Space, option
from airepair.types import Category, Task


@dataclass(frozen=True)
class Bias:
    """Moves the output bias; keeps the move only if validation gains."""

    name: ClassVar[str] = "bias"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021 (the idea)"

    strength: float = option(0.5, "share of the full correction", low=0.0, high=1.0, source="this example", tune=Space(0.0, 1.0))

    @torch.no_grad()
    def repair(self, task: Task) -> nn.Module:
        """The module with another output bias."""
        if not len(task.failing):
            return task.module
        layer = next((m for m in reversed(list(task.module.modules())) if isinstance(m, nn.Linear)), None)
        if layer is None or layer.bias is None:
            raise Unsupported("the network has no linear layer with a bias")
        exam = sit(task.module, task.failing)
        classes = len(task.classes)
        said = torch.bincount(exam.predictions, minlength=classes) + 1.0
        true = torch.bincount(exam.y, minlength=classes) + 1.0
        before, bias = sit(task.module, task.validation).accuracy, layer.bias.clone()
        layer.bias += self.strength * (true / said).log().to(bias)
        if sit(task.module, task.validation).accuracy <= before:
            layer.bias.copy_(bias)
            task.note("validation gained nothing: the bias is as it was")
        return task.module
