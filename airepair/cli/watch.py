"""Shows the progress of a benchmark run from a second terminal: `airepair watch reports/out`.

A line for each worker (cell, phase, step, loss, time, time left) and one for the grid. A terminal
is updated until the run ends; elsewhere the lines are printed once a minute. Ctrl-C ends the view,
not the run.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import psutil

from airepair.errors import UsageError
from airepair.suite.live.rows import grid_row
from airepair.suite.live.screen import PACE, Moving, report
from airepair.suite.live.state import Grid, grid_of

LOOK = 0.5  # seconds between two looks at whether the run has ended


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the folder, and whether to stay."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="the --out folder of the run")
    parser.add_argument("--once", action="store_true", help="print the progress once and exit")


def run(args: argparse.Namespace) -> int:
    """0; 1 if the run's process has gone without an end."""
    grid = _grid(args.folder)
    over = grid.ended is not None or _gone(grid)
    if args.once or over:
        print("\n".join(report(args.folder, grid)))
    elif sys.stdout.isatty():
        _move(args.folder)
    else:
        _print(args.folder)
    return _ended(args.folder, shown=args.once or over)


def _grid(folder: Path) -> Grid:
    found = grid_of(folder)
    if found is None:
        raise UsageError(
            f"no run reports its progress in {folder}; accepted: the --out of `airepair bench` (default: "
            f"reports/out)"
        )
    return found


def _gone(grid: Grid) -> bool:
    """Whether the process that drives the run has ended.

    (Its number may be another's by now: that one is younger.)
    """
    try:
        return bool(psutil.Process(grid.pid).create_time() > grid.began + 1)
    except psutil.Error:
        return True


def _over(folder: Path) -> bool:
    grid = _grid(folder)
    return grid.ended is not None or _gone(grid)


def _move(folder: Path) -> None:
    moving = Moving(folder, sys.stdout)
    moving.start()
    try:
        while not _over(folder):
            time.sleep(LOOK)
    finally:
        moving.stop()


def _print(folder: Path) -> None:
    shown = 0.0
    while not _over(folder):
        if time.monotonic() - shown >= PACE or not shown:
            shown = time.monotonic()
            print("\n".join(report(folder, _grid(folder))), flush=True)
        time.sleep(LOOK)


def _ended(folder: Path, *, shown: bool) -> int:
    grid = _grid(folder)
    if grid.ended is None and _gone(grid):
        print(
            "the run's process has ended before its cells did; run again with --resume for the others",
            file=sys.stderr,
        )
        return 1
    if not shown:
        print(grid_row(grid, time.time()))
    return 0
