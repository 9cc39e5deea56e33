"""The lines that a person reads while a run runs: one for each worker, one for the grid, each
within the width.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from airepair.errors import printable
from airepair.suite.live.state import Grid, Working

MANY = 1000  # steps from which on a share is shown in their place (the images of a training)


def clock_time(seconds: float) -> str:
    """`1:02:03`."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def rows(grid: Grid, workers: Sequence[Working], now: float, width: int) -> list[str]:
    """Returns a line per worker that is in a cell, then the grid's."""
    wide = max([len(w.worker) for w in workers], default=0)
    return [*(worker_row(w, now, width, wide) for w in workers), grid_row(grid, now, width, workers)]


def worker_row(at: Working, now: float, width: int, wide: int = 0) -> str:
    """Returns worker, cell, phase, epoch or step, loss, time since the cell began, time that the
    phase has left.
    """
    loss = f"  loss {at.loss:.3g}" if at.loss is not None else ""
    left = phase_left(at, now)
    end = f"{loss}  {clock_time(now - at.since)}" + (f"  left {clock_time(left)}" if left is not None else "")
    start = f"{at.worker:<{wide}}  {printable(at.cell)}"
    return _fitted(start, _phase(at), end, width)


def _phase(at: Working) -> str:
    if not at.phase:
        return "starting"
    if at.steps <= 0:
        return printable(at.phase)
    done = f"{100 * at.step / at.steps:.0f} %" if at.steps > MANY else f"{at.step}/{at.steps}"
    return f"{printable(at.phase)} {done}"


def _fitted(start: str, middle: str, end: str, width: int) -> str:
    """The parts in one line: the middle gives way first, at its start, where a phase says the
    least; then the end.
    """
    room = width - len(start) - len(end) - 2
    if len(middle) > room:
        middle = f"...{middle[len(middle) - room + 3 :]}" if room > 6 else ""
    line = f"{start}  {middle}{end}" if middle else start + end
    return line[:width]


def phase_left(at: Working, now: float) -> float | None:
    """Returns the seconds that the phase still takes at its pace so far; None before it has one."""
    done = at.step - at.first
    if done <= 0 or at.steps <= 0:
        return None
    whole = (at.seen - at.phase_since) * (at.steps - at.step) / done
    return max(0.0, whole - (now - at.seen))


def grid_row(grid: Grid, now: float, width: int = 10_000, workers: Sequence[Working] = ()) -> str:
    """Returns the cells done, failed, skipped and left, and when the last one ends."""
    counts = [f"{grid.passed} of {grid.cells} cells done"]
    counts += [f"{grid.failed} failed"] if grid.failed else []
    counts += [f"{grid.skipped} skipped"] if grid.skipped else []
    counts += [f"{grid.remaining} not run"] if grid.ended is not None and grid.remaining else []
    if grid.ended is not None:
        return f"grid  {', '.join(counts)}; ended after {clock_time(grid.ended - grid.began)}"[:width]
    counts += [f"{grid.remaining} left"]
    return f"grid  {', '.join(counts)}; {clock_time(now - grid.began)}{_ending(grid, now, workers)}"[:width]


def _ending(grid: Grid, now: float, workers: Sequence[Working]) -> str:
    """The run takes no less than what any worker's phase has left: an estimate does not know of a
    subject in training.
    """
    if not grid.remaining:
        return ", writing the tables"
    if grid.left is None:
        return ", the rest takes an unknown time"
    left = max([0.0, grid.left - (now - grid.seen), *(phase_left(w, now) or 0.0 for w in workers)])
    if left < 1:
        return ", longer than expected"
    when = time.strftime("%H:%M" if left < 12 * 3600 else "%a %H:%M", time.localtime(now + left))
    return f", left about {clock_time(left)} (until {when})" + (
        f" and {grid.unknown} of unknown length" if grid.unknown else ""
    )
