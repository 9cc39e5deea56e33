"""memit: a closed-form edit of the last layer (Meng et al., Mass-Editing Memory in a Transformer, ICLR
2023), for classification.

Idea: a linear layer is a memory from keys (its inputs) to values (its outputs); new values V for
the keys K of the failing inputs are written by ridge regression that weighs what the layer says to
ordinary keys: D = (V - W K) K' (C0 + K K')^-1 with C0 = lambda E[k k']. The wanted value is the
nearest vector of logits (in L2) in which the label wins by the margin. No solver, O(d^3 + n d^2).

Changes the last linear layer's weights (and bias, as one more input that is 1). Refuses modules
that do something after that layer. Exact only as lambda goes to 0 with independent keys; what is
left otherwise is (V - W K)(I - K'(C0 + K K')^-1 K). The state is not selected on validation.
Ordinary keys are those of the passing inputs, without their labels; if there are none, C0 is
lambda times the identity.

Defaults: lambda is open until it is tuned on validation (the paper's 15,000 belongs to language
models); margin .05 is PRDNN's buffer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import sit
from airepair.evaluation.work import billed
from airepair.linear.effect import effect
from airepair.methods.points import choose_points
from airepair.models.layers import change, exact, final_site
from airepair.options import Space, option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class Memit:
    """Writes new values for the failing inputs' features into the last layer."""

    name: ClassVar[str] = "memit"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Meng et al., ICLR 2023"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"no_ordinary_keys": {"ordinary": "none"}}

    ridge: float = option(
        100.0,
        "lambda: weight of the ordinary inputs' mean",
        low=0.0,
        source="open",
        tune=Space(0.1, 1e5, log=True),
    )
    ordinary: Literal["passing", "none"] = option(
        "passing",
        "inputs whose outputs are spared; none: no direction is spared, at a change of the same size (a "
        "control)",
        source="control",
    )
    margin: float = option(
        0.05,
        "logits by which the wanted class should win",
        low=0.0,
        source="PRDNN",
        tune=Space(1e-3, 10.0, log=True),
    )
    bias: bool = option(True, "the bias may change too", source="form")
    points: int | None = option(
        None, "failing inputs to repair, drawn by the seed; none: all", low=1, source="form"
    )

    def budget(self, task: Task) -> int:
        """0: nothing is trained."""
        return 0

    @torch.no_grad()
    def repair(self, task: Task) -> nn.Module:
        """Returns the edited module."""
        if not len(task.failing):
            return task.module
        wanted = choose_points(task, self.points)
        site = final_site(task.module, wanted.images(slice(0, 2)))
        double = exact(task.module)
        edits = effect(double, site, wanted.images().double(), bias=self.bias)
        keys, lacking = (
            with_one(edits.inputs, edits.bias),
            nearest_winning(edits.logits, wanted.y, self.margin) - edits.logits,
        )
        usual = (
            with_one(effect(double, site, task.passing.images().double()).inputs, edits.bias)
            if len(task.passing)
            else None
        )
        with billed(task):
            update = self._update(keys, lacking.T, usual)
        weights = edits.inputs.shape[1]
        change(site.layer(task.module), update[:, :weights], update[:, weights] if edits.bias else None)
        task.note(
            f"{int(sit(task.module, wanted).right.sum())} of {len(wanted)} points are right after one "
            f"edit of {site.name}"
        )
        return task.module

    def _update(self, keys: Tensor, lacking: Tensor, usual: Tensor | None) -> Tensor:
        """The change of the layer (O x d), from keys, what they lack and the ordinary keys."""
        ordinary = (
            torch.eye(len(keys), dtype=keys.dtype, device=keys.device)
            if usual is None
            else usual @ usual.T / usual.shape[1]
        )
        update = write(keys, lacking, self.ridge * ordinary)
        return undirected(keys, lacking, float(update.norm())) if self.ordinary == "none" else update


def with_one(inputs: Tensor, one: bool) -> Tensor:
    """Returns the inputs n x d x 1 as keys d x n, with a row of ones below for the bias."""
    keys = inputs.squeeze(2).T
    return torch.cat([keys, torch.ones_like(keys[:1])]) if one else keys


def write(keys: Tensor, lacking: Tensor, ordinary: Tensor) -> Tensor:
    """Returns D (O x d) = lacking K' (C0 + K K')^-1 for keys K (d x n) and lacking = V - W K (O x
    n); it takes the pseudo-inverse if the matrix is singular.
    """
    inverse: Tensor = torch.linalg.pinv(ordinary + keys @ keys.T, hermitian=True)
    return lacking @ keys.T @ inverse


def undirected(keys: Tensor, lacking: Tensor, norm: float) -> Tensor:
    """Returns the same ridge regression with a multiple of the identity for C0, so large that the
    change has that norm (L2); 0 if none has it.

    With K K' = U diag(s) U' the squared norm is the sum over j of |lacking K' U_j|^2 / (s_j + m)^2:
    it falls as the multiple m grows.
    """
    sizes, directions = torch.linalg.eigh(keys @ keys.T)
    sizes, shares = sizes.clamp_min(0), (lacking @ keys.T @ directions).square().sum(0)
    low, high = (float(sizes.max()) * factor for factor in (1e-12, 1e12))
    for _ in range(100):
        middle = math.sqrt(low) * math.sqrt(high)
        longer = float((shares / (sizes + middle).square()).sum()) > norm**2
        low, high = (middle, high) if longer else (low, middle)
    return write(keys, lacking, high * torch.eye(len(keys), dtype=keys.dtype, device=keys.device))


def nearest_winning(logits: Tensor, y: Tensor, margin: float) -> Tensor:
    """Returns the vectors nearest to `logits` (n x K, L2) in which class y leads every other by
    `margin`.

    Class y and the k classes that stand in its way meet at t = (y_t + sum of (y_c + margin) over
    these k) / (k + 1), and t - margin.
    """
    own = logits.gather(1, y[:, None])
    reach = logits + margin
    others = reach.scatter(1, y[:, None], -torch.inf).sort(1, descending=True).values
    counts = torch.arange(1, logits.shape[1], device=logits.device)
    levels = torch.cat([own, (own + others[:, :-1].cumsum(1)) / (counts + 1)], 1)
    # Class number k + 1 stands in the way as long as it reaches above the level of the first k: the
    # largest level of all is the answer.
    level = levels.max(1, keepdim=True).values
    return torch.minimum(logits, level - margin).scatter(1, y[:, None], level)
