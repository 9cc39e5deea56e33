"""One cell of the grid: a method repairs a subject. A repair that does not help is a result, not a failure."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from airepair.metrics import entries

from . import grid

if TYPE_CHECKING:
    from airepair.case import Case
    from airepair.runner.result import CellResult

GRID = grid  # read by fixtures/selection.py


def test_repair(case: Case, result: CellResult) -> None:
    """The repaired model is a drop-in replacement, its scores are finite, and the floors that the grid states hold."""
    record = result.record
    if record.status in ("unsupported", "skipped"):
        pytest.skip(f"{record.status}: {record.reason}")
    assert record.status == "repaired", f"{record.status}: {record.reason}"
    assert set(record.after) | set(record.missing) == set(entries()), "every metric has a value or a reason"
    for pattern, floors in grid.FLOORS.items():
        for metric, floor in floors.items():
            if fnmatchcase(str(case), pattern) and metric in record.after:
                assert record.after[metric] >= floor, f"{metric} {record.after[metric]:.4f} is below its floor {floor}"
    if case.base_method == "noop":
        changed = {k: v for k, v in record.after.items() if v != record.before[k]}
        assert not changed, f"noop changed {changed}"
