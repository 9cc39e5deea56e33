"""Tests of one model against another over seeds and test images: McNemar's, a bootstrap of both, a permutation of the seeds, Holm's correction.

A seed draws its own splits, so an image may be a test image of some seeds only. The bootstrap is the pigeonhole bootstrap (Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007): it draws seeds and, independently, images of the source data set with
replacement, and an image that was drawn k times counts k times at every seed that tested on it. With few seeds it is too sure of itself
(docs/protocol.md has the measured rates), so the p of a comparison is the larger one of it and of a test that turns the signs of the
seeds' differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test

DRAWS = 2000
PERMUTATIONS = 9_999  # all of them where there are fewer: up to 13 seeds
SEED = 20_241_124  # fixed: same predictions, same bytes


@dataclass(frozen=True)
class Pair:
    """One seed: which test images the first and the second model get right, and each image's index in the source data set."""

    first: NDArray[np.bool_]
    second: NDArray[np.bool_]
    index: NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """One model against another: images only it gets right (`gained`) and only the other (`lost`), one number a seed.

    `difference` is the mean over seeds of the difference in accuracy; `low` and `high` bound its 95 % interval; `bootstrap` and
    `permutation` are two-sided p-values, and `p` is the larger one.
    """

    gained: tuple[int, ...]
    lost: tuple[int, ...]
    mcnemar: tuple[float, ...]
    difference: float
    low: float
    high: float
    bootstrap: float
    permutation: float

    @property
    def p(self) -> float:
        """The larger p."""
        return max(self.bootstrap, self.permutation)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: a fair coin on the images on which the two differ."""
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def compare(pairs: Sequence[Pair], draws: int = DRAWS) -> Comparison:
    """The first models against the second ones, seed by seed on the same test images."""
    images, places = np.unique(np.concatenate([p.index for p in pairs]), return_inverse=True)
    change, tested = np.zeros((2, len(pairs), len(images)))
    start = 0
    for row, pair in enumerate(pairs):
        place = places[start : start + len(pair.index)]
        np.add.at(change[row], place, pair.first.astype(float) - pair.second)
        np.add.at(tested[row], place, 1.0)
        start += len(pair.index)
    means = change.sum(1) / tested.sum(1)
    boot = _bootstrap(change, tested, draws)
    low, high = np.quantile(boot, [0.025, 0.975])
    sure = min(1.0, 2 * (1 + min(int((boot <= 0).sum()), int((boot >= 0).sum()))) / (len(boot) + 1))
    gained = tuple(int((p.first & ~p.second).sum()) for p in pairs)
    lost = tuple(int((p.second & ~p.first).sum()) for p in pairs)
    exact = tuple(map(mcnemar, gained, lost))
    return Comparison(gained, lost, exact, float(means.mean()), float(low), float(high), sure, permuted(means))


def _bootstrap(change: NDArray[Any], tested: NDArray[Any], draws: int) -> NDArray[Any]:
    """Means of the drawn differences over the drawn images; a draw that holds no tested image is left out."""
    weights = _weights(change.shape[1], draws)
    sums, counts = change.astype(np.float32) @ weights, tested.astype(np.float32) @ weights
    seeds = np.random.default_rng(SEED + 1).integers(len(change), size=(len(change), draws))
    total = np.take_along_axis(counts, seeds, 0).sum(0)
    found: NDArray[Any] = np.take_along_axis(sums, seeds, 0).sum(0)[total > 0] / total[total > 0]
    return found


@lru_cache(maxsize=2)
def _weights(images: int, draws: int) -> NDArray[np.float32]:
    """How often each image is drawn in each draw (images x draws): the same for every comparison over as many images."""
    generator = np.random.default_rng(SEED)
    found = np.empty((images, draws), np.float32)
    for k in range(draws):
        found[:, k] = np.bincount(generator.integers(images, size=images), minlength=images)
    return found


def permuted(differences: Sequence[float] | NDArray[Any]) -> float:
    """The two-sided p of turning the signs of one difference per seed: exact up to 13 seeds. The smallest with n seeds is 2 / 2^n."""
    values = np.asarray(differences, float)
    if not values.any():
        return 1.0
    if len(values) < 2:  # scipy wants two; the sign of one says nothing
        return 1.0
    found = permutation_test(
        (values, np.zeros_like(values)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=PERMUTATIONS,
        vectorized=True,
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the p of each comparison within its family, in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate([min(1.0, (len(p) - rank) * p[k]) for rank, k in enumerate(order)])
    found = np.empty(len(p))
    found[order] = adjusted
    return [float(v) for v in found]
