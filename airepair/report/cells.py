"""The records as a grid of columns (data set, model) and rows (methods), and the statistics of one
cell over its seeds.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from airepair.case import TUNED, split_variant
from airepair.records import Record, standing, version
from airepair.report.apart import apart
from airepair.report.ordering import CONTROLS, Column, column_rank, method_rank

NOT_RUN = "not run"


@dataclass(frozen=True)
class Sample:
    """It holds one number per seed. `sd` is the sample standard deviation (n - 1); None for fewer
    than two.
    """

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Returns how many seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Returns the mean over seeds."""
        return math.fsum(self.values) / self.n

    @cached_property
    def sd(self) -> float | None:
        """Returns the spread over seeds."""
        return statistics.stdev(self.values) if self.n > 1 else None


@dataclass(frozen=True)
class Grid:
    """It holds the records of one benchmark version, one per key and sorted, so that the order in
    which cells finished leaves no trace.

    `doubled` are keys that came more than once; `older` says how many records of earlier versions
    were left out, `notes` what stands in columns and rows of its own (see apart.py).
    """

    records: tuple[Record, ...]
    doubled: tuple[str, ...] = ()
    older: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def plain(self) -> Grid:
        """Returns the grid without ablations."""
        return self.where(lambda r: not ablation(r))

    @property
    def version(self) -> int | None:
        """Returns the benchmark version of the numbers; None if there are no records."""
        return version(self.records[0]) if self.records else None

    @cached_property
    def columns(self) -> list[Column]:
        """Returns the data set and model of every column, in the paper's order."""
        return sorted({column(r) for r in self.records}, key=column_rank)

    @cached_property
    def methods(self) -> list[str]:
        """Returns every row's method, controls first, then the paper's."""
        return sorted({r.case.method for r in self.records}, key=method_rank)

    @cached_property
    def _cells(self) -> dict[tuple[Column, str], list[Record]]:
        cells: dict[tuple[Column, str], list[Record]] = {}
        for record in self.records:
            cells.setdefault((column(record), record.case.method), []).append(record)
        return cells

    def cell(self, place: Column, method: str) -> list[Record]:
        """Returns the records of one cell, one per seed, by seed; empty if it was not run."""
        return self._cells.get((place, method), [])

    def of(self, place: Column) -> list[Record]:
        """Returns the records of one column."""
        return [r for r in self.records if column(r) == place]

    def where(self, keep: Callable[[Record], bool]) -> Grid:
        """Returns the grid of the records that `keep` accepts."""
        kept = tuple(r for r in self.records if keep(r))
        keys = {r.key for r in kept}
        return Grid(kept, tuple(k for k in self.doubled if k in keys), self.older, self.notes)


def grid(records: Iterable[Record]) -> Grid:
    """Returns the grid of the records of the newest benchmark version among them; of each cell
    those that stand (see standing.py).
    """
    given = list(records)
    newest = max(map(version, given), default=None)
    found = [r for r in given if version(r) == newest]
    seen = Counter(r.key for r in found)
    placed, notes = apart(standing(found)[0])
    ordered = sorted(
        placed, key=lambda r: (*column_rank(column(r)), *method_rank(r.case.method), r.case.seed)
    )
    return Grid(
        tuple(ordered), tuple(sorted(k for k, n in seen.items() if n > 1)), len(given) - len(found), notes
    )


def column(record: Record) -> Column:
    """Returns the column that a record belongs to."""
    return record.case.dataset, record.case.model


def faulty(cells: Grid) -> set[Column]:
    """Returns the columns whose subject is one of ours with a fault put in (`cnn+imbalanced`), or
    works in an environment that it was not trained for (`digits+fog3`): Table II, not Table I. A
    crashed cell's record does not say.
    """
    return {
        column(r) for r in cells.records if "+" in r.case.dataset + r.case.model and r.subject.get("fault")
    }


def setting_of(method: str) -> str:
    """Returns the ablation of a row's method, `tuned`, or a sweep's first value; "" for a method as it
    is. What stands behind it tells records apart (`random_sets,lr:0.1`, see apart.py).
    """
    return split_variant(method)[1].partition(",")[0]


def tuned(method: str) -> bool:
    """Returns whether a row's method has the options that `airepair tune` found."""
    return setting_of(method) == TUNED


def ablation(record: Record) -> str:
    """Returns the name of the ablation that the record is of ("" for a method as it is, tuned or
    swept): its idea is off, and it is in Table III only.
    """
    control = record.category == "control" or record.case.base_method in CONTROLS
    name = setting_of(record.case.method)
    return name if name.isidentifier() and name != TUNED and not control else ""


def gain(record: Record, metric: str) -> float | None:
    """Returns after minus before; None if the cell did not run or either score is missing."""
    if record.status != "repaired" or metric not in record.after or metric not in record.before:
        return None
    return record.after[metric] - record.before[metric]


def score(record: Record, metric: str) -> float | None:
    """Returns the score after; None if the cell did not run or it is missing."""
    return record.after.get(metric) if record.status == "repaired" else None


def sample(
    records: Iterable[Record], value: Callable[[Record], float | None], scale: float = 1.0
) -> Sample | None:
    """Returns the values of those records that have one, times `scale`; None if none has."""
    values = tuple(v * scale for v in map(value, records) if v is not None)
    return Sample(values) if values else None


def baseline(records: Iterable[Record], metric: str) -> Sample | None:
    """The scores of the subject itself in percent, one per seed (in a column every method starts from
    the same one).
    """
    by_seed: dict[int, float] = {}
    for record in records:
        if metric in record.before:
            by_seed.setdefault(record.case.seed, 100 * record.before[metric])
    return Sample(tuple(v for _, v in sorted(by_seed.items()))) if by_seed else None


def status(records: list[Record]) -> str:
    """What a cell without a number says: its status word or words, "missing" where it ran but the
    metric is absent, "not run".
    """
    words = list(dict.fromkeys(r.status for r in records))
    if not words:
        return NOT_RUN
    return "missing" if words == ["repaired"] else "/".join(w for w in words if w != "repaired")
