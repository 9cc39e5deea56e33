"""What a person sees while repairs run: a moving display on a terminal, plain lines, not too many,
anywhere else. Both go to standard error.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from airepair.suite.live.rows import clock_time

EVERY = 5.0  # seconds between two plain lines of a phase
CHANGE = 1.0  # and between two phases


class Show(Protocol):
    """It is a context in which cells run. `progress` is what the pipeline calls."""

    def __enter__(self) -> Show: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """Prints a line that stays."""

    def begin(self, title: str, number: int, of: int) -> None:
        """A cell (or the loading of a subject) starts: number `number` of `of`."""

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Where the cell is."""


class Lines:
    """It prints plain lines with the time that this phase has left."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.write, self.clock = write, clock
        self.phase, self.started, self.said, self.first = "", 0.0, float("-inf"), 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        self.write(text)

    def begin(self, title: str, number: int, of: int) -> None:
        self.phase, self.said = "", float("-inf")
        self.write(f"[{number}/{of}] {title}")

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        now = self.clock()
        changed = phase != self.phase
        if changed:
            self.phase, self.started, self.first = phase, now, step
        if now - self.said < (CHANGE if changed else EVERY):
            return
        self.said = now
        done = step - self.first
        left = f"  left {clock_time((now - self.started) * (steps - step) / done)}" if done > 0 else ""
        self.write(f"    {phase}  {step}/{steps}{_loss('  loss', loss)}{left}")


class Live:
    """It shows two bars that move: the cells, and the phase of the present one."""

    def __init__(self, log: Callable[[str], None], console: Console | None = None) -> None:
        self.log = log
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=True,
        )
        self.cells = self.bars.add_task("cells", total=None, loss="")
        self.inner = self.bars.add_task("", total=None, loss="", visible=False)
        self.phase = ""

    def __enter__(self) -> Live:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def say(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False)
        self.log(text)

    def begin(self, title: str, number: int, of: int) -> None:
        self.bars.update(self.cells, description=title, completed=number - 1, total=of)
        self.bars.reset(self.inner, visible=False)
        self.phase = ""
        self.log(f"[{number}/{of}] {title}")

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        if phase != self.phase:
            self.phase = phase
            self.bars.reset(self.inner, total=steps, description=f"  {phase}", visible=True)
        self.bars.update(self.inner, completed=step, total=steps, loss=_loss("loss", loss))


def _loss(word: str, loss: float) -> str:
    """The loss behind its word; nothing if there is none."""
    return "" if math.isnan(loss) else f"{word} {loss:.4g}"


def showing(log: Callable[[str], None]) -> Show:
    """Returns the display that fits standard error; `log` also gets the lines that stay."""
    if sys.stderr.isatty():
        return Live(log)

    def both(text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        log(text)

    return Lines(both)
