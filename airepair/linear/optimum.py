"""The smallest change of one layer for given inputs and wanted orders of the logits, with its
proof: a published optimum, read back.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.linear.decoupled import Decoupled, fold
from airepair.linear.effect import effect
from airepair.linear.highs import Limits, Norm
from airepair.linear.margins import orders
from airepair.linear.program import solve
from airepair.linear.proof import verdict
from airepair.models.layers import change, exact, find_site

Require = Literal["wins", "second-best", "orders"]


@dataclass(frozen=True)
class Answer:
    """What was proved. `gap`: how much less than `optimum` might do, by weak duality. `rows` of
    `required`: what the solver needed of all.

    `before` and `after`: orders that hold in float64.
    `decoupled`: whether `after` is about the decoupled network (a layer other than the last), then
    `folded` counts the ordinary one.
    """

    status: Literal["optimal", "infeasible"]
    verdict: str
    optimum: float | None
    gap: float | None
    layer: str
    variables: int
    required: int
    rows: int
    programs: int
    seconds: float
    before: int
    after: int | None
    folded: int | None
    decoupled: bool
    l1: float | None
    linf: float | None
    changed: int | None


def wins(y: Tensor, classes: int) -> Tensor:
    """Returns orders (R x 3: input, winner, loser) that let each input's class `y` win over every other."""
    strange = y[(y < 0) | (y >= classes)].tolist()
    if strange:
        raise UsageError(
            f"y holds label {strange[0]}, the network has {classes} classes; accepted: 0..{classes - 1}"
        )
    n = len(y)
    point = torch.arange(n).repeat_interleave(classes - 1)
    others = torch.arange(classes - 1).expand(n, -1)
    return torch.stack(
        [point, y.repeat_interleave(classes - 1), (others + (others >= y[:, None])).flatten()], 1
    )


def second_best(logits: Tensor) -> Tensor:
    """Returns orders that let each input's second-best class win over its best one (Goldberger et
    al.: the removal of a watermark).
    """
    top = logits.topk(2, 1).indices
    return torch.stack([torch.arange(len(top)), top[:, 1], top[:, 0]], 1)


def smallest(
    module: nn.Module,
    x: Tensor,
    triples: Tensor,
    *,
    layer: str,
    norm: Norm,
    margin: float,
    bias: bool,
    limits: Limits,
) -> Answer:
    """Returns the optimum over the layer's weights (and bias) such that at input i logit winner >=
    logit loser + margin, for all R orders.
    """
    double, x = exact(module), x.double()
    site = find_site(double, x, layer)
    answers = effect(double, site, x, bias=bias, entries=limits.entries)
    program = orders(answers, triples, margin)
    before = int((program.rhs <= 1e-9).sum())
    found = solve(program, norm, limits)
    size = None if found.status == "infeasible" else torch.from_numpy(found.delta).abs()
    after = folded = None
    if size is not None:
        network = Decoupled(copy.deepcopy(double), site)
        change(network.value, *answers.split(torch.from_numpy(found.delta)))
        after, folded = (holding(m, x, triples, margin) for m in (network, fold(network)))
    return Answer(
        status=found.status,
        verdict="proved infeasible" if size is None else verdict(found),
        optimum=None if size is None else found.value,
        gap=None if size is None else found.gap,
        layer=site.name,
        variables=program.size,
        required=len(triples),
        rows=found.rows,
        programs=found.rounds,
        seconds=found.seconds,
        before=before,
        after=after,
        folded=folded,
        decoupled=not site.final,
        l1=None if size is None else float(size.sum()),
        linf=None if size is None else float(size.max()),
        changed=None if size is None else int((size > 1e-12).sum()),
    )


@torch.no_grad()
def holding(module: nn.Module, x: Tensor, triples: Tensor, margin: float) -> int:
    """How many of the orders hold, to 1e-6."""
    logits = module(x)
    point, winner, loser = triples.T
    return int((logits[point, winner] - logits[point, loser] >= margin - 1e-6).sum())
