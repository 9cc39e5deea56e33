"""The effect of one layer's weights and all later biases while every later ReLU stays on or off as it
is (Tao et al., PLDI 2023).

Only the first layer's weights meet data; later layers contribute their biases. So as long as no
later unit switches, the logits and all later pre-activations are affine in these variables
together, in the ordinary network. That no unit switches is a linear constraint, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.linear.effect import Effect, columns, record
from airepair.linear.margins import Array, Index, Margins, numbers
from airepair.models.layers import Site

# What may run after the repaired layer: affine maps in evaluation mode, ReLU, and what only moves numbers.
AFFINE = (
    nn.Linear, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Flatten, nn.Dropout, nn.Dropout2d,
    nn.Identity, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip


def pattern_effect(
    module: nn.Module, site: Site, later: Sequence[Site], x: Tensor, *, classes: int, entries: int
) -> Effect:
    """Returns the effect of the site's weights and bias and of later biases on K + U + 1 numbers:
    logits, later pre-activations, a constant zero.

    Unsupported if something other than ReLU and affine layers runs after the site, or the slopes
    would hold more than `entries` numbers.
    """
    layers = [site, *(s for s in later if s.layer(module).bias is not None)]
    check_layers(module, site, x)
    run = stacked(module, layers, x)
    seen, shape, _ = record(module, site.layer(module), x)
    offsets = [
        x.new_zeros(shape),
        *(
            x.new_zeros((len(x), s.width, *(1,) * (2 * int(s.layer(module).weight.ndim > 2))))
            for s in layers[1:]
        ),
    ]
    with torch.no_grad():
        outputs = run(offsets)
    size = outputs.shape[1]
    needed = outputs.numel() * (shape[1:].numel() + sum(s.width for s in layers[1:]))
    if needed > entries:
        raise Unsupported(
            f"the slopes of {size} units at {len(x)} points hold {needed:,} numbers, "
            f"more than entries={entries:,}; fewer points"
        )
    pull = torch.func.vjp(run, offsets)[1]
    seeds = torch.eye(size, dtype=x.dtype, device=x.device)[:, None, :].expand(-1, len(x), -1)
    slopes = [s.transpose(0, 1).detach() for s in torch.func.vmap(pull, chunk_size=32)(seeds)[0]]
    tail = torch.cat([s.flatten(2) for s in slopes[1:]], 2) if len(slopes) > 1 else None
    inputs = columns(site.layer(module), seen)
    return Effect(
        outputs,
        inputs,
        slopes[0].reshape(len(x), size, site.width, -1),
        site.width,
        site.layer(module).bias is not None,
        tail,
    )


@torch.no_grad()
def pattern_size(module: nn.Module, site: Site, x: Tensor) -> int:
    """Returns how many numbers pattern_effect differentiates: K + U + 1."""
    _, shape, _ = record(module, site.layer(module), x)
    return stacked(module, [site], x)([x.new_zeros(shape)]).shape[1]


def check_layers(module: nn.Module, site: Site, x: Tensor) -> None:
    """Raises Unsupported if a module that runs after the site is neither affine nor ReLU."""
    order: list[nn.Module] = []
    leaves = [m for m in module.modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_hook(lambda m, _a, _o: order.append(m)) for m in leaves]
    try:
        with torch.no_grad():
            module(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    after = order[order.index(site.layer(module)) + 1 :]
    for part in after:
        if not isinstance(part, (*AFFINE, nn.ReLU)):
            raise Unsupported(
                f"{type(part).__name__} runs after layer {site.name!r}; only ReLU and affine layers may, "
                f"so repair a later layer"
            )


def stacked(module: nn.Module, layers: Sequence[Site], x: Tensor) -> Callable[[Sequence[Tensor]], Tensor]:
    """Returns the logits, pre-activations of all ReLUs after the first of `layers`, and a zero, as
    a function of what is added to the layers' outputs.
    """

    def run(offsets: Sequence[Tensor]) -> Tensor:
        pre: list[Tensor] = []
        started: list[bool] = []

        def add(offset: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def hook(_module: nn.Module, _args: tuple[Tensor, ...], out: Tensor) -> Tensor:
                started.append(True)
                return out + offset

            return hook

        def listen(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if started:
                pre.append(args[0].clone().flatten(1))  # an in-place ReLU would overwrite it

        handles = [
            s.layer(module).register_forward_hook(add(o)) for s, o in zip(layers, offsets, strict=True)
        ]
        handles += [m.register_forward_pre_hook(listen) for m in module.modules() if isinstance(m, nn.ReLU)]
        try:
            logits = module(x)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat([logits, *pre, torch.zeros_like(logits[:, :1])], 1)

    return run


def unchanged_pattern(effect: Effect, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns point, winner and loser of "no later unit switches": its pre-activation stays on its
    side of the constant zero in the last place.
    """
    units = torch.arange(classes, effect.logits.shape[1] - 1, device=effect.logits.device)
    point = torch.arange(len(effect.logits), device=units.device).repeat_interleave(len(units))
    unit = units.repeat(len(effect.logits))
    zero = torch.full_like(unit, effect.logits.shape[1] - 1)
    on = effect.logits[point, unit] > 0
    return point, torch.where(on, unit, zero), torch.where(on, zero, unit)


def with_pattern(rows: Margins, effect: Effect, classes: int) -> Margins:
    """Returns the rows (over the first K outputs) and those that freeze the pattern, which are hard."""
    point, winner, loser = unchanged_pattern(effect, classes)
    held = torch.zeros(len(point), dtype=torch.bool, device=point.device)
    # A unit already at zero counts as off; rounding must not make "no change" infeasible.
    slack = (effect.logits[point, winner] - effect.logits[point, loser]).clamp(max=0)
    return Margins(
        effect,
        torch.cat([rows.point, point]),
        torch.cat([rows.winner, winner]),
        torch.cat([rows.loser, loser]),
        torch.cat([rows.margin, slack]),
        torch.cat([rows.soft, held]),
    )


@dataclass(frozen=True, eq=False)
class WithOutputs:
    """It holds the rows with n x K more variables, the change of the logits, so that it can be
    minimised with the change of the weights.
    """

    rows_of: Margins
    classes: int

    @property
    def size(self) -> int:
        """Returns the number of weights, biases and changes of the logits."""
        return self.rows_of.size + len(self.rows_of.effect.logits) * self.classes

    @property
    def rhs(self) -> Array:
        """Returns those of the rows."""
        return self.rows_of.rhs

    @property
    def group(self) -> Index:
        """Returns those of the rows."""
        return self.rows_of.group

    @property
    def entries(self) -> int:
        """Returns those of the rows: the new variables stand in the equalities alone."""
        return self.rows_of.entries

    def rows(self, index: Index) -> sparse.csr_array:
        """Returns the rows, zero in the new columns."""
        found = self.rows_of.rows(index)
        return sparse.csr_array(
            sparse.hstack(
                [found, sparse.csr_array((len(index), self.size - self.rows_of.size))], format="csr"
            )
        )

    def values(self, delta: Array) -> Array:
        """Returns the rows' values: the new variables play no part."""
        return self.rows_of.values(delta[: self.rows_of.size])

    def equalities(self) -> sparse.csr_array:
        """Returns the rows of: effect of the change - change of the logits = 0."""
        effect = self.rows_of.effect
        n = len(effect.logits)
        point = torch.arange(n, device=effect.logits.device).repeat_interleave(self.classes)
        pick = torch.eye(effect.logits.shape[1], dtype=effect.logits.dtype, device=point.device)[
            : self.classes
        ].repeat(n, 1)
        jacobian = sparse.csr_array(numbers(effect.gradient(point, pick)))
        return sparse.csr_array(sparse.hstack([jacobian, -sparse.eye_array(n * self.classes)], format="csr"))


def parts(effect: Effect, later: Sequence[Site], delta: Array) -> list[Tensor]:
    """Returns the tail of a flat change as one bias change for each of the later layers that have
    one.
    """
    widths = [s.width for s in later]
    tail = torch.from_numpy(np.asarray(delta))[effect.size - sum(widths) : effect.size]
    return list(tail.split(widths))
