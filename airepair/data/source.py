"""What a data set's file gives: the official images and what the benchmark must know of them. splits.py makes a Dataset of it."""

from __future__ import annotations

from dataclasses import dataclass

from airepair.types import Robustness, Split


@dataclass(frozen=True, eq=False)
class Source:
    """`test` is the official test set, or None where there is one pool only; `sizes` then divides it (train, repair, validation, test)."""

    name: str
    classes: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    train: Split
    test: Split | None
    robustness: Robustness
    sizes: tuple[int, int, int, int] | None = None
    notes: tuple[str, ...] = ()
