"""The engine of this process: cells run one after the other, when they are waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from airepair.engines.protocol import Failure, Finished, Ticket
from airepair.engines.queue import Queue
from airepair.errors import Unavailable, one_line
from airepair.runner.cell import CellResult, CellSpec, Deaf, Listener
from airepair.runner.loading import Load
from airepair.runner.run import run_cell

WIDTH = 2000  # characters of a reason
Hear = Callable[[CellSpec], Listener]


class Local:
    """Runs cells here.

    `hear` gives the listener of a cell, `load` its subject (default: loaded for each cell).
    """

    def __init__(self, cache: Path, *, hear: Hear = lambda _: Deaf(), load: Load | None = None) -> None:
        self.cache, self.hear, self.load = cache, hear, load
        self.queue = Queue()

    def submit(self, spec: CellSpec) -> Ticket:
        """Queues the cell."""
        return self.queue.put(spec)

    def wait(self, tickets: Sequence[Ticket], timeout: float | None = None) -> list[Finished]:
        """Runs the first of the cells that has not run; a timeout does not interrupt it."""
        taken = self.queue.take(tickets)
        return [] if taken is None else [Finished(taken[0], self._run(taken[1]))]

    def _run(self, spec: CellSpec) -> CellResult | Failure:
        try:
            return run_cell(spec, cache=self.cache, events=self.hear(spec), load=self.load)
        except Exception as error:
            return failure_of(error)

    def close(self, force: bool = False) -> None:
        """Forgets what has not run."""
        self.queue.clear()


def failure_of(error: Exception) -> Failure:
    """Returns an error before or after the repair: what this machine lacks skips the cell, all else
    fails it.
    """
    return Failure("skipped" if isinstance(error, Unavailable) else "failed", one_line(error, WIDTH))
