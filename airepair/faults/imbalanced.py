"""imbalanced: one class is rare in training, but as common as the others where the subject is used.

`severity` is the share of the class's training images that is left (a tenth); which ones, the seed
decides. It spoils the test inputs of that class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from airepair.faults.fault import Fault, check_classes, keep
from airepair.options import option
from airepair.types import Dataset, Split


@dataclass(frozen=True)
class Imbalanced(Fault):
    """A class is cut to a tenth."""

    name: ClassVar[str] = "imbalanced"

    severity: float = option(0.1, "share of the class that is left", low=0.0, high=0.99)
    label: int = option(8, "the class", low=0)

    def train(self, split: Split, classes: int) -> Split:
        """Returns the split with that class cut."""
        check_classes(self, (self.label,), classes)
        members = (split.y.cpu() == self.label).nonzero()[:, 0]
        order = members[torch.randperm(len(members), generator=self.generator())]
        kept = torch.ones(len(split), dtype=torch.bool)
        kept[order[round(self.severity * len(members)) :]] = False
        return keep(split, kept)

    def spoils(self, data: Dataset) -> Tensor:
        """Returns the test inputs of the class."""
        return data.test.y.cpu() == self.label
