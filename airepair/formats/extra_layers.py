"""The layers that a converted network may need and torch does not have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelsLastFlatten(nn.Module):
    """It maps N x C x H x W to N x (H W C): the order in which Keras, TensorFlow and MMdnn flatten.

    Without channels: as it stands.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the flattened activations."""
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


class ChannelsLastReshape(nn.Module):
    """It maps N x ... to N x `shape`, as Keras and TensorFlow reshape: images are channels last
    before and after (here N x C x H x W).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Returns the same numbers in the same order."""
        x = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).reshape(x.shape[0], *self.shape)
        return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


class SamePadAverage(nn.Module):
    """It is average pooling with padding "same", asymmetric if TensorFlow's is: padded places do
    not count.
    """

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads

    def forward(self, x: Tensor) -> Tensor:
        """Returns the pooled images, N x C x H' x W'."""
        inside = F.pad(x.new_ones(1, 1, *x.shape[2:]), self.pads)
        share = F.avg_pool2d(inside, self.kernel, self.stride)
        return F.avg_pool2d(F.pad(x, self.pads), self.kernel, self.stride) / share


class Scaled(nn.Module):
    """It computes net(scale * x + offset), channel by channel: a network behind the scaling that
    its file did itself. Buffers, no parameters.

    `axes` is how many axes one input has: 3 for C x H x W, 1 for a vector.
    """

    def __init__(
        self, net: nn.Module, scale: tuple[float, ...], offset: tuple[float, ...], axes: int = 3
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("scale", torch.tensor(scale).reshape(-1, *[1] * (axes - 1)))
        self.register_buffer("offset", torch.tensor(offset).reshape(-1, *[1] * (axes - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's outputs, N x K."""
        scale, offset = self.scale, self.offset  # declared on the class, TorchScript could not read them
        assert isinstance(scale, Tensor)
        assert isinstance(offset, Tensor)
        found: Tensor = self.net(x * scale + offset)
        return found
