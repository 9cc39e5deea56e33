"""What a data set's file gives: the official images and what the benchmark must know of them.
splits.py makes a Dataset of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from airepair.types import Robustness, Split


@dataclass(frozen=True, eq=False)
class Source:
    """`test` is the official test set, or None if there is one pool only; `sizes` then divides it
    (train, repair, validation, test).

    The images are numbered here (Split.index): the training set first, then the test set.
    """

    name: str
    classes: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    train: Split
    test: Split | None
    robustness: Robustness
    sizes: tuple[int, int, int, int] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        first = len(self.train)
        object.__setattr__(self, "train", replace(self.train, index=torch.arange(first)))
        if self.test is not None:
            object.__setattr__(
                self, "test", replace(self.test, index=torch.arange(first, first + len(self.test)))
            )
