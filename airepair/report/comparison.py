"""What a comparison of two models over seeds says, and Holm's correction of several. Free of numpy:
statistics.py computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DRAWS = (
    10_000  # of a bootstrap; the smallest p is 2 / 10,001, which Holm's correction can multiply by a hundred
)
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """It compares one model with another over `n` seeds.

    `difference` is the mean over seeds (of shares, 0..1); `low` and `high` bound its 95 % interval,
    None for one seed without its images; `bootstrap` and `permutation` are two-sided p-values. By
    image: those that only the first gets right (`gained`) and only the second (`lost`), and
    McNemar's exact p, one of each per seed.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    bootstrap: float
    permutation: float
    gained: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    mcnemar: tuple[float, ...] = ()

    @property
    def p(self) -> float:
        """Returns the larger p."""
        return max(self.bootstrap, self.permutation)


def holm(p: Sequence[float]) -> list[float]:
    """Applies Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979): the p of
    each comparison within its family, in their order.
    """
    found, largest = [0.0] * len(p), 0.0
    for rank, k in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        found[k] = largest
    return found


def fewest_seeds(comparisons: int = 1) -> int:
    """How many seeds it takes until the permutation test can reach LEVEL at all for the first of
    that many comparisons.
    """
    n = 1
    while 2 / 2**n * comparisons >= LEVEL:
        n += 1
    return n
