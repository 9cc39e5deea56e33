"""Outputs of everything that runs before the first changed layer: recorded once, replayed in every
later pass.

Works for any module, residual connections included: a submodule whose calls all end before the
first changed layer starts cannot depend on it, so its recorded outputs stand in for its forward.
What a forward does between submodules still runs; it is cheap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import evaluating
from airepair.models.layers import NORMS


class Prefix:
    """It is the replay for images `x` (N) when only the layers in `changed` (or, with `outputs`,
    only their outputs) differ between passes.

    `widest` is the largest number of floats that one image needs in one submodule's output.
    """

    @torch.no_grad()
    def __init__(
        self, module: nn.Module, changed: Collection[nn.Module], x: Tensor, *, outputs: bool = False
    ) -> None:
        self.module, self.x = module, x
        spans, self.widest = _trace(module, x[:2])
        edge = 1 if outputs else 0
        self.first = min((span[edge] for layer in changed for span in spans.get(layer, [])), default=math.inf)
        self.recorded: dict[nn.Module, list[Tensor]] = {
            m: [] for m in _before(module, spans, self.first, outputs)
        }
        handles = [m.register_forward_hook(_append(outs)) for m, outs in self.recorded.items()]
        try:
            with evaluating(module):
                module(x)
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Makes the recorded submodules return within it what they returned on `x`; pass nothing
        but `x` to the module.
        """
        live = [m for m in self.module.modules() if m not in self.recorded]
        norms = [m for m in live if isinstance(m, NORMS) and m.running_mean is not None]
        pools = (
            [m for m in live if isinstance(m, nn.MaxPool2d) and tiles(m)]
            if self.x.device.type == "cpu"
            else []
        )
        for layer, outs in self.recorded.items():
            layer.forward = _in_turn(outs)
        for norm in norms:
            norm.forward = _affine(norm)  # type: ignore[method-assign,assignment]
        for pool in pools:
            pool.forward = _largest_of(int(tiles(pool)))  # type: ignore[method-assign,assignment]
        try:
            with evaluating(self.module):
                yield
        finally:
            for layer in (*self.recorded, *norms, *pools):
                del layer.forward


def _trace(module: nn.Module, x: Tensor) -> tuple[dict[nn.Module, list[list[float]]], int]:
    """Start and end of each submodule's calls on a common clock, and the widest output.

    A call that returns no tensor never ends.
    """
    spans: dict[nn.Module, list[list[float]]] = {}
    clock, widest = 0, 1

    def enter(layer: nn.Module, _: object) -> None:
        nonlocal clock
        clock += 1
        spans.setdefault(layer, []).append([clock, math.inf])

    def leave(layer: nn.Module, _: object, out: object) -> None:
        nonlocal clock, widest
        clock += 1
        if isinstance(out, Tensor):
            widest = max(widest, out.numel() // max(1, len(x)))
            spans[layer][-1][1] = clock

    layers = [m for m in module.modules() if m is not module]
    handles = [
        h for m in layers for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))
    ]
    try:
        with evaluating(module):
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return spans, widest


def _before(
    module: nn.Module, spans: dict[nn.Module, list[list[float]]], first: float, inclusive: bool
) -> Iterator[nn.Module]:
    """The largest submodules whose calls all end before `first` (or at it)."""
    for child in dict.fromkeys(module.children()):
        ends = [end for _, end in spans.get(child, [])]
        if ends and all(math.isfinite(e) and (e < first or (inclusive and e == first)) for e in ends):
            yield child
        else:
            yield from _before(child, spans, first, inclusive)


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """A batch norm in evaluation mode as one product and sum for each channel: vmap's own rule
    copies its input twice.
    """
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    return lambda x: torch.addcmul(channelwise(shift, x), x, channelwise(scale, x))


def tiles(pool: nn.MaxPool2d) -> int:
    """Returns the side of the square tiles that the pooling takes the maximum of; 0 if they
    overlap, are padded or are not square.
    """
    sides = {
        x if isinstance(x, int) else (x[0] if len(set(x)) == 1 else 0)
        for x in (pool.kernel_size, pool.stride)
    }
    plain = (
        len(sides) == 1
        and pool.padding in (0, (0, 0))
        and pool.dilation in (1, (1, 1))
        and not pool.ceil_mode
        and not pool.return_indices
    )
    return sides.pop() if plain else 0


def _largest_of(side: int) -> Callable[[Tensor], Tensor]:
    """Max pooling over tiles as elementwise maxima: torch's kernel on the CPU also finds where they
    are, at several times the cost.
    """

    def forward(x: Tensor) -> Tensor:
        h, w = x.shape[-2] // side * side, x.shape[-1] // side * side
        parts = [x[..., i:h:side, j:w:side] for i in range(side) for j in range(side)]
        return reduce(torch.maximum, parts)

    return forward


def channelwise(vector: Tensor, out: Tensor) -> Tensor:
    """Returns `vector` (C) shaped to act on the channels of `out` (N x C x ...)."""
    return vector.view(1, -1, *([1] * (out.ndim - 2)))


def _append(outs: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda _module, _args, out: outs.append(out.clone())


def _in_turn(outs: list[Tensor]) -> Callable[..., Tensor]:
    calls = 0

    def forward(*_: object) -> Tensor:
        nonlocal calls
        calls += 1
        # A copy, because an in-place activation may write into it.
        return outs[(calls - 1) % len(outs)].clone()

    return forward
