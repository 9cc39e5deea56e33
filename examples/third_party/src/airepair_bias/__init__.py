"""bias: shifts the logits so that no class is preferred. An example of a repair method in a package
of its own.

Idea: a network that was trained on unbalanced or mislabelled data prefers some classes; on the
failing inputs the share of each predicted class is compared with the share of each true one, and
the output bias moves by the logarithm of the ratio.

Changes the bias of the last linear layer. Refuses a network whose last layer has none. Default:
half of the full correction (this example).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import sit
from airepair.options import Space, option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class Bias:
    """Moves the output bias."""

    name: ClassVar[str] = "bias"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021 (the idea)"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing",))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"shuffled_classes": {"classes": "shuffled"}}

    strength: float = option(
        0.5, "share of the full correction", low=0.0, high=1.0, source="this example", tune=Space(0.0, 1.0)
    )

    classes: Literal["own", "shuffled"] = option(
        "own", "whose bias moves; shuffled: another class's, a control", source="this example"
    )

    def budget(self, task: Task) -> int:
        """0: nothing is trained."""
        return 0

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
        move = self.strength * (true / said).log().to(layer.bias)
        layer.bias += (
            move if self.classes == "own" else move[torch.randperm(classes, generator=task.generator())]
        )
        return task.module
