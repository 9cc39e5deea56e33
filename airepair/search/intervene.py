"""Layer outputs changed by hooks, many changes in one pass: do-interventions, scalings, feature
maps swapped in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from airepair.search.batched import chunk_of, counted, over
from airepair.search.prefix import Prefix
from airepair.types import Meter

# change(i, out, parameters): the output of the i-th layer (N x C x ...) under one candidate's parameters.
Change = Callable[[int, Tensor, tuple[Tensor, ...]], Tensor]


class Intervened:
    """It computes the logits (M x N x K) of images `x` (N) under M candidate changes of the outputs
    of `layers`.

    What runs up to the first of the layers, its own output included, is computed once. `meter`
    counts M x N images a call.
    """

    def __init__(
        self, module: nn.Module, layers: Sequence[nn.Module], x: Tensor, change: Change, meter: Meter
    ) -> None:
        self.module, self.layers, self.x, self.change, self.meter = module, layers, x, change, meter
        self.prefix = Prefix(module, layers, x, outputs=True)
        self.chunk = chunk_of(len(x) * self.prefix.widest, x.device)

    @torch.no_grad()
    def __call__(self, *parameters: Tensor) -> Tensor:
        """One candidate for each row of the parameters (all of length M)."""
        current: tuple[Tensor, ...] = ()

        def hook(number: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
            return lambda _module, _args, out: self.change(number, out, current)

        def under(*row: Tensor) -> Tensor:
            nonlocal current
            current = row
            out: Tensor = self.module(self.x)
            return out

        handles = [layer.register_forward_hook(hook(i)) for i, layer in enumerate(self.layers)]
        try:
            with self.prefix.replaying(), counted(self.meter, len(parameters[0]) * len(self.x)):
                return over(under, parameters, self.chunk)
        finally:
            for handle in handles:
                handle.remove()


def channelwise(vector: Tensor, out: Tensor) -> Tensor:
    """Returns `vector` (C) shaped to act on the channels of `out` (N x C x ...; the last axis of a
    dense layer's output is its second).
    """
    return vector.view(1, -1, *([1] * (out.ndim - 2)))
