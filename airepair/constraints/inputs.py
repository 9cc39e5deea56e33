"""The inputs that a constraint is asked of: batches of x, and of partners x2 where the constraint
relates two inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from airepair.errors import Unsupported

Pairing = Literal["close", "shift", "random"]
SUBSET = 2048  # images among which close pairs are looked for at a time: 2 million pairs


@dataclass(eq=False)
class Inputs:
    """It draws batches of `size` inputs, from a seeded generator.

    images    N x C x H x W in [0, 1];  labels: N, or None
    pairing   of x2: "close" draws pairs nearer than `radius` (most random pairs satisfy a closeness
              constraint for nothing), "random" any two inputs, "shift" is the public code's: x =
              batch[0 : n/2] and x2 = batch[1 : n/2 + 1], overlapping
    """

    images: Tensor
    labels: Tensor | None
    size: int
    pairwise: bool
    pairing: Pairing
    radius: float
    generator: torch.Generator
    share: float = 0.0
    _left: int = 0
    _i: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    _j: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def draw(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the points and the labels of one batch, by name."""
        if not self.pairwise:
            return self._named(x=self._some(self.size))
        if self.pairing == "close":
            return self._named(**dict(zip(("x", "x2"), self._close(), strict=True)))
        if len(self.images) < 2:
            raise Unsupported("a constraint on pairs needs two inputs, and there is one")
        drawn = self._some(self.size)
        if self.pairing == "shift":
            half = max(1, len(drawn) // 2)
            return self._named(x=drawn[:half], x2=drawn[1 : half + 1])
        offset = torch.randint(1, len(self.images), (len(drawn),), generator=self.generator)
        return self._named(x=drawn, x2=(drawn + offset) % len(self.images))

    def _some(self, count: int) -> Tensor:
        return torch.randperm(len(self.images), generator=self.generator)[:count]

    def _named(self, **index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        on_device = {k: v.to(self.images.device, non_blocking=True) for k, v in index.items()}
        labels = self.labels
        named = {} if labels is None else {k.replace("x", "y"): labels[v] for k, v in on_device.items()}
        return {k: self.images[v] for k, v in on_device.items()}, named

    def _close(self) -> tuple[Tensor, Tensor]:
        if self._left <= 0:
            self._look()
        self._left -= 1
        chosen = torch.randint(len(self._i), (self.size,), generator=self.generator)
        return self._i[chosen], self._j[chosen]

    def _look(self) -> None:
        """Finds the close pairs of a fresh subset, once an epoch; keeps the former ones where it has none."""
        subset = self._some(SUBSET)
        flat = self.images[subset.to(self.images.device)].flatten(1)
        distances = torch.cdist(flat, flat).cpu()
        close = (distances < self.radius).fill_diagonal_(False)
        i, j = close.nonzero(as_tuple=True)
        self._left = max(1, len(self.images) // self.size)
        if len(i):
            self._i, self._j = subset[i], subset[j]
            self.share = len(i) / max(1, len(subset) * (len(subset) - 1))
        elif not len(self._i):
            nearest = float(distances.fill_diagonal_(torch.inf).min()) if len(subset) > 1 else float("inf")
            raise Unsupported(
                f"no two inputs are nearer than {self.radius:g} (the nearest two: {nearest:.3g}): "
                f"the constraint would be void"
            )
