"""damaged: weights of one layer of the trained subject are perturbed, and it is known which.

`severity` is the share of the layer's weights to which a normal deviate is added, `scale` its
standard deviation in those of the layer's weights; the layer is the last but one of the linear and
convolutional layers unless `layer` says so. It spoils the test inputs that it turned wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from airepair.faults.fault import Fault
from airepair.faults.layer import struck, weights_of
from airepair.options import option


@dataclass(frozen=True)
class Damaged(Fault):
    """This fault adds noise to a share of a layer's weights."""

    name: ClassVar[str] = "damaged"
    kind: ClassVar = "weights"

    severity: float = option(0.3, "share of the layer's weights that is perturbed", low=0.00001, high=1.0)
    scale: float = option(4.0, "standard deviation, in units of that of the layer's weights", low=0.01)
    layer: int = option(-2, "index among the linear and convolutional layers; negative: from the end")

    def damage(self, module: nn.Module) -> dict[str, Tensor]:
        """Adds the noise; which weights differ now."""
        name, weight = weights_of(module, self.layer)
        generator = self.generator()
        before = weight.detach().cpu().flatten().clone()
        after, index = before.clone(), struck(before, self.severity, generator)
        after[index] += self.scale * before.std(correction=0) * torch.randn(len(index), generator=generator)
        weight.data.copy_(after.reshape(weight.shape))
        return {name: (after != before).reshape(weight.shape)}
