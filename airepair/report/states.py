"""The states of one cell that a report can show: the repaired model, what the method handed in on the
way, and the controls beside it.

The control beside a method is the last kept state of the fine-tuning on its sources whose training
images do not exceed the method's, seed by seed (protocol: "Budget"). If trials chose options of
the method, it has a second control: the tuned fine-tuning. Beside a direct weight modification stands
the random change of the same norm that its record holds, or, if records hold none, the `random` cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airepair.case import CONTROL, TUNED, control_on, with_variant
from airepair.records import SAME_NORM, Phase, Record
from airepair.report.cells import Grid, Sample, setting_of
from airepair.report.facts import by_trials
from airepair.report.ordering import Column

TUNED_FINETUNE = with_variant(CONTROL, TUNED)
DIRECT = "direct weight modification"
Scores = Mapping[str, float]


@dataclass(frozen=True)
class State:
    """It is one row: `seeds` maps a seed to (training images, scores); `kind` is final, phase or beside."""

    kind: str
    label: str
    seeds: Mapping[int, tuple[int, Scores]]

    def sample(self, metric: str, scale: float) -> Sample | None:
        """Returns the metric over seeds, times `scale`."""
        values = tuple(scores[metric] * scale for _, scores in self.seeds.values() if metric in scores)
        return Sample(values) if values else None

    @property
    def images(self) -> Sample | None:
        """Returns the training images (forward and backward) over seeds."""
        values = tuple(float(n) for n, _ in self.seeds.values())
        return Sample(values) if values else None


def states(cells: Grid, place: Column, method: str) -> list[State]:
    """Returns the repaired model first, then its phases, then its controls; empty if no seed was
    repaired.
    """
    ran = [r for r in cells.cell(place, method) if r.status == "repaired"]
    if not ran:
        return []
    found = [State("final", "", {r.case.seed: (trained(r), r.after) for r in ran}), *_phases(ran)]
    if ran[0].category == "control":
        return found
    found += _beside(cells, place, ran)
    if any(p.name == SAME_NORM for r in ran for p in r.phases):
        found.append(_phase(ran, SAME_NORM, "beside"))
    elif any(r.category == DIRECT for r in ran):
        others = [
            r for r in cells.cell(place, _variant(cells, place, "random", ran[0])) if r.status == "repaired"
        ]
        seeds = {r.case.seed: (trained(r), r.after) for r in others if r.case.seed in found[0].seeds}
        found += [State("beside", "random", seeds)] if seeds else []
    return found


def trained(record: Record) -> int:
    """Returns the images through forward and backward."""
    return int(record.budget.get("backward", 0))


def _phases(ran: list[Record]) -> list[State]:
    names = list(dict.fromkeys(p.name for r in ran for p in r.phases if p.name != SAME_NORM))
    return [_phase(ran, name, "phase") for name in names]


def _phase(ran: list[Record], name: str, kind: str) -> State:
    return State(
        kind, name, {r.case.seed: (p.images, p.scores) for r in ran for p in r.phases if p.name == name}
    )


def _variant(cells: Grid, place: Column, control: str, record: Record) -> str:
    """The control with the same variant as the method (tuned beside tuned), else the bare one."""
    same = [with_variant(control, v) for v in (record.case.variant, setting_of(record.case.method))]
    return next((name for name in same if cells.cell(place, name)), control)


def _control(cells: Grid, place: Column, record: Record) -> str:
    """The fine-tuning that learns from the method's sources and no other, tuned beside tuned."""
    same = control_on(record.sources)
    return _variant(cells, place, CONTROL, record) if same == CONTROL else same


def control_of(cells: Grid, place: Column, record: Record) -> tuple[str, Record | None]:
    """Returns the name and record of the control that belongs to a method's record: the same seed; None
    if it was not run or not repaired.
    """
    name = _control(cells, place, record)
    return name, _repaired(cells, place, name, record.case.seed)


def tuned_control_of(cells: Grid, place: Column, record: Record) -> Record | None:
    """Returns the record of the tuned fine-tuning beside a method whose options were chosen by trials;
    None if it is its usual control, learns from other sources, or has no result.
    """
    if not by_trials(record) or _control(cells, place, record) != CONTROL:
        return None
    return _repaired(cells, place, TUNED_FINETUNE, record.case.seed)


def _repaired(cells: Grid, place: Column, name: str, seed: int) -> Record | None:
    return next((r for r in cells.cell(place, name) if r.case.seed == seed and r.status == "repaired"), None)


def search(grids: Iterable[Grid]) -> str:
    """Returns a sentence: how many training images the fine-tunings searched their learning rate with;
    "" if none did.
    """
    counts = {
        int(r.budget.get("selection", 0))
        for cells in grids
        for r in cells.records
        if r.case.base_method == CONTROL and r.status == "repaired"
    } - {0}
    if not counts:
        return ""
    ends = " to ".join(dict.fromkeys(f"{n:,}" for n in (min(counts), max(counts))))
    return f"Not counted: fine-tuning's search for a learning rate took another {ends} training images."


def _beside(cells: Grid, place: Column, ran: list[Record]) -> list[State]:
    seeds: dict[int, tuple[int, Scores]] = {}
    names: set[str] = set()
    for record in ran:
        state = largest_within(control_of(cells, place, record)[1], trained(record))
        if state:
            names.add(state.name)
            seeds[record.case.seed] = state.images, state.scores
    control = control_of(cells, place, ran[0])[0]
    return [State("beside", f"{control}, {' / '.join(sorted(names))}", seeds)] if seeds else []


def largest_within(control: Record | None, images: int) -> Phase | None:
    """Returns the control's last kept state that used no more than `images`, its whole budget
    included; None if none is that small.
    """
    if control is None:
        return None
    whole = Phase("its whole budget", trained(control), 0.0, control.after, control.right.get("after", ""))
    return max(
        (p for p in (*control.phases, whole) if p.images <= images), key=lambda p: p.images, default=None
    )
