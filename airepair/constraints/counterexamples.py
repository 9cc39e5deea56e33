"""The oracle: points of a box or a segment at which a constraint is broken most, by projected
signed-gradient descent (DL2, section 4).

Random start in the region, `steps` steps of `step_size` against the sign of the gradient,
projection back; the best iterate of the best restart is returned, so more steps or restarts never
find less. All samples and restarts are one batch, on the device of the images; the weights are
frozen and the network keeps evaluation statistics throughout. On CUDA a training's searches are one
recorded graph each (airepair/constraints/counterexamples_graph.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from airepair.constraints.published import Box, Constraint, Region
from airepair.constraints.terms import Disjunction
from airepair.evaluation.exam import evaluating
from airepair.evaluation.memory import halving

# The points of all regions (each M x C x H x W) -> M numbers, to be made small.
Objective = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Search:
    """It says how long and how often the oracle looks: published is one restart, steps of .01, 5 to
    50 steps by constraint.
    """

    steps: int = 7
    step_size: float = 0.01
    restarts: int = 1


class Ground(Protocol):
    """It holds the points of a region, one region per sample."""

    def start(self, generator: torch.Generator) -> Tensor:
        """Returns a random point of each sample's region."""
        ...

    def project(self, z: Tensor) -> Tensor:
        """Returns the nearest point of each sample's region."""
        ...


@dataclass(frozen=True, eq=False)
class BoxGround:
    """Its points are within `eps` of each image (M x C x H x W) and in [0, 1]."""

    x: Tensor
    eps: float

    def start(self, generator: torch.Generator) -> Tensor:
        # Uniform in the box as clipped. Clipping a point of the whole box instead would start half
        # of the black pixels at exactly 0.
        low, high = (self.x - self.eps).clamp_min(0), (self.x + self.eps).clamp_max(1)
        noise = torch.rand(self.x.shape, generator=generator).to(self.x.device, non_blocking=True)
        return self.project(low + noise * (high - low))

    def project(self, z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, self.x - self.eps), self.x + self.eps).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class SegmentGround:
    """Its points are on the line from a to b (each M x C x H x W)."""

    a: Tensor
    b: Tensor

    def start(self, generator: torch.Generator) -> Tensor:
        t = torch.rand((len(self.a), 1, 1, 1), generator=generator).to(self.a.device, non_blocking=True)
        return self.a + t * (self.b - self.a)

    def project(self, z: Tensor) -> Tensor:
        d = (self.b - self.a).flatten(1)
        t = ((z - self.a).flatten(1) * d).sum(1) / (d * d).sum(1).clamp_min(1e-12)
        return self.a + t.clamp(0, 1)[:, None, None, None] * (self.b - self.a)


@contextmanager
def frozen(module: nn.Module) -> Iterator[nn.Module]:
    """No parameter requires a gradient and every submodule is in evaluation mode; both come back at
    the end.
    """
    wanted = [p for p in module.parameters() if p.requires_grad]
    with evaluating(module):
        try:
            for p in wanted:
                p.requires_grad_(False)
            yield module
        finally:
            for p in wanted:
                p.requires_grad_(True)


def descend(
    objective: Objective, starts: Sequence[Tensor], grounds: Sequence[Ground], search: Search
) -> tuple[list[Tensor], Tensor]:
    """From `starts`, the best iterate of each sample and its objective (M).

    An objective without a gradient leaves the starts.
    """
    z = [s.detach() for s in starts]
    best, least = list(z), torch.full((len(z[0]),), torch.inf, device=z[0].device)
    for k in range(search.steps + 1):
        last = k == search.steps
        with torch.set_grad_enabled(not last):
            z = [p.detach().requires_grad_(not last) for p in z]
            value = objective(z).expand(len(z[0]))
        better = value.detach() < least
        least = torch.where(better, value.detach(), least)
        best = [torch.where(better[:, None, None, None], p.detach(), b) for p, b in zip(z, best, strict=True)]
        if last or not value.requires_grad:
            break
        slopes = torch.autograd.grad(value.sum(), z, allow_unused=True)
        z = [
            g.project(p.detach() - search.step_size * s.sign()) if s is not None else p
            for p, s, g in zip(z, slopes, grounds, strict=True)
        ]
    return best, least


def worst(
    objective: Objective, grounds: Sequence[Ground], samples: int, search: Search, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Returns the points with the least objective for each of `samples`.

    The grounds hold restarts x samples regions, all samples of a restart together.
    """
    return best_of_restarts(objective, grounds, [g.start(generator) for g in grounds], samples, search)


def best_of_restarts(
    objective: Objective, grounds: Sequence[Ground], starts: Sequence[Tensor], samples: int, search: Search
) -> tuple[list[Tensor], Tensor]:
    """`worst` from given starts."""
    points, values = descend(objective, starts, grounds, search)
    values = values.reshape(search.restarts, samples)
    chosen = values.argmin(0)
    column = torch.arange(samples, device=chosen.device)
    return [p.reshape(search.restarts, samples, *p.shape[1:])[chosen, column] for p in points], values[
        chosen, column
    ]


@dataclass(frozen=True, eq=False)
class Hunt:
    """It says how points that break a constraint are looked for.

    A call is work of fixed shapes: nothing is drawn, nothing waits for the device.
    """

    constraint: Constraint
    search: Search
    groups: Tensor | None = None
    disjunction: Disjunction = "product"

    def grounds(self, points: Mapping[str, Tensor]) -> list[Ground]:
        """Returns a region a sample and restart, for each quantified point."""
        many = {k: v.repeat(self.search.restarts, 1, 1, 1) for k, v in points.items()}
        return [
            BoxGround(many[r.around], r.eps) if isinstance(r, Box) else SegmentGround(many[r.a], many[r.b])
            for r in self._regions
        ]

    @property
    def _regions(self) -> list[Region]:
        return list(self.constraint.regions.values())

    def __call__(
        self,
        network: nn.Module,
        points: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        starts: Sequence[Tensor],
    ) -> Tensor:
        """From `starts` (one tensor a quantified point, restarts x N images) the worst points:
        regions x N x C x H x W.
        """
        many = {k: v.repeat(self.search.restarts, 1, 1, 1) for k, v in points.items()}
        theirs = {k: v.repeat(self.search.restarts) for k, v in labels.items()}
        broken = self.constraint.formula.negated()
        with frozen(network):
            fixed = self.constraint.fixed_logits(network, many)

            def objective(z: Sequence[Tensor]) -> Tensor:
                moved = dict(zip(self.constraint.regions, z, strict=True))
                return broken.loss(
                    self.constraint.scope(network, many | moved, theirs, self.groups, self.disjunction, fixed)
                )

            found, _ = best_of_restarts(
                objective, self.grounds(points), starts, len(points["x"]), self.search
            )
        return torch.stack(found)


class Searches(Protocol):
    """It is a Hunt, or one that does the same faster (airepair/constraints/counterexamples_graph.py)."""

    @property
    def constraint(self) -> Constraint:
        """What is to be broken."""
        ...

    def grounds(self, points: Mapping[str, Tensor]) -> list[Ground]:
        """Returns the same as Hunt's."""
        ...

    def __call__(
        self,
        network: nn.Module,
        points: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        starts: Sequence[Tensor],
    ) -> Tensor:
        """As Hunt's."""
        ...


def counterexamples(
    hunt: Searches,
    network: nn.Module,
    points: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Returns, for each quantified point of the constraint, N images in its region that minimise the
    loss of the constraint's negation.

    All N at once; where memory does not suffice, half as many at a time (airepair/evaluation/memory.py).
    """
    regions = hunt.constraint.regions
    if not regions:
        return {}
    state = generator.get_state()

    def found(size: int) -> Tensor:
        generator.set_state(state)
        parts = []
        for i in range(0, len(points["x"]), size):
            some, theirs = ({k: v[i : i + size] for k, v in tensors.items()} for tensors in (points, labels))
            parts.append(hunt(network, some, theirs, [g.start(generator) for g in hunt.grounds(some)]))
        return torch.cat(parts, 1)

    return dict(zip(regions, halving(found, len(points["x"]), "points at once in the oracle"), strict=True))
