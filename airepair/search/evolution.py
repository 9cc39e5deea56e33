"""Differential evolution, DE/rand/1/bin, a whole generation at a time.

Storn and Price's scheme: trial = a + F (b - c) with three other members drawn at random, crossed
with its parent element by element. Arachne's code updates the population in place while it goes
through a generation; here all trials of a generation come from the generation before, so that they
can be evaluated together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from airepair.search.swarm import Fitness, Found


@dataclass(frozen=True)
class Evolution:
    """It holds settings: F ~ U(`weakest`, `strongest`) redrawn each generation, crossover rate,
    stop after more than `patience` generations without gain.
    """

    weakest: float = 0.5
    strongest: float = 1.0
    crossover: float = 0.7
    generations: int = 100
    patience: int = 10
    progress: Callable[[int, int, float], None] = field(default=lambda *_: None)


def trials(population: Tensor, factor: float, crossover: float, generator: torch.Generator) -> Tensor:
    """Returns one trial for each member (P x D): three distinct others, binomial crossover, one
    element forced to change.
    """
    p, d = population.shape
    draw = torch.rand(p, p, generator=generator)
    draw.fill_diagonal_(2.0)
    a, b, c = (population[i] for i in draw.argsort(1)[:, :3].to(population.device).unbind(1))
    cross = torch.rand(p, d, generator=generator) < crossover
    cross[torch.arange(p), torch.randint(d, (p,), generator=generator)] = True
    return torch.where(cross.to(population.device), a + factor * (b - c), population)


@torch.no_grad()
def evolve(
    fitness: Fitness,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    settings: Evolution,
    generator: torch.Generator,
) -> Found:
    """Maximises `fitness` from `start` (P x D, P >= 4); trials are clipped to `low`..`high` (D), a
    child replaces a parent that is not better.
    """
    if len(start) < 4:
        raise ValueError(
            f"a population of {len(start)}; accepted: 4 or more (three others are drawn for each member)"
        )
    s, population = settings, start.clone()
    values = fitness(population)
    history, stale = [float(values.max())], 0
    for number in range(1, s.generations + 1):
        factor = s.weakest + (s.strongest - s.weakest) * float(torch.rand((), generator=generator))
        children = trials(population, factor, s.crossover, generator).clamp(low, high)
        current = fitness(children)
        taken = current >= values
        population, values = (
            torch.where(taken[:, None], children, population),
            torch.where(taken, current, values),
        )
        history.append(float(values.max()))
        stale = 0 if history[-1] > history[-2] else stale + 1
        s.progress(number, s.generations, history[-1])
        if stale > s.patience:
            break
    top = int(values.argmax())
    return Found(population[top].clone(), float(values[top]), len(history) - 1, tuple(history))
