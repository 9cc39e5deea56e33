"""The best method of each column against the second: whether the difference is significant.

What wrecks the model is never the best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from airepair.report.cells import Grid, gain, sample
from airepair.report.comparison import LEVEL, Comparison, holm
from airepair.report.facts import wrecked
from airepair.report.ordering import Column
from airepair.report.pairs import after, compared


@dataclass(frozen=True)
class Lead:
    """The two largest mean gains of a column in a metric, compared; `p` is corrected for the
    columns (Holm).
    """

    place: Column
    metric: str
    first: str
    second: str
    found: Comparison
    p: float = 1.0

    @property
    def told(self) -> bool:
        """Whether the first is significantly better than the second."""
        return self.p < LEVEL and self.found.difference > 0


def leads(cells: Grid, metric: str) -> list[Lead]:
    """Of each column whose best mean gain in the metric is above zero and has a second beside it."""
    found = [lead for place in cells.columns if (lead := _lead(cells, place, metric))]
    return [replace(lead, p=p) for lead, p in zip(found, holm([lead.found.p for lead in found]), strict=True)]


def _lead(cells: Grid, place: Column, metric: str) -> Lead | None:
    means = {
        m: s.mean
        for m in cells.methods
        if (s := sample(cells.cell(place, m), partial(gain, metric=metric)))
        and not wrecked(cells.cell(place, m))
    }
    ranked = sorted(means, key=lambda m: -means[m])[:2]
    if len(ranked) < 2 or means[ranked[0]] <= 0:
        return None
    own, others = ({r.case.seed: r for r in cells.cell(place, m) if r.status == "repaired"} for m in ranked)
    found = compared([(after(own[s]), after(others[s])) for s in own if s in others], metric)
    return Lead(place, metric, ranked[0], ranked[1], found) if found else None
