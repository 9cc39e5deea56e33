"""mislabelled: training labels that are wrong, concentrated on one pair of classes and, if wanted,
spread evenly beside it.

`severity` is the share of the labels of classes `a` and `b` that is swapped; `uniform` the share of
all labels that is replaced by one drawn evenly from the other classes. Images and the other splits
stay clean. The noise follows the cell's seed. It spoils the test inputs of the two classes. The
default digits subjects carry it at severity .4 with .15 spread evenly (recipes.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from airepair.faults.fault import Fault, check_classes
from airepair.options import option
from airepair.types import Dataset, Split


@dataclass(frozen=True)
class Mislabelled(Fault):
    """This fault puts wrong labels into the training data."""

    name: ClassVar[str] = "mislabelled"

    severity: float = option(0.4, "share of the pair's labels that is swapped", low=0.0, high=1.0)
    uniform: float = option(0.0, "share of all labels that is replaced by another", low=0.0, high=1.0)
    a: int = option(3, "one class of the pair", low=0)
    b: int = option(8, "the other", low=0)

    def train(self, split: Split, classes: int) -> Split:
        """Returns the split with its labels changed."""
        check_classes(self, (self.a, self.b), classes)
        generator = self.generator()
        n, clean = len(split), split.y.cpu()
        spread = torch.rand(n, generator=generator) < self.uniform
        other = (clean + torch.randint(1, classes, (n,), generator=generator)) % classes
        swap = (torch.rand(n, generator=generator) < self.severity) & ((clean == self.a) | (clean == self.b))
        labels = torch.where(swap, self.a + self.b - clean, torch.where(spread, other, clean))
        return replace(split, y=labels.to(split.y.device))

    def spoils(self, data: Dataset) -> Tensor:
        """Returns the test inputs of the pair."""
        y = data.test.y.cpu()
        return (y == self.a) | (y == self.b)
