"""The cells of a command, one after the other, each in this process or in one of its own."""

from __future__ import annotations

from pathlib import Path

from airepair.engines.isolated import Isolated
from airepair.engines.isolation import isolates
from airepair.engines.limits import Limits
from airepair.engines.protocol import Failure
from airepair.runner.cell import CellResult, CellSpec, Deaf, Listener
from airepair.runner.loading import Load
from airepair.runner.run import run_cell


class Cells:
    """Runs cells one after the other. `isolate`: all (True), none (False), or as is usual (None)."""

    def __init__(self, cache: Path, isolate: bool | None = None, limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
        self.cache, self.isolate = cache, isolate
        self.isolated = Isolated(cache, limits)

    def run(
        self, spec: CellSpec, load: Load | None = None, events: Listener | None = None
    ) -> CellResult | Failure:
        """Returns how the cell ended. `load` gives its subject if it runs in this process, where an
        error before or after the repair is raised; a Failure is of a process of its own.
        """
        heard = events or Deaf()
        if not isolates(self.isolate, spec.case.base_method):
            return run_cell(spec, cache=self.cache, load=load, events=heard)
        self.isolated.hear = lambda _: heard
        (finished,) = self.isolated.wait([self.isolated.submit(spec)])
        return finished.end

    def close(self) -> None:
        """Ends the process that cells are forked from."""
        self.isolated.close(force=True)
