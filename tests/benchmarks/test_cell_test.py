"""The test that each cell of the suite is: what it lets pass."""

from __future__ import annotations

import dataclasses

import pytest

from airepair.metrics import entries
from airepair.records import Record
from airepair.runner.cell import CellResult
from benchmarks import grid, test_repair
from tests.report_records import record


def said(found: Record) -> str:
    """Why the cell's test fails; "" if it passes."""
    try:
        test_repair.test_repair(found.case, CellResult(found))
    except pytest.fail.Exception as failure:
        return str(failure)
    return ""


def cell(method: str, **changes: float | None) -> Record:
    """A cell of digits' fully connected network: each metric has a value or a reason; None takes one away."""
    found = record(f"digits-fc-{method}-s0")
    after = {k: v for k, v in {**found.after, "repair_rate": 0.0, **changes}.items() if v is not None}
    missing = {name: "not asked for" for name in entries() if name not in after}
    before = found.before | {"repair_rate": 0.0}
    return dataclasses.replace(found, before=before, after=after, missing=missing)


def test_a_floor_is_for_a_number_that_is_there() -> None:
    """Below it, the cell fails; without the number, too: a reason why it is missing is no success."""
    assert grid.FLOORS["digits-fc-finetune-s*"] == {"repair_rate": 0.2}
    assert said(cell("finetune", repair_rate=0.2)) == ""
    assert said(cell("finetune", repair_rate=0.19)) == "repair_rate 0.1900 is below its floor 0.2"
    assert (
        said(cell("finetune", repair_rate=None)) == "repair_rate is missing (not asked for); its floor is 0.2"
    )
    assert said(cell("dl2", repair_rate=None)) == ""


def test_noop_leaves_every_score_as_it_was() -> None:
    """One that changes fails the cell, and so does one that appears or goes."""
    assert said(cell("noop")) == ""
    assert said(cell("noop", accuracy=0.8101)) == "noop changed accuracy"
    assert said(cell("noop", accuracy=None)) == "noop changed accuracy"
    assert said(cell("noop", top5=0.9)) == "noop changed top5"


def test_a_metric_has_a_value_or_a_reason() -> None:
    """And a status other than repaired fails the cell."""
    silent = dataclasses.replace(cell("dl2"), missing={})
    assert said(silent).startswith("no value and no reason: ")
    failed = dataclasses.replace(cell("dl2"), status="failed", reason="ValueError: no")
    assert said(failed) == "failed: ValueError: no; log: cells/digits-fc-dl2-s0/log.txt"
