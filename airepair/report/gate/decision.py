"""Whether a change lies beyond what is allowed: one interval over seeds and test images decides it, or
says that it cannot.

Each bound of the interval is the outer one of two: the bootstrap of seeds and images
(report/statistics.py) and the test that turns the signs of the seeds' differences, inverted: the
values that it does not refuse. So a decision has the larger p of the two. The sign test's smallest
p is 1 / 2^n: at the level .95 it takes five seeds to decide anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from airepair.report.statistics import PERMUTATIONS, SEED, Pair, drawn

POWER = 0.8
EXACT = 13  # seeds up to which every pattern of signs is tried
TINY = 1e-9


@dataclass(frozen=True)
class Change:
    """It is new minus old, over n seeds (and, if the records say which they get right, `images`
    test images).

    `low` and `high` bound the mean change at the level, each on its own side; infinite where the
    seeds are too few. `smallest`: the change that n seeds like these would have shown four times in
    five; infinite likewise.
    """

    old: float
    new: float
    n: int
    images: int
    low: float
    high: float
    smallest: float

    @property
    def effect(self) -> float:
        """Returns new minus old."""
        return self.new - self.old

    def verdict(self, allowed: float, better: str) -> str:
        """Returns "fine", "regressed" or "undecided": whether the whole interval lies within,
        beyond, or on both sides of what is allowed.
        """
        worst, best = (self.low, self.high) if better == "higher" else (-self.high, -self.low)
        if worst >= -allowed - TINY:
            return "fine"
        return "regressed" if best < -allowed - TINY else "undecided"


def change(old: Sequence[float], new: Sequence[float], level: float, images: Sequence[Pair] = ()) -> Change:
    """Returns the change of one number from `old` to `new`, one each per seed, all in one unit;
    `images` pair the new model with the old one.

    The bootstrap of the images is of accuracy: it is in percentage points, as `old` and `new` must be then.
    """
    differences = np.asarray(new, float) - np.asarray(old, float)
    n, alpha = len(differences), 1 - level
    first, second = float(np.mean(old)), float(np.mean(new))
    tested = sum(len(p.index) for p in images)
    if not differences.any() and images and not any((p.first ^ p.second).any() for p in images):
        return Change(
            first, second, n, tested, 0.0, 0.0, 0.0
        )  # no test image changed sides: there is nothing to be unsure of
    low, high = inverted(differences, alpha)
    error = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    if images:
        means = 100 * drawn(images)
        low, high = min(low, float(np.quantile(means, alpha))), max(high, float(np.quantile(means, level)))
        error = max(error, float(means.std()))
    z = NormalDist().inv_cdf
    smallest = (z(level) + z(POWER)) * error if math.isfinite(low) else math.inf
    return Change(first, second, n, tested, low, high, smallest)


def inverted(differences: NDArray[np.float64], alpha: float) -> tuple[float, float]:
    """The means that a one-sided test of turned signs does not refuse at alpha: infinite on both
    sides if 1 / 2^n is more than that.
    """
    if 0.5 ** len(differences) > alpha + TINY:
        return -math.inf, math.inf
    signs = _signs(len(differences))
    return _lower(differences, signs, alpha), -_lower(-differences, signs, alpha)


def _lower(values: NDArray[np.float64], signs: NDArray[np.float64], alpha: float) -> float:
    """The largest mean that is still refused as too small; found by halving, since the p rises with it."""
    low, high = (
        float(values.min()),
        float(values.mean()),
    )  # below the smallest value every one is above: p is 1 / 2^n
    for _ in range(60):
        middle = (low + high) / 2
        if _p(values - middle, signs) <= alpha + TINY:
            low = middle
        else:
            high = middle
    return low


def _p(values: NDArray[np.float64], signs: NDArray[np.float64]) -> float:
    """How often a mean with turned signs is at least the one that was found."""
    return float((signs @ values >= values.sum() - TINY).mean())


def _signs(n: int) -> NDArray[np.float64]:
    """Every pattern of signs, or so many random ones and the one that was found."""
    if n <= EXACT:
        return np.array(list(product((1.0, -1.0), repeat=n)))
    drawn_signs = np.random.default_rng(SEED).choice((1.0, -1.0), size=(PERMUTATIONS, n))
    return np.concatenate([np.ones((1, n)), drawn_signs])
