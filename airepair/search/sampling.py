"""Seeded samples: inputs drawn from a split, and points of a unit cube (uniform, Halton, cross-entropy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import scipy  # scipy.stats is loaded when it is first used
import torch
from torch import Tensor

from airepair.types import Split

SamplerName = Literal["uniform", "halton", "crossentropy"]


def drawn(split: Split, most: int, generator: torch.Generator) -> Split:
    """Returns at most `most` of the split's images without replacement, in their order."""
    return split.select(
        torch.randperm(len(split), generator=generator)[:most].sort().values.to(split.y.device)
    )


@dataclass
class Cube:
    """It draws points of [0, 1]^d in turns; `learn` tells the cross-entropy sampler which points
    were the best.

    uniform       independent points
    halton        scrambled Halton points: a low-discrepancy sequence that goes on from turn to turn
    crossentropy  independent Gaussians, clipped to the cube, refitted to the elite after each turn
                  (smoothed by half)
    """

    kind: SamplerName
    dimension: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        # drawn for every kind: what follows in the generator's stream depends on it
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
        if self.kind == "halton":
            self._halton = scipy.stats.qmc.Halton(self.dimension, scramble=True, seed=seed)
        # Wide enough that the first turn covers the cube.
        self.mean, self.std = torch.full((self.dimension,), 0.5), torch.full((self.dimension,), 0.5)

    def draw(self, n: int) -> Tensor:
        """Returns `n` points (n x d, float32, on the CPU)."""
        if self.kind == "halton":
            return torch.from_numpy(self._halton.random(n)).float()
        if self.kind == "uniform":
            return torch.rand(n, self.dimension, generator=self.generator)
        return (self.mean + self.std * torch.randn(n, self.dimension, generator=self.generator)).clamp(0, 1)

    def learn(self, points: Tensor, scores: Tensor, elite: float = 0.1) -> None:
        """Moves the cross-entropy sampler half way to the share `elite` of `points` (n x d) with
        the highest `scores` (n).
        """
        best = points[
            scores.topk(max(2, round(elite * len(points))) if len(points) > 1 else len(points)).indices
        ]
        if len(best) < 2:
            return
        self.mean = (self.mean + best.mean(0)) / 2
        # A floor keeps it from settling on one point.
        self.std = ((self.std + best.std(0)) / 2).clamp_min(0.02)
