"""The decoupled network (Sotoudeh and Thakur, PLDI 2021): one channel chooses the branches, the other
computes the value.

The activation channel is the original network. The value channel is the same network with one
edited layer, and takes every activation's linearisation (on or off, which pixel a pool picks, a
smooth function's slope) from the activation channel. Its output is the original's plus the
directional derivative of what follows the layer along the edit, exactly: one forward-mode pass,
both channels at once.
"""

from __future__ import annotations

import copy

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from airepair.models.layers import Affine, Site


class Decoupled(nn.Module):
    """`activation`: the original network, always in evaluation mode; `value`: the edited layer, a
    copy of the one called `layer`.
    """

    def __init__(self, activation: nn.Module, site: Site) -> None:
        super().__init__()
        self.activation = activation
        self.layer = site.name
        self.value: Affine = copy.deepcopy(site.layer(activation))
        self.eval()

    def train(self, mode: bool = True) -> Decoupled:
        """Sets the mode of the value channel alone: the branches must stay those of the original network."""
        super().train(mode)
        self.activation.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits, N x K."""
        layer = self.activation.get_submodule(self.layer)

        def edit(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            dual: Tensor = forward_ad.make_dual(out, self.value(args[0]) - out)
            return dual

        # Inference mode switches forward-mode differentiation off, and with it the repair; leaving
        # it switches gradients on.
        gradients = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), forward_ad.dual_level():
            handle = layer.register_forward_hook(edit)
            try:
                logits, change = forward_ad.unpack_dual(self.activation(x.clone() if x.is_inference() else x))
            finally:
                handle.remove()
            if change is None:
                raise RuntimeError(
                    f"the edit of layer {self.layer!r} does not reach the logits: "
                    f"something after it drops derivatives"
                )
            total: Tensor = logits + change
            return total


def fold(network: Decoupled) -> nn.Module:
    """The single-channel network with the edited layer in place of the original one: the same
    function where that layer is the last.
    """
    folded = copy.deepcopy(network.activation)
    folded.get_submodule(network.layer).load_state_dict(network.value.state_dict())
    return folded
