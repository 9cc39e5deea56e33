"""What the process of a cell may use, and what its exit says: a signal, a lack of memory, or an end
by force. Free of torch.
"""

from __future__ import annotations

import math
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airepair.engines.protocol import Failure
from airepair.errors import UsageError, printable, shortened

GIB, MIB = 2**30, 2**20
LINES, WIDTH = 20, 500  # of the log's end in a record
FATAL, BEFORE = b"Fatal Python error", 5  # how a fault's traceback begins; lines before it that are kept
# Counters of the kernel's own kills: of a container (cgroup 2, then 1), of the whole machine.
KILLS = (
    ("/sys/fs/cgroup/memory.events", "oom_kill"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
    ("/proc/vmstat", "oom_kill"),
)


@dataclass(frozen=True)
class Limits:
    """It holds bytes of host memory, of GPU memory, and of the output that is kept (its end); None
    is no limit.

    `grace`: seconds that a method has after its time limit to end by itself.
    """

    memory: int | None = None
    gpu_memory: int | None = None
    output: int = MIB
    grace: float = 5.0


def bytes_of(value: float | None, unit: int, name: str) -> int | None:
    """Returns a limit in bytes; None if there is none. UsageError for a number that is no size."""
    if value is None:
        return None
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} {value:g} is out of range; accepted: a number above 0")
    return int(value * unit)


class Output:
    """What a cell's process prints: the end of it is kept, all of it is counted."""

    def __init__(self, most: int) -> None:
        self.most, self.total, self.kept = most, 0, 0
        self.parts: deque[bytes] = deque()

    def add(self, part: bytes) -> None:
        """Adds more of it."""
        self.parts.append(part)
        self.total += len(part)
        self.kept += len(part)
        while self.kept - len(self.parts[0]) >= self.most:
            self.kept -= len(self.parts.popleft())

    def content(self) -> bytes:
        """Returns its end."""
        return b"".join(self.parts)[-self.most :]

    def remark(self) -> str:
        """What is not kept, for the record; "" if all is."""
        if self.total <= self.most:
            return ""
        return f"the cell printed {self.total:,} bytes; the last {self.most:,} are in output.txt"

    def last(self) -> tuple[str, ...]:
        """Returns the last lines, for a record; of a fault's traceback the first, since its newest
        call is there.
        """
        lines = [line for line in self.content().splitlines() if line.strip()]
        fatal = [i for i, line in enumerate(lines) if line.startswith(FATAL)]
        start = max(0, fatal[-1] - BEFORE) if fatal else max(0, len(lines) - LINES)
        shown = (line.decode(errors="replace").rstrip() for line in lines[start : start + LINES])
        return tuple(shortened(printable(line), WIDTH) for line in shown)


def kernel_kills() -> int:
    """How many processes the kernel has ended so far because memory was short; 0 if it does not tell."""
    for place, name in KILLS:
        with suppress(OSError, ValueError):
            for line in Path(place).read_text().splitlines():
                if line.split()[:1] == [name]:
                    return int(line.split()[1])
    return 0


def failure_of_exit(code: int, kills: int, log: Sequence[str]) -> Failure:
    """Returns how a process without a result ended: `code` below 0 is a signal, `kills` those of
    the kernel since it began.
    """
    if code == -signal.SIGKILL and kills:
        reason = "host memory: the kernel ended the cell's process (SIGKILL)"
        return Failure("out of memory", reason, tuple(log))
    if code == -signal.SIGABRT and any("bad_alloc" in line for line in log):
        return Failure("out of memory", "host memory: an allocation failed in native code", tuple(log))
    if code < 0:
        return Failure("crashed", f"killed by {_name(-code)}", tuple(log))
    return Failure("crashed", f"its process ended with exit code {code} before it had a result", tuple(log))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
