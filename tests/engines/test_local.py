"""The engine of this process, and what all engines share."""

from pathlib import Path

import pytest

from airepair.case import Case
from airepair.engines.local import Local
from airepair.engines.protocol import Engine, Failure
from airepair.errors import UsageError
from airepair.records import Record
from airepair.runner.cell import CellResult, CellSpec
from airepair.runner.loading import Loaded
from airepair.testing import toy

CASE = Case("digits", "fc", "noop", 0)


def test_a_local_cell_runs_when_it_is_waited_for_and_ends_once(tmp_path: Path) -> None:
    """One finished cell per call, in the order in which they are asked for; each is returned once."""
    loaded = Loaded(toy.subject("mlp"))
    engine: Engine = Local(tmp_path, load=lambda _: loaded)
    tickets = [engine.submit(CellSpec(Case("toy", "mlp", "noop", seed), "smoke")) for seed in (0, 1)]
    ends = [engine.wait(tickets), engine.wait(tickets), engine.wait(tickets)]
    assert [[f.ticket.key for f in found] for found in ends] == [["toy-mlp-noop-s0"], ["toy-mlp-noop-s1"], []]
    assert all(
        isinstance(f.end, CellResult) and f.end.record.status == "repaired" for found in ends for f in found
    )


def test_an_error_before_the_repair_is_the_cell_s_failure(tmp_path: Path) -> None:
    """An engine goes on: bad input fails its own cell, with the words of the error."""

    def refuse(spec: CellSpec) -> Loaded:
        raise UsageError("the file is no model")

    engine = Local(tmp_path, load=refuse)
    (found,) = engine.wait([engine.submit(CellSpec(CASE, "smoke"))])
    assert found.end == Failure("failed", "the file is no model")


@pytest.mark.parametrize("before", [None, {"accuracy": 0.5}])
def test_a_failure_becomes_a_record_with_the_last_lines_of_its_log(before: dict[str, float] | None) -> None:
    """It survives the way through a record file."""
    record = Failure("crashed", "ended by SIGSEGV", ("step 3",)).record(CASE, before)
    again = Record.from_json(record.to_json())
    assert again.status == "crashed"
    assert again.notes == ("last output: step 3",)
    assert again.before == (before or {})
