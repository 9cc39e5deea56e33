"""Apricot's steps, case after case, as one affine combination of the weights and the K submodels per block.

The steps are those of the authors' code (github.com/DemoAuguste/ApricotTOSEM).

A case with right submodels C and wrong ones I moves the weights w by
  strategy 1   w <- w - rate (w - mean C) + rate (w - mean I)
  strategy 2   w <- w - rate (w - mean C)
  strategy 3   w <- w + rate (w - mean I)
and a missing set makes its difference 0. Each is w <- factor * w + step @ submodels, so a block is
a product of factors and a sum of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Sets = Literal["given", "random", "swapped"]
ABSENT = -1  # a submodel that takes no part in a case


def affine(right: Tensor, strategy: int, rate: float, proportional: bool = False) -> tuple[Tensor, Tensor]:
    """Returns each case's step: factors of w (N) and weights of the submodels (N x K), double.

    `right`: N x K, 1 right, 0 wrong, -1 takes no part. `proportional` weighs each difference by its
    share of the submodels (coinse/arachne's re-implementation, with the paper's sign).
    """
    good, bad = (right == 1).double(), (right == 0).double()
    goods, bads = good.sum(1), bad.sum(1)
    towards = rate * (goods > 0).double() if strategy in (1, 2) else torch.zeros_like(goods)
    away = rate * (bads > 0).double() if strategy in (1, 3) else torch.zeros_like(bads)
    if proportional:
        part = (goods + bads).clamp_min(1)
        towards, away = towards * goods / part, away * bads / part
    step = (towards / goods.clamp_min(1))[:, None] * good - (away / bads.clamp_min(1))[:, None] * bad
    return 1 - towards + away, step


def combinations(
    blocks: Sequence[Tensor], strategy: int, rate: float, proportional: bool = False
) -> tuple[Tensor, Tensor]:
    """Returns the cases of each of B blocks, one after another, as w <- own * w + others @
    submodels: `own` (B) and `others` (B x K), double, CPU.

    `blocks`: n x K each; a shorter one is filled up with cases in which no submodel takes part,
    which move nothing.
    """
    longest = max(map(len, blocks))
    rows = torch.full((len(blocks), longest, blocks[0].shape[1]), ABSENT, dtype=torch.int8)
    for b, cases in enumerate(blocks):
        rows[b, : len(cases)] = cases
    factors, steps = (
        t.unflatten(0, (len(blocks), longest))
        for t in affine(rows.flatten(0, 1), strategy, rate, proportional)
    )
    later = torch.cat(
        [factors.flip(1).cumprod(1).flip(1)[:, 1:], factors.new_ones(len(blocks), 1)], 1
    )  # factors of the cases that follow
    return factors.prod(1), torch.einsum("bn,bnk->bk", later, steps)


def one_each(right: Tensor, generator: torch.Generator) -> Tensor:
    """Draws one random right and one random wrong submodel per case, which take part (N x K, int8):
    Apricot lite.
    """
    right = right.cpu()
    chosen = torch.full(right.shape, ABSENT, dtype=torch.int8)
    for value in (0, 1):
        member = right == value
        pick = torch.rand(right.shape, generator=generator).masked_fill(~member, -1.0).argmax(1)
        rows = member.any(1).nonzero().flatten()
        chosen[rows, pick[rows]] = value
    return chosen


def regrouped(right: Tensor, sets: Sets, generator: torch.Generator) -> Tensor:
    """Returns the control of the idea: right and wrong exchanged, or as many right as before in
    each case but drawn at random.
    """
    if sets == "given":
        return right
    if sets == "swapped":
        return ~right
    return right.gather(1, torch.rand(right.shape, generator=generator).argsort(1).to(right.device))
