"""Particle swarm optimisation, a whole generation at a time.

v <- inertia v + U(0, cognitive) * (own best - x) + U(0, social) * (swarm's best - x); x <- x + v,
with U drawn for each element. Clerc and Kennedy's constriction chi is the same with inertia = chi
and both accelerations multiplied by chi.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Fitness (P, maximised) of a population (P x D).
Fitness = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Found:
    """It holds the best vector (D), its fitness, the generations run, and the best fitness after
    each (the start included).
    """

    best: Tensor
    fitness: float
    generations: int
    history: tuple[float, ...]


@dataclass(frozen=True)
class Swarm:
    """It holds the settings of a search by a swarm. `fastest` and `slowest` bound the magnitude of
    each element of a velocity, `low` and `high` each position.

    It stops after `patience` generations whose best gained at most `tolerance`.
    """

    inertia: float
    cognitive: float
    social: float
    generations: int = 100
    patience: int = 10
    tolerance: float = 0.0
    fastest: float = math.inf
    slowest: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    progress: Callable[[int, int, float], None] = field(default=lambda *_: None)


def constriction(phi: float) -> float:
    """Returns Clerc and Kennedy's chi for an acceleration sum `phi` > 4 (0.7298 for 4.1)."""
    if phi <= 4:
        raise ValueError(f"phi={phi}; accepted: a sum of accelerations above 4")
    return 2 / (phi - 2 + math.sqrt(phi * phi - 4 * phi))


def settles(inertia: float, acceleration: float) -> bool:
    """Whether a particle's variance stays bounded (Poli): acceleration sum below 24 (1 - w^2) / (7 - 5 w)."""
    return acceleration < 24 * (1 - inertia**2) / (7 - 5 * inertia)


@torch.no_grad()
def swarm(
    fitness: Fitness, start: Tensor, velocity: Tensor, settings: Swarm, generator: torch.Generator
) -> Found:
    """Maximises `fitness` from the positions `start` and velocities `velocity` (both P x D)."""
    s, position = settings, start.clone()
    own, own_value = position.clone(), fitness(position)
    top = int(own_value.argmax())
    best, value = own[top].clone(), float(own_value[top])
    history, stale = [value], 0
    for number in range(1, s.generations + 1):
        draw = torch.rand((2, *position.shape), generator=generator).to(position)
        velocity = (
            s.inertia * velocity
            + s.cognitive * draw[0] * (own - position)
            + s.social * draw[1] * (best - position)
        )
        velocity = velocity.sign() * velocity.abs().clamp(s.slowest, s.fastest)
        position = (position + velocity).clamp(s.low, s.high)
        current = fitness(position)
        better = current > own_value
        own, own_value = torch.where(better[:, None], position, own), torch.where(better, current, own_value)
        top = int(own_value.argmax())
        stale = 0 if float(own_value[top]) > value + s.tolerance else stale + 1
        if float(own_value[top]) > value:
            best, value = own[top].clone(), float(own_value[top])
        history.append(value)
        s.progress(number, s.generations, value)
        if stale >= s.patience:
            break
    return Found(best, value, len(history) - 1, tuple(history))
