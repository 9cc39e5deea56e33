"""The two layers that a converted network may need and torch does not have."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelsLastFlatten(nn.Module):
    """N x C x H x W -> N x (H W C): the order in which Keras, TensorFlow and MMdnn flatten. N x K passes."""

    def forward(self, x: Tensor) -> Tensor:
        """The flattened activations."""
        return x if x.ndim == 2 else x.permute(0, 2, 3, 1).flatten(1)


class SamePadAverage(nn.Module):
    """Average pooling with padding "same", asymmetric where TensorFlow's is: padded places do not count."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H' x W'."""
        inside = F.pad(x.new_ones(1, 1, *x.shape[2:]), self.pads)
        share = F.avg_pool2d(inside, self.kernel, self.stride)
        return F.avg_pool2d(F.pad(x, self.pads), self.kernel, self.stride) / share
