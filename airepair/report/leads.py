"""The best method of each column against the second: whether the difference is significant.

What wrecks the model is never the best, nor is a method that lacks a seed of its column: its mean
is over other seeds. But it may be the second, on the seeds that it has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from airepair.report.cells import Grid, gain
from airepair.report.comparison import LEVEL, Comparison, holm
from airepair.report.facts import wrecked
from airepair.report.ordering import Column
from airepair.report.pairs import after, compared


@dataclass(frozen=True)
class Lead:
    """It compares the two largest mean gains of a column in a metric; `p` is corrected for the
    columns (Holm).
    """

    place: Column
    metric: str
    first: str
    second: str
    found: Comparison
    p: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether the first is significantly better than the second."""
        return self.p < LEVEL and self.found.difference > 0


def leads(cells: Grid, metric: str) -> list[Lead]:
    """Returns the lead of each column whose best mean gain in the metric is above zero and has a
    second beside it.
    """
    found = [lead for place in cells.columns if (lead := _lead(cells, place, metric))]
    return [replace(lead, p=p) for lead, p in zip(found, holm([lead.found.p for lead in found]), strict=True)]


def _lead(cells: Grid, place: Column, metric: str) -> Lead | None:
    gains = {m: _gains(cells, place, m, metric) for m in cells.methods if not wrecked(cells.cell(place, m))}
    complete = _complete(gains)
    if not complete:
        return None
    first = max(complete, key=lambda m: _mean(gains[m]))
    ahead = {
        m: _mean({s: gains[first][s] - g for s, g in found.items()})
        for m, found in gains.items()
        if m != first and found
    }
    if not ahead or _mean(gains[first]) <= 0:
        return None
    second = min(ahead, key=lambda m: ahead[m])
    own, others = (
        {r.case.seed: r for r in cells.cell(place, m) if r.case.seed in gains[m]} for m in (first, second)
    )
    found = compared([(after(own[s]), after(others[s])) for s in own if s in others], metric)
    return Lead(place, metric, first, second, found) if found else None


def short(cells: Grid, place: Column, metric: str) -> list[str]:
    """Returns the methods that have a gain at some seeds of the column but not at all of them."""
    gains = {m: _gains(cells, place, m, metric) for m in cells.methods}
    complete = _complete(gains)
    return [m for m, found in gains.items() if found and m not in complete]


def _gains(cells: Grid, place: Column, method: str, metric: str) -> dict[int, float]:
    """Seed -> gain, where the method has one."""
    return {r.case.seed: g for r in cells.cell(place, method) if (g := gain(r, metric)) is not None}


def _complete(gains: Mapping[str, Mapping[int, float]]) -> list[str]:
    """The methods with a gain at every seed at which one of them has one."""
    seeds = set().union(*gains.values())
    return [m for m, found in gains.items() if found and found.keys() == seeds]


def _mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)
