"""One cell of the grid: a method repairs a subject.

A repair that does not help is a result, not a failure.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NoReturn

import pytest

from airepair.metrics import entries

from . import grid

if TYPE_CHECKING:
    from airepair.case import Case
    from airepair.runner.cell import CellResult

GRID = grid  # read by fixtures/selection.py


def fail(reason: str) -> NoReturn:
    """One line: the record has the rest."""
    pytest.fail(reason, pytrace=False)


def test_repair(case: Case, result: CellResult) -> None:
    """The repaired model is a drop-in replacement, its scores are finite, and the floors that the
    grid states hold.
    """
    record = result.record
    if record.status in ("unsupported", "skipped"):
        pytest.skip(f"{record.status}: {record.reason}")
    if record.status != "repaired":
        fail(f"{record.status}: {record.reason}; log: cells/{record.key}/log.txt")
    if unnamed := sorted(set(entries()) - set(record.after) - set(record.missing)):
        fail(f"no value and no reason: {', '.join(unnamed)}")
    for pattern, floors in grid.FLOORS.items():
        for metric, floor in floors.items() if fnmatchcase(str(case), pattern) else ():
            value = record.after.get(metric)
            if value is None:
                fail(f"{metric} is missing ({record.missing.get(metric, 'no reason')}); its floor is {floor}")
            if value < floor:
                fail(f"{metric} {value:.4f} is below its floor {floor}")
    if case.base_method == "noop":
        names = record.before.keys() | record.after.keys()
        changed = sorted(k for k in names if record.before.get(k) != record.after.get(k))
        if changed:
            fail(f"noop changed {', '.join(changed)}")
