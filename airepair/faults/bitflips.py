"""bitflips: bits of weights of one layer are flipped in their float32 representation, and it is known where.

`severity` is the share of the layer's weights in which one bit is flipped: the sign or one of the
four lowest bits of the exponent, so that a weight is negated or multiplied by 2 to 256 or divided
by as much. (The higher bits of the exponent would make infinities.) The layer is the last but one
of the linear and convolutional layers unless `layer` says otherwise. It spoils the test inputs that
it turned wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from airepair.faults.fault import Fault
from airepair.faults.layer import struck, weights_of
from airepair.options import option

BITS = (31, 23, 24, 25, 26)


@dataclass(frozen=True)
class Bitflips(Fault):
    """This fault changes weights by flipped bits."""

    name: ClassVar[str] = "bitflips"
    kind: ClassVar = "weights"

    severity: float = option(
        0.1, "share of the layer's weights in which a bit is flipped", low=0.00001, high=1.0
    )
    layer: int = option(-2, "index among the linear and convolutional layers; negative: from the end")

    def damage(self, module: nn.Module) -> dict[str, Tensor]:
        """Flips the bits; which weights differ now."""
        name, weight = weights_of(module, self.layer)
        generator = self.generator()
        before = weight.detach().cpu().float().flatten().clone()
        index = struck(before, self.severity, generator)
        masks = torch.tensor([-(2**31) if bit == 31 else 2**bit for bit in BITS], dtype=torch.int32)
        after = before.clone()
        after[index] = (
            before[index].view(torch.int32)
            ^ masks[torch.randint(len(BITS), (len(index),), generator=generator)]
        ).view(torch.float32)
        weight.data.copy_(after.reshape(weight.shape))
        return {name: (after != before).reshape(weight.shape)}
