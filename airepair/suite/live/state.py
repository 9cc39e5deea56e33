"""Where a run stands, as small files in OUT/live: `grid.json` of the whole run and one of each worker.

The processes of a run write them, the run itself and `airepair watch` read them: so every door
shows the same. A file that cannot be written is left out, since a display must never fail a cell.
Free of torch.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from airepair.host.atomic import write_atomically

FOLDER = "live"
GRID = "grid.json"
STEP = 0.5  # seconds between two files of one phase
# and between two phases: some methods change theirs a thousand times a second, inside the timed
# call
PHASE = 0.05


@dataclass(frozen=True)
class Working:
    """What one worker does.

    Times are time.time(); `first` is the step at which this phase was first heard of.
    """

    worker: str
    cell: str
    since: float
    phase: str = ""
    phase_since: float = 0.0
    first: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    seen: float = 0.0

    def at(self, phase: str, step: int, steps: int, loss: float, now: float) -> Working:
        """Returns the same cell further on.

        "epoch 2 of 30" goes on where "epoch 1 of 30" was: the time left is that of both.
        """
        same = (
            phase.partition(",")[0] == self.phase.partition(",")[0]
            and steps == self.steps
            and step >= self.step
        )
        value = loss if math.isfinite(loss) else None
        start = (self.phase_since, self.first) if same else (now, step)
        return replace(
            self,
            phase=phase,
            phase_since=start[0],
            first=start[1],
            step=step,
            steps=steps,
            loss=value,
            seen=now,
        )


@dataclass(frozen=True)
class Grid:
    """How far the run is: cells that passed, failed and were skipped, and what is expected of the rest.

    `left` is in seconds at the time `seen`, None if nothing is known; `unknown` counts the cells
    that it leaves out.
    """

    pid: int
    began: float
    workers: int
    cells: int
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    left: float | None = None
    unknown: int = 0
    seen: float = 0.0
    ended: float | None = None

    @property
    def remaining(self) -> int:
        """Returns the number of cells that have not ended."""
        return self.cells - self.passed - self.failed - self.skipped


class Teller:
    """It writes a worker's own file and stays silent until `begin`."""

    def __init__(self, out: Path, worker: str, clock: Callable[[], float] = time.time) -> None:
        self.file, self.worker, self.clock = out / FOLDER / f"{worker}.json", worker, clock
        self.now: Working | None = None
        self.written = 0.0

    def begin(self, cell: str) -> None:
        """A cell starts."""
        self.now = Working(self.worker, cell, self.clock())
        self._write()

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Where training, repair or an exam is; also what a Loader and a Listener call."""
        if self.now is None:
            return
        now, before = self.clock(), self.now.phase
        self.now = self.now.at(phase, step, steps, loss, now)
        if now - self.written >= (STEP if phase == before else PHASE):
            self._write()

    def end(self) -> None:
        """The cell has ended."""
        self.now = None
        with suppress(OSError):
            self.file.unlink(missing_ok=True)

    def _write(self) -> None:
        self.written = self.clock()
        if self.now is not None:
            write(self.file, self.now)


def write(file: Path, content: Working | Grid) -> None:
    """Puts the file in place in one step; nothing if that is refused."""
    with suppress(OSError):
        write_atomically(file, json.dumps(asdict(content)).encode())


def clear(out: Path) -> None:
    """Forgets an earlier run's state."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def grid_of(out: Path) -> Grid | None:
    """How far the run is; None if nothing readable says so."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((out / FOLDER / GRID).read_bytes(), type=Grid)
    return None


def working(out: Path) -> list[Working]:
    """What the workers do, in their order; a file that is being replaced is left out."""
    found = []
    for file in (out / FOLDER).glob("*.json"):
        if file.name != GRID:
            with suppress(OSError, msgspec.MsgspecError):
                found.append(msgspec.json.decode(file.read_bytes(), type=Working))
    return sorted(found, key=lambda w: (len(w.worker), w.worker))
