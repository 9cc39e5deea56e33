"""What a change of a few of a layer's weights adds to its output, without running the layer again.

A dense layer and a convolution are linear in their weights: a change delta of the weight from input
i to output o adds delta times what that weight sees (one feature, or one shifted channel) to output
o. Under vmap the layer itself then needs no weights of its own for each candidate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from airepair.models.layers import Weighted


class SparseChange:
    """It holds changes of the D weights at the flattened places `index` of a Linear or Conv2d."""

    def __init__(self, layer: Weighted, index: Tensor) -> None:
        self.layer = layer
        shape = layer.weight.shape
        per_output = layer.weight[0].numel()
        self.touched, position = (index // per_output).unique(return_inverse=True)
        # One-hot: which of the touched outputs each change belongs to (U x D).
        self.owner = torch.zeros(len(self.touched), len(index), device=index.device)
        self.owner[position, torch.arange(len(index), device=index.device)] = 1
        within = index % per_output
        if isinstance(layer, nn.Linear):
            self.inputs = within
            return
        window = shape[2] * shape[3]
        group = (index // per_output) // (shape[0] // layer.groups)
        self.inputs = group * shape[1] + within // window
        # A kernel that picks, for each change, the pixel of its channel that the weight sees.
        self.pick = torch.zeros(len(index), 1, *shape[2:], device=index.device, dtype=layer.weight.dtype)
        self.pick.view(len(index), -1)[torch.arange(len(index), device=index.device), within % window] = 1

    def added(self, out: Tensor, x: Tensor, delta: Tensor) -> Tensor:
        """Returns the layer's output `out` on inputs `x` after its weights changed by `delta` (D)."""
        owner = self.owner.to(delta) * delta
        if isinstance(self.layer, nn.Linear):
            return out.index_add(-1, self.touched, x[..., self.inputs] @ owner.T)
        layer = self.layer
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        seen = nn.functional.pad(x[:, self.inputs], layer._reversed_padding_repeated_twice, mode=mode)
        seen = nn.functional.conv2d(seen, self.pick, None, layer.stride, 0, layer.dilation, len(self.inputs))
        return out.index_add(1, self.touched, torch.einsum("ud,ndhw->nuhw", owner, seen))
