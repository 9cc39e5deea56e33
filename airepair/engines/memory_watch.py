"""How much memory a cell's process and all that it started have.

RLIMIT_AS is of no use for that: torch reserves much more address space than it ever touches.
"""

from __future__ import annotations

from contextlib import suppress

import psutil

from airepair.runner.cost import descendants


def too_much(pid: int, most: int | None) -> int:
    """Returns the bytes of the process and all that it started, if they pass `most`; 0 if not, or
    without a limit.

    Resident memory counts a shared page for each process, and is cheap to read; only if it passes
    the limit are shared pages divided among those who share them.
    """
    if most is None:
        return 0
    found = [pid, *descendants(pid)]
    if sum(map(_resident, found)) <= most:
        return 0
    shared = sum(map(_proportional, found))
    return shared if shared > most else 0


def _resident(pid: int) -> int:
    with suppress(psutil.Error):  # it has ended
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _proportional(pid: int) -> int:
    with suppress(psutil.Error, AttributeError):  # PSS is Linux's
        return int(psutil.Process(pid).memory_full_info().pss)
    return _resident(pid)
