"""The Pareto front of two objectives, both maximised: O(n log n), without loops, on the scores' device."""

from __future__ import annotations

import torch
from torch import Tensor


def pareto_front(scores: Tensor) -> Tensor:
    """Returns the indices (ascending) of the rows of `scores` (N x 2) that no other row dominates.

    A row dominates another if it is at least as large in both objectives and larger in one; equal
    rows stay together. NaN counts as -inf.
    """
    if scores.ndim != 2 or scores.shape[1] != 2:
        raise ValueError(f"scores of shape {tuple(scores.shape)}; accepted: N x 2")
    if not len(scores):
        return torch.zeros(0, dtype=torch.int64, device=scores.device)
    scores = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    order = scores[:, 1].argsort(descending=True, stable=True)
    order = order[scores[order, 0].argsort(descending=True, stable=True)]
    rows = scores[order]
    # Going down the first objective, a row is on the front if its second objective beats all before
    # it, or if it repeats such a row.
    before = torch.cat([rows.new_full((1,), -torch.inf), rows[:-1, 1].cummax(0).values])
    better = rows[:, 1] > before
    better[0] = True
    starts = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    starts[1:] = (rows[1:] != rows[:-1]).any(1)
    group = starts.cumsum(0) - 1
    return order[better[starts][group]].sort().values
