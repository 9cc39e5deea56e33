"""How a network wants its pixels: a first layer that takes images in [0, 1] and gives the network
what it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.models.layouts import arranged


class InputAdapter(nn.Module):
    """It computes net(rearranged((scale * x - mean) / std))[order] for x in [0, 1], N x C x H x W.
    `net` is the user's network, unchanged.

    `mean` and `std` are one number a channel, or one for all, of pixels in 0..scale. They are
    buffers, no parameters: a repair cannot change them, and the state dict carries them. `bgr`
    turns the channels round first; `layout` (see airepair.models.layouts) comes last; `prepare` is
    the user's own pre-processing of images in [0, 1]; output k of the feed is output `order[k]` of
    the network.
    """

    mean: Tensor
    std: Tensor
    order: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        scale: float = 1.0,
        *,
        bgr: bool = False,
        layout: str = "NCHW",
        prepare: Callable[[Tensor], Tensor] | None = None,
        order: Sequence[int] | None = None,
    ):
        super().__init__()
        if len(mean) != len(std) or not mean or not all(value > 0 for value in std):
            raise UsageError(
                f"mean {tuple(mean)} and std {tuple(std)} do not fit; accepted: "
                f"one of each for every channel, std above 0"
            )
        self.net = net
        self.scale, self.bgr, self.layout, self.prepare = scale, bgr, layout, prepare
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))
        # Not in the state dict: what is repaired is the network, and its own file knows nothing of
        # the data set's order.
        self.register_buffer("order", None if order is None else torch.tensor(list(order)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of the network, in the data set's order of classes."""
        if self.mean.numel() not in (1, x.shape[1]):
            raise UsageError(f"mean and std have {self.mean.numel()} channels, the images {x.shape[1]}")
        if self.bgr:
            x = x.flip(1)
        x = (x * self.scale - self.mean) / self.std
        if self.prepare is not None:
            x = self.prepare(x)
        logits: Tensor = self.net(arranged(x, self.layout))
        order = self.order
        return logits if order is None else logits[:, order]
