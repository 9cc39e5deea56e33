"""How the logits answer to a change of one affine layer while every later activation keeps its branch:
an affine map, computed in batches.

With h the layer's input and B = d logits / d (layer's output), both at the unchanged network,
y(change) = y0 + B (dW h + db): exact for networks that are piecewise linear after the layer as long
as no branch switches, and exact without that condition for a decoupled network (Sotoudeh and
Thakur, PLDI 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from airepair.errors import Unsupported
from airepair.models.layers import Affine, Site


@dataclass(frozen=True, eq=False)
class Effect:
    """It holds logits: n x K; inputs: n x I x L, what the layer multiplies at each of its L
    positions; slope: n x K x O x L, None for the identity.

    `bias`: whether the layer's bias may change too. `tail`: n x K x E, the effect of E more
    variables, such as later biases.
    """

    logits: Tensor
    inputs: Tensor
    slope: Tensor | None
    width: int
    bias: bool
    tail: Tensor | None = None

    @property
    def size(self) -> int:
        """Returns the free parameters: O x I, O more with a bias, and the tail's."""
        return self.width * (self.inputs.shape[1] + int(self.bias)) + (
            0 if self.tail is None else self.tail.shape[2]
        )

    def split(self, delta: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns a flat change (weights row by row, biases, tail) as dW (O x I) and db (O)."""
        weights = self.width * self.inputs.shape[1]
        return delta[:weights].reshape(self.width, -1), delta[
            weights : weights + self.width
        ] if self.bias else None

    def shift(self, delta: Tensor) -> Tensor:
        """Returns the change of the logits, n x K, under a flat change of the layer."""
        weight, bias = self.split(delta)
        out = weight @ self.inputs
        out = out if bias is None else out + bias[:, None]
        shift = out.squeeze(2) if self.slope is None else torch.einsum("nkol,nol->nk", self.slope, out)
        return shift if self.tail is None else shift + self.tail @ delta[-self.tail.shape[2] :]

    def gradient(self, point: Tensor, combination: Tensor) -> Tensor:
        """Returns d (combination . logits of a point) / d (flat change), R x size, for R points (R)
        and combinations (R x K).
        """
        inputs = self.inputs[point]
        slope = (
            combination[:, :, None]
            if self.slope is None
            else torch.einsum("rk,rkol->rol", combination, self.slope[point])
        )
        parts = [torch.einsum("rol,ril->roi", slope, inputs).flatten(1)]
        if self.bias:
            parts.append(slope.sum(2))
        if self.tail is not None:
            parts.append(torch.einsum("rk,rke->re", combination, self.tail[point]))
        return torch.cat(parts, 1)


def effect(
    module: nn.Module,
    site: Site,
    x: Tensor,
    *,
    bias: bool = True,
    batch_size: int = 128,
    entries: int = 10**9,
) -> Effect:
    """Returns the effect of the layer at `site` on the logits of the images `x`, in the module's
    precision, without training anything.

    Unsupported if the slopes would hold more than `entries` numbers.
    """
    layer = site.layer(module)
    inputs, logits, slopes = [], [], []
    for part in x.split(batch_size):
        seen, shape, out = record(module, layer, part)
        inputs.append(columns(layer, seen))
        logits.append(out)
        if not site.final:
            needed = len(x) * out.shape[1] * site.width * site.positions
            if needed > entries:
                raise Unsupported(
                    f"the slopes of layer {site.name!r} hold {needed:,} numbers, "
                    f"more than entries={entries:,}; fewer points or a later layer"
                )
            slopes.append(slope_of(module, layer, part, shape, out.shape[1]))
    slope = torch.cat(slopes) if slopes else None
    return Effect(torch.cat(logits), torch.cat(inputs), slope, site.width, bias and layer.bias is not None)


@torch.no_grad()
def record(module: nn.Module, layer: Affine, x: Tensor) -> tuple[Tensor, torch.Size, Tensor]:
    """Returns the layer's input on the images `x`, the shape of its output, and the logits."""
    seen: list[tuple[Tensor, torch.Size]] = []
    handle = layer.register_forward_hook(lambda _m, args, out: seen.append((args[0], out.shape)))
    try:
        logits = module(x)
    finally:
        handle.remove()
    return *seen[0], logits


def columns(layer: Affine, inputs: Tensor) -> Tensor:
    """Returns what the layer's weight matrix (O x I) multiplies: n x I x L."""
    if isinstance(layer, nn.Linear):
        if inputs.ndim != 2:
            raise Unsupported(f"the layer acts on inputs of {inputs.ndim} dimensions; accepted: n x features")
        return inputs[:, :, None]
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise Unsupported("the convolution is grouped, or padded otherwise than with a fixed number of zeros")
    return F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def answer(module: nn.Module, layer: Affine, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Returns the logits as a function of what is added to the layer's output."""

    def run(offset: Tensor) -> Tensor:
        handle = layer.register_forward_hook(lambda _m, _a, out: out + offset)
        try:
            logits: Tensor = module(x)
        finally:
            handle.remove()
        return logits

    return run


def slope_of(module: nn.Module, layer: Affine, x: Tensor, shape: torch.Size, classes: int) -> Tensor:
    """Returns d logits / d (layer's output of that shape), n x K x O x L: K reverse passes, batched
    by `torch.func.vmap`.
    """
    pull = torch.func.vjp(answer(module, layer, x), x.new_zeros(shape))[1]
    seeds = torch.eye(classes, dtype=x.dtype, device=x.device)[:, None, :].expand(-1, len(x), -1)
    slope: Tensor = torch.func.vmap(pull, chunk_size=16)(seeds)[0]
    return slope.transpose(0, 1).reshape(len(x), classes, shape[1], -1).detach()
