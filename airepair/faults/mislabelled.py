"""mislabelled: training labels that are wrong, spread evenly and concentrated on one pair of classes.

`severity` is the share of the labels of classes `a` and `b` that is swapped; `uniform` the share of all labels that is replaced by one drawn
evenly from the other classes. Images and the other splits stay clean. The noise is drawn from a fixed seed: it belongs to the benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from airepair.types import Split


@dataclass(frozen=True)
class Mislabelled:
    """Wrong labels in the training data."""

    name: ClassVar[str] = "mislabelled"

    severity: float = 0.4
    uniform: float = 0.15
    a: int = 3
    b: int = 8
    seed: int = 20_230_518

    def train(self, split: Split, classes: int) -> Split:
        """The split with its labels changed."""
        generator = torch.Generator().manual_seed(self.seed)
        n, clean = len(split), split.y.cpu()
        spread = torch.rand(n, generator=generator) < self.uniform
        other = (clean + torch.randint(1, classes, (n,), generator=generator)) % classes
        swap = (torch.rand(n, generator=generator) < self.severity) & ((clean == self.a) | (clean == self.b))
        labels = torch.where(swap, self.a + self.b - clean, torch.where(spread, other, clean))
        return Split(split.x, labels.to(split.y.device))
