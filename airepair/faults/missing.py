"""missing: a sub-population of a class was never seen in training.

The class's training images are laid along their first principal direction (in pixels, the mean
taken off); `severity` is the share at the upper end that is missing. It spoils the test inputs of
the class that lie beyond the same point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from airepair.faults.fault import Fault, check_classes, keep
from airepair.options import option
from airepair.types import Dataset, Split

STEPS = 100  # of the power iteration; where it stops decides nothing but which direction the benchmark uses


@dataclass(frozen=True)
class Missing(Fault):
    """This fault removes a part of a class from the training data."""

    name: ClassVar[str] = "missing"

    severity: float = option(0.5, "share of the class that is missing", low=0.01, high=0.99)
    label: int = option(8, "the class", low=0)

    def train(self, split: Split, classes: int) -> Split:
        """Returns the split without the sub-population."""
        check_classes(self, (self.label,), classes)
        return keep(split, ~self._beyond(split, split))

    def spoils(self, data: Dataset) -> Tensor:
        """Returns the test inputs of the sub-population; `data.train` is the clean one, which
        defines it.
        """
        return self._beyond(data.train, data.test)

    def _beyond(self, clean: Split, split: Split) -> Tensor:
        """Which images of `split` are of the class and beyond the point on the direction that
        `clean` defines.
        """
        members = clean.images((clean.y == self.label).nonzero()[:, 0]).flatten(1).cpu().double()
        found = split.y.cpu() == self.label
        if len(members) < 2:
            return torch.zeros_like(found)
        mean = members.mean(0)
        direction = principal(members - mean)
        point = (members - mean).matmul(direction).quantile(1 - self.severity)
        here = split.images(found.nonzero()[:, 0].to(split.x.device)).flatten(1).cpu().double()
        found[found.clone()] = (here - mean).matmul(direction) > point
        return found


def principal(x: Tensor) -> Tensor:
    """Returns the first principal direction of centred rows (N x D, double), its largest entry
    positive, by power iteration from the longest row.
    """
    v = x[x.norm(dim=1).argmax()]
    for _ in range(STEPS):
        v = x.T.matmul(x.matmul(v))
        v = v / v.norm().clamp_min(1e-300)
    return v * v[v.abs().argmax()].sign()
