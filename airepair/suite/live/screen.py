"""Draws the lines: on a terminal in place, below whatever else is written there; elsewhere one line
at a sensible pace.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from airepair.suite.live.rows import rows
from airepair.suite.live.state import Grid, grid_of, working

PACE = 60.0  # seconds between two reports where the output is no terminal: a log of an hour gets sixty


class Moving:
    """It holds lines that are drawn again twice a second, and vanish at the end; `write` puts text
    above them.
    """

    def __init__(self, out: Path, stream: TextIO) -> None:
        self.out, self.rest = out, ""
        self.console = Console(file=stream, force_terminal=True, highlight=False, soft_wrap=False)
        self.live = Live(
            console=self.console,
            get_renderable=self._lines,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        """Draws from now on."""
        self.live.start()

    def stop(self) -> None:
        """Takes the lines away, and writes what was held back of an unfinished line."""
        self.live.stop()
        self.console.file.write(self.rest)
        self.console.file.flush()
        self.rest = ""

    def write(self, text: str) -> int:
        """Prints what pytest writes: whole lines at once, an unfinished one when it is finished,
        since the drawing needs the cursor.
        """
        *lines, self.rest = (self.rest + text).split("\n")
        if lines:
            self.console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        return len(text)

    def _lines(self) -> Text:
        grid, width = grid_of(self.out), max(20, _width(self.console) - 1)
        return Text(
            "\n".join(rows(grid, working(self.out), time.time(), width)) if grid else "",
            no_wrap=True,
            overflow="crop",
        )


def _width(console: Console) -> int:
    """The terminal's own, which changes with its window; rich asks streams that pytest has in its
    hands meanwhile. A terminal that knows no size says 0.
    """
    with suppress(OSError, ValueError):
        if columns := os.get_terminal_size(console.file.fileno()).columns:
            console.width = columns
    return console.width


class Above:
    """It is a text stream in the place of a terminal's while lines move at its bottom."""

    def __init__(self, moving: Moving, stream: TextIO) -> None:
        self.moving, self.stream = moving, stream

    def write(self, text: str) -> int:
        """Writes above the lines."""
        return self.moving.write(text)

    def flush(self) -> None:
        """Every whole line is out already."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


class Plain:
    """It prints lines for a log: the grid's and each worker's, once a minute."""

    def __init__(self, out: Path, say: Callable[[str], None], pace: float = PACE) -> None:
        self.out, self.say, self.pace = out, say, pace
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, name="airepair-live", daemon=True)

    def start(self) -> None:
        """Starts the thread; the first lines come after one pace, so a short run says nothing."""
        self.thread.start()

    def stop(self) -> None:
        """Ends the thread: it prints no further line."""
        self.done.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.done.wait(self.pace):
            if grid := grid_of(self.out):
                self.say("\n".join(report(self.out, grid)))


def report(out: Path, grid: Grid, width: int = 160) -> list[str]:
    """Returns the same lines for a log: the grid's first."""
    *workers, whole = rows(grid, working(out), time.time(), width)
    return [f"airepair: {whole}", *(f"  {line}" for line in workers)]
