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
from collections.abc import Iterator

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from airepair.host.arithmetic.exact import root
from airepair.models.layers import Affine, Site


class Decoupled(nn.Module):
    """It has two parts: `activation`: the original network, always in evaluation mode; `value`: the
    edited layer, a copy of the one called `layer`.
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
        """Returns the logits, N x K."""
        layer = self.activation.get_submodule(self.layer)

        def edit(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            dual: Tensor = forward_ad.make_dual(out, self.value(args[0]) - out)
            return dual

        # Inference mode switches forward-mode differentiation off, and with it the repair; leaving
        # it switches gradients on.
        gradients = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), forward_ad.dual_level():
            handles = [layer.register_forward_hook(edit)]
            handles += [
                h for m in self.activation.modules() if isinstance(m, _BatchNorm) for h in _portable(m)
            ]
            try:
                logits, change = forward_ad.unpack_dual(self.activation(x.clone() if x.is_inference() else x))
            finally:
                for handle in handles:
                    handle.remove()
            if change is None:
                raise RuntimeError(
                    f"the edit of layer {self.layer!r} does not reach the logits: "
                    f"something after it drops derivatives"
                )
            total: Tensor = logits + change
            return total


def _portable(norm: _BatchNorm) -> Iterator[RemovableHandle]:
    """Hooks with which a batch normalisation in evaluation mode scales the derivative by an exact root.

    PyTorch's own rule divides by `torch.sqrt`, whose last bits differ between processors.
    """
    if norm.running_var is None:
        return
    changes: list[Tensor | None] = []

    def part(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        primal, change = forward_ad.unpack_dual(args[0])
        changes.append(change)
        return (primal,)

    def join(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        change = changes.pop()
        if change is None:
            return out
        assert norm.running_var is not None
        scale = 1 / root(norm.running_var + norm.eps)
        scale = scale if norm.weight is None else norm.weight * scale
        dual: Tensor = forward_ad.make_dual(out, change * scale.reshape(1, -1, *[1] * (out.dim() - 2)))
        return dual

    yield norm.register_forward_pre_hook(part)
    yield norm.register_forward_hook(join)


def fold(network: Decoupled) -> nn.Module:
    """Returns the single-channel network with the edited layer in place of the original one: the
    same function where that layer is the last.
    """
    folded = copy.deepcopy(network.activation)
    folded.get_submodule(network.layer).load_state_dict(network.value.state_dict())
    return folded
