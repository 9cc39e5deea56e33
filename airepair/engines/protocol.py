"""Where cells run: an engine starts cells and reports how each of them ended. Free of torch.

local.py     in this process, one after the other
isolated.py  each in a child process with limits
ray.py       on a Ray cluster
command.py   runs the cells of a command by the first two
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from airepair.case import Case
from airepair.records import Record
from airepair.records.schema import Status
from airepair.runner.cell import CellResult, CellSpec


@dataclass(frozen=True)
class Ticket:
    """It is a cell that an engine has accepted. `number` counts the engine's cells, `key` is the id
    of the case.
    """

    number: int
    key: str


@dataclass(frozen=True)
class Failure:
    """It says how a cell ended that left no result: its process died or was ended, or an error came
    before or after the repair.

    status   "crashed", "timeout", "out of memory", "failed" (bad input included), or "skipped" if
             this machine lacks something
    reason   one line for a person
    log      the last lines of what the cell's process printed
    """

    status: Status
    reason: str
    log: tuple[str, ...] = ()

    def record(self, case: Case, before: Mapping[str, float] | None = None) -> Record:
        """Returns the record of such a cell; `before`: its scores before the repair, if it got that far."""
        notes = tuple(f"last output: {line}" for line in self.log)
        return Record(case, self.status, self.reason, before=dict(before or {}), notes=notes)

    def result(self, case: Case, before: Mapping[str, float] | None = None) -> CellResult:
        """Returns the record and the last lines as files of a cell."""
        return CellResult(self.record(case, before), {"log.txt": ("\n".join(self.log) + "\n").encode()})


@dataclass(frozen=True)
class Finished:
    """It is a cell that has ended."""

    ticket: Ticket
    end: CellResult | Failure


class Engine(Protocol):
    """Runs cells somewhere. Whoever drives it files the results: an engine writes no record."""

    def submit(self, spec: CellSpec) -> Ticket:
        """Accepts a cell and returns at once. UsageError if the engine cannot run such a cell."""

    def wait(self, tickets: Sequence[Ticket], timeout: float | None = None) -> list[Finished]:
        """Returns those of the cells that have ended: one at least, or none once `timeout` seconds
        have passed.

        A cell is returned once. What goes wrong in a cell is its Failure; only an engine that
        cannot go on raises.
        """

    def close(self, force: bool = False) -> None:
        """Ends the engine: cells that run are waited for, with `force` ended. Nothing of it stays behind."""
