"""How a network wants its pixels: a first layer that takes images in [0, 1] and gives the network what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from airepair.errors import UsageError


class Feed(nn.Module):
    """net((scale * x - mean) / std) for x in [0, 1], N x C x H x W. `net` is the user's network, unchanged.

    `mean` and `std` are one number a channel, or one for all, of pixels in 0..scale. They are buffers, no parameters: a repair cannot
    change them, and the state dict carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,), scale: float = 1.0):
        super().__init__()
        if len(mean) != len(std) or not mean or not all(value > 0 for value in std):
            raise UsageError(f"mean {tuple(mean)} and std {tuple(std)} do not fit; accepted: one of each for every channel, std above 0")
        self.net = net
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the network."""
        if self.mean.numel() not in (1, x.shape[1]):
            raise UsageError(f"mean and std have {self.mean.numel()} channels, the images {x.shape[1]}")
        logits: Tensor = self.net((x * self.scale - self.mean) / self.std)
        return logits
