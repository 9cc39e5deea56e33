"""The oracle: points of a box or a segment at which a constraint is broken most, by projected signed-gradient descent (DL2, section 4).

Random start in the region, `steps` steps of `step_size` against the sign of the gradient, projection back; the best iterate of the best
restart is returned, so more steps or restarts never find less. All samples and restarts are one batch, on the device of the images; the
weights are frozen and the network keeps evaluation statistics throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from airepair.exam import evaluating
from airepair.fallback import halving
from airepair.logic.constraints import Box, Constraint
from airepair.logic.terms import Disjunction

# The points of all regions (each M x C x H x W) -> M numbers, to be made small.
Objective = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Search:
    """How long and how often the oracle looks: published is one restart, steps of .01, 5 to 50 steps by constraint."""

    steps: int = 7
    step_size: float = 0.01
    restarts: int = 1


class Ground(Protocol):
    """The points of a region, one region a sample."""

    def start(self, generator: torch.Generator) -> Tensor:
        """A random point of each sample's region."""
        ...

    def project(self, z: Tensor) -> Tensor:
        """The nearest point of each sample's region."""
        ...


@dataclass(frozen=True, eq=False)
class BoxGround:
    """Within `eps` of each image (M x C x H x W) and in [0, 1]."""

    x: Tensor
    eps: float

    def start(self, generator: torch.Generator) -> Tensor:
        noise = torch.rand(self.x.shape, generator=generator).to(self.x.device, non_blocking=True)
        return self.project(self.x + self.eps * (2 * noise - 1))

    def project(self, z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, self.x - self.eps), self.x + self.eps).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class SegmentGround:
    """On the line from a to b (each M x C x H x W)."""

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
    """No parameter requires a gradient and every submodule is in evaluation mode; both come back at the end."""
    wanted = [p for p in module.parameters() if p.requires_grad]
    with evaluating(module):
        try:
            for p in wanted:
                p.requires_grad_(False)
            yield module
        finally:
            for p in wanted:
                p.requires_grad_(True)


def descend(objective: Objective, starts: Sequence[Tensor], grounds: Sequence[Ground], search: Search) -> tuple[list[Tensor], Tensor]:
    """From `starts`, the best iterate of each sample and its objective (M). An objective without a gradient leaves the starts."""
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
            g.project(p.detach() - search.step_size * s.sign()) if s is not None else p for p, s, g in zip(z, slopes, grounds, strict=True)
        ]
    return best, least


def worst(
    objective: Objective, grounds: Sequence[Ground], samples: int, search: Search, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """The points with the least objective for each of `samples`. The grounds hold restarts x samples regions, all samples of a restart together."""
    points, values = descend(objective, [g.start(generator) for g in grounds], grounds, search)
    values = values.reshape(search.restarts, samples)
    chosen = values.argmin(0)
    column = torch.arange(samples, device=chosen.device)
    return [p.reshape(search.restarts, samples, *p.shape[1:])[chosen, column] for p in points], values[chosen, column]


def counterexamples(
    network: nn.Module,
    constraint: Constraint,
    points: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    groups: Tensor | None,
    search: Search,
    generator: torch.Generator,
    disjunction: Disjunction = "product",
) -> dict[str, Tensor]:
    """For each quantified point of the constraint, N images in its region that minimise the loss of the constraint's negation.

    All N at once; where memory does not suffice, half as many at a time (airepair/fallback.py).
    """
    if not constraint.regions:
        return {}
    state = generator.get_state()

    def found(size: int) -> dict[str, Tensor]:
        generator.set_state(state)
        parts = [
            _found(network, constraint, _rows(points, i, size), _rows(labels, i, size), groups, search, generator, disjunction)
            for i in range(0, len(points["x"]), size)
        ]
        return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return halving(found, len(points["x"]), "points at once in the oracle")


def _rows(tensors: Mapping[str, Tensor], start: int, size: int) -> dict[str, Tensor]:
    return {name: tensor[start : start + size] for name, tensor in tensors.items()}


def _found(
    network: nn.Module,
    constraint: Constraint,
    points: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    groups: Tensor | None,
    search: Search,
    generator: torch.Generator,
    disjunction: Disjunction,
) -> dict[str, Tensor]:
    samples = len(points["x"])
    points = {k: v.repeat(search.restarts, 1, 1, 1) for k, v in points.items()}
    labels = {k: v.repeat(search.restarts) for k, v in labels.items()}
    grounds: list[Ground] = [
        BoxGround(points[r.around], r.eps) if isinstance(r, Box) else SegmentGround(points[r.a], points[r.b])
        for r in constraint.regions.values()
    ]
    broken = constraint.formula.negated()
    with frozen(network):
        fixed = constraint.fixed_logits(network, points)

        def objective(z: Sequence[Tensor]) -> Tensor:
            moved = dict(zip(constraint.regions, z, strict=True))
            return broken.loss(constraint.scope(network, points | moved, labels, groups, disjunction, fixed))

        found, _ = worst(objective, grounds, samples, search, generator)
    return dict(zip(constraint.regions, found, strict=True))
