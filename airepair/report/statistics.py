"""Tests of one model against another over seeds and test images: McNemar's, a bootstrap of both, a
permutation of the seeds.

A seed draws its own splits, so an image may be a test image of some seeds only. The bootstrap is
the pigeonhole bootstrap (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2),
2007): it draws seeds and, independently, images of the source data set with replacement, and an
image that was drawn k times counts k times at every seed that tested on it. With few seeds it is
too sure of itself (docs/reports.md has the measured rates), so the p of a comparison is the larger
one of it and of a test that turns the signs of the seeds' differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test

from airepair.records.right_answers import indices, unpack
from airepair.report.comparison import DRAWS, LEVEL, Comparison

PERMUTATIONS = 9_999  # all of them where there are fewer: up to 13 seeds
SEED = 20_241_124  # fixed: same records, same bytes


@dataclass(frozen=True)
class Pair:
    """It holds one seed: which test images the first and the second model get right, and each
    image's index in the source data set.
    """

    first: NDArray[np.bool_]
    second: NDArray[np.bool_]
    index: NDArray[Any]


def mcnemar(gained: int, lost: int) -> float:
    """Returns the exact two-sided p of McNemar's test: a fair coin on the images on which the two
    differ.
    """
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def by_texts(seeds: Sequence[tuple[str, str, str]]) -> Comparison:
    """Returns `by_image` of one triple per seed, as records hold them: the test images, the right
    answers of the first model and those of the second.
    """
    return by_image([Pair(unpack(first), unpack(second), indices(tested)) for tested, first, second in seeds])


def by_image(pairs: Sequence[Pair], draws: int = DRAWS) -> Comparison:
    """Returns the first models' accuracy against the second ones', seed by seed on the same test
    images.
    """
    change, tested = _changes(pairs)
    means = change.sum(1, dtype=float) / tested.sum(1, dtype=float)
    gained = tuple(int((p.first & ~p.second).sum()) for p in pairs)
    lost = tuple(int((p.second & ~p.first).sum()) for p in pairs)
    low, high, p = _bounds(_over_both(change, tested, draws))
    return Comparison(
        len(pairs),
        float(means.mean()),
        low,
        high,
        p,
        permuted(means),
        gained,
        lost,
        tuple(map(mcnemar, gained, lost)),
    )


def drawn(pairs: Sequence[Pair], draws: int = DRAWS) -> NDArray[Any]:
    """Returns the differences in accuracy that the bootstrap draws, the first models' minus the
    second ones'.
    """
    return _over_both(*_changes(pairs), draws)


def _changes(pairs: Sequence[Pair]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Seeds x images of the data set: 1 if only the first model is right, -1 if only the second is;
    and which images were tested.
    """
    images, places = np.unique(np.concatenate([p.index for p in pairs]), return_inverse=True)
    change, tested = np.zeros((2, len(pairs), len(images)), np.float32)
    start = 0
    for row, pair in enumerate(pairs):
        place = places[start : start + len(pair.index)]
        change[row, place] = pair.first.astype(np.float32) - pair.second
        tested[row, place] = 1
        start += len(pair.index)
    return change, tested


def by_seed(differences: Sequence[float], draws: int = DRAWS) -> Comparison:
    """Returns the same for a score that is one number per seed: only the seeds are drawn."""
    values = np.asarray(differences, float)
    if len(values) < 2:
        return Comparison(1, float(values.mean()), None, None, 1.0, 1.0)
    low, high, p = _bounds(values[_seeds(len(values), draws)].mean(0))
    return Comparison(len(values), float(values.mean()), low, high, p, permuted(values))


def _bounds(means: NDArray[Any]) -> tuple[float, float, float]:
    """The 95 % interval of drawn means, and the two-sided p that it leaves on the other side of 0."""
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    p = 2 * (1 + min(int((means <= 0).sum()), int((means >= 0).sum()))) / (len(means) + 1)
    return float(low), float(high), min(1.0, p)


def _over_both(change: NDArray[Any], tested: NDArray[Any], draws: int) -> NDArray[Any]:
    """Drawn means of seeds x images; a draw without any tested image is left out.

    Images on which no seed differs only count.
    """
    weights, seeds = _images(change.shape[1], draws), _seeds(len(change), draws)
    differs = change.any(0)
    sums = np.take_along_axis(change[:, differs] @ weights[differs].astype(np.float32), seeds, 0).sum(0)
    counts = np.take_along_axis(_counts(tested.tobytes(), tested.shape, draws), seeds, 0).sum(0)
    found: NDArray[Any] = sums[counts > 0] / counts[counts > 0]
    return found


@lru_cache(maxsize=4)
def _counts(tested: bytes, shape: tuple[int, int], draws: int) -> NDArray[Any]:
    """Drawn test images of each seed (seeds x draws), the same for every comparison of a column."""
    mask = np.frombuffer(tested, np.float32).reshape(shape)
    if mask.all():
        return np.full((shape[0], draws), shape[1], np.float32)
    found: NDArray[Any] = mask @ _images(shape[1], draws).astype(np.float32)
    return found


@lru_cache(maxsize=2)
def _images(images: int, draws: int) -> NDArray[np.uint8]:
    """How often each image is drawn in each draw (images x draws), the same for every comparison
    over as many images.
    """
    generator = np.random.default_rng(SEED)
    found = np.empty((draws, images), np.uint8)
    for row in found:
        row[:] = np.bincount(generator.integers(images, size=images), minlength=images)
    return np.ascontiguousarray(found.T)


@lru_cache(maxsize=4)
def _seeds(count: int, draws: int) -> NDArray[Any]:
    """Which seeds are drawn in each draw (seeds x draws)."""
    return np.random.default_rng(SEED + 1).integers(count, size=(count, draws))


def permuted(differences: Sequence[float] | NDArray[Any]) -> float:
    """Returns the two-sided p of turning the signs of one difference per seed: exact up to 13
    seeds.

    The smallest with n seeds is 2 / 2^n.
    """
    values = np.asarray(differences, float)
    if len(values) < 2 or not values.any():  # one sign says nothing
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
