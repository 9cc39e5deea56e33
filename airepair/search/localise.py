"""Which weights matter for some inputs: forward impact and gradient loss of dense and convolution
kernels (Arachne, TOSEM 2023).

A kernel is O x I weights over I inputs (a channel's window for a convolution), used at L positions
(1 for a dense layer on a vector).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import evaluating
from airepair.models.layers import Weighted
from airepair.types import Split

Calls = dict[Weighted, tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Impact:
    """It holds, for each layer, a tensor of its weight's shape, none negative: `forward` (FI) and
    `gradient` (GL, |d sum of losses / d weight|).
    """

    forward: tuple[Tensor, ...]
    gradient: tuple[Tensor, ...]


def impacts(
    module: nn.Module, layers: Sequence[Weighted], data: Split, *, behind: bool = True, batch: int = 64
) -> Impact:
    """Returns FI and GL of the layers' weights on `data`, in evaluation mode.

    With `behind` (Arachne v2) FI is each weight's share of its neuron's input, times the share of
    the neuron in the output's gradient, summed over positions. Without it (v1) FI is the mean of
    |o_i w_ij|, summed over positions.
    """
    gradients = [torch.zeros_like(layer.weight) for layer in layers]
    influence = [torch.zeros(()) for _ in layers]
    forward = [torch.zeros_like(layer.weight) for layer in layers]
    for x, y in data.batches(batch):
        with _recording(module, layers) as calls:
            logits = module(x)
            outs = [calls[layer][1] for layer in layers]
            loss = nn.functional.cross_entropy(logits, y, reduction="sum")
            found = torch.autograd.grad(
                loss, [layer.weight for layer in layers], retain_graph=behind, allow_unused=True
            )
            slopes = (
                torch.autograd.grad(logits.sum(), outs, allow_unused=True) if behind else (None,) * len(outs)
            )
        for i, layer in enumerate(layers):
            gradients[i] += 0 if found[i] is None else found[i]
            if behind:
                slope = slopes[i]
                sums = _positions(torch.zeros_like(outs[i]) if slope is None else slope.abs(), layer).sum(0)
                influence[i] = influence[i].to(sums) + sums
    shares = [s / s.sum().clamp_min(1e-30) for s in influence] if behind else [None] * len(layers)
    for x, _ in data.batches(batch):
        with torch.no_grad(), _recording(module, layers) as calls:
            module(x)
        for i, layer in enumerate(layers):
            forward[i] += _forward(layer, calls[layer][0], shares[i]) / len(data)
    return Impact(tuple(forward), tuple(g.abs() for g in gradients))


def _forward(layer: Weighted, x: Tensor, share: Tensor | None) -> Tensor:
    """Sum over images and positions of |o_i w_ij| (divided by its sum over i and weighted by
    `share`, O x L, where given).
    """
    inputs = _windows(x.abs(), layer)
    groups, size = inputs.shape[1:3]
    weight = layer.weight.detach().abs().reshape(groups, -1, size)
    if share is None:
        total = inputs.sum((0, 3))[:, None, :]
    else:
        sums = torch.einsum("goi,ngil->ngol", weight, inputs)
        part = share.reshape(groups, -1, share.shape[-1]) / sums.clamp_min(1e-30) * (sums > 0)
        total = torch.einsum("ngil,ngol->goi", inputs, part)
    return (weight * total).reshape(layer.weight.shape)


def _windows(x: Tensor, layer: Weighted) -> Tensor:
    """The layer's inputs at each position: N x groups x I x L."""
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), -1, x.shape[-1]).transpose(1, 2)[:, None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    windows = nn.functional.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
    return windows.view(len(x), layer.groups, -1, windows.shape[-1])


def _positions(out: Tensor, layer: Weighted) -> Tensor:
    """The layer's outputs as N x O x L."""
    if isinstance(layer, nn.Linear):
        return out.reshape(len(out), -1, out.shape[-1]).transpose(1, 2)
    return out.flatten(2)


@contextmanager
def _recording(module: nn.Module, layers: Sequence[Weighted]) -> Iterator[Calls]:
    """Input and output of each layer's last call.

    What follows gets a copy of the output: in-place activations do not spoil the record.
    """
    calls: Calls = {}

    def keep(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        calls[layer] = (args[0].detach().clone(), out)  # type: ignore[index]
        return out.clone()

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        with evaluating(module):
            yield calls
    finally:
        for handle in handles:
            handle.remove()
