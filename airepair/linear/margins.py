"""Which logit must beat which, as rows of a linear program over the change of one layer: G change >= rhs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from airepair.linear.effect import Effect

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Margins:
    """It holds rows "at point[i], logit winner[i] >= logit loser[i] + margin[i]" for an affine
    `effect`; `soft`: rows that may be missed at a price.

    `rhs` is what the change has to add to the present difference of the two logits.
    """

    effect: Effect
    point: Tensor
    winner: Tensor
    loser: Tensor
    margin: Tensor
    soft: Tensor

    @property
    def size(self) -> int:
        """Returns the number of variables: the free parameters of the layer."""
        return self.effect.size

    @property
    def rhs(self) -> Array:
        """Returns the right-hand sides, one per row."""
        gap = self.effect.logits[self.point, self.winner] - self.effect.logits[self.point, self.loser]
        return numbers(self.margin - gap)

    @property
    def group(self) -> Index:
        """Returns the point that each row is about: rows of one point share one slack; -1 for rows
        that must hold.
        """
        found: Index = torch.where(self.soft, self.point, -1).cpu().numpy()
        return found

    @property
    def entries(self) -> int:
        """Returns the numbers in one row, at most."""
        return self.size if self.effect.slope is not None else 2 * (self.size // self.effect.width)

    def rows(self, index: Index) -> sparse.csr_array:
        """Returns the chosen rows of G, sparse."""
        parts = []
        for part in np.array_split(index, max(1, len(index) * self.size // 20_000_000)):
            i = torch.from_numpy(part).to(self.point.device)
            combination = torch.zeros(
                len(i), self.effect.logits.shape[1], dtype=self.effect.logits.dtype, device=i.device
            )
            combination.scatter_(1, self.winner[i, None], 1.0)
            combination.scatter_(1, self.loser[i, None], -1.0)
            parts.append(sparse.csr_array(numbers(self.effect.gradient(self.point[i], combination))))
        return sparse.csr_array(sparse.vstack(parts, format="csr"))

    def values(self, delta: Array) -> Array:
        """Returns G delta, all rows, without building G."""
        shift = self.effect.shift(torch.from_numpy(delta).to(self.effect.logits))
        return numbers(shift[self.point, self.winner] - shift[self.point, self.loser])


def numbers(x: Tensor) -> Array:
    """Returns a tensor as a float64 array on the CPU."""
    found: Array = x.detach().double().cpu().numpy()
    return found


def winning(effect: Effect, y: Tensor, margin: float, kept: int = 0) -> Margins:
    """Each point's class y must beat every other class by `margin`; the last `kept` points need only
    keep what they have of it, and are not soft.

    So no change at all satisfies the rows of the kept points, and the repaired rows alone decide
    whether the program is feasible.
    """
    n, classes = effect.logits.shape
    point = torch.arange(n, device=y.device).repeat_interleave(classes - 1)
    others = torch.arange(classes - 1, device=y.device).expand(n, -1)
    loser = (others + (others >= y[:, None])).flatten()
    winner = y[point]
    margins = torch.full((len(point),), margin, dtype=effect.logits.dtype, device=y.device)
    gap = effect.logits[point, winner] - effect.logits[point, loser]
    held = point >= n - kept
    return Margins(effect, point, winner, loser, torch.where(held, gap.clamp(max=margin), margins), ~held)


def orders(effect: Effect, triples: Tensor, margin: float) -> Margins:
    """Builds rows from R x 3 integers: at point a logit b must beat logit c by `margin`; all hard."""
    point, winner, loser = triples.T
    margins = torch.full((len(triples),), margin, dtype=effect.logits.dtype, device=triples.device)
    return Margins(
        effect,
        point,
        winner,
        loser,
        margins,
        torch.zeros(len(triples), dtype=torch.bool, device=triples.device),
    )
