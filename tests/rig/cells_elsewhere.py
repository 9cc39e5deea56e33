"""Cells of `--engine ray` on a cluster that is pretended (pretend_cluster.py): what a test sees is
the result that came back.
"""

from types import ModuleType

import pytest

from airepair.case import Case
from airepair.runner.cell import CellResult

GRID = ModuleType("grid")
GRID.COLUMNS = [("digits", "fc")]
GRID.DEFAULT_DATASETS = ["digits"]
GRID.methods = lambda: ["noop"]
GRID.seeds = lambda *_: (0, 1)
GRID.in_profile = lambda *_: True


@pytest.fixture
def result() -> CellResult:
    """A cell of a cluster never runs here."""
    raise AssertionError("the cell ran in the controller's process")


def test_repair(case: Case, result: CellResult) -> None:
    """The result is this cell's own."""
    assert result.record.case == case
