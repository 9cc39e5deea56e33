"""Methods that no exception ends, or that take their process with them: what cells in processes of
their own are for (tests/engines/test_isolated.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from airepair.options import option
from airepair.types import Category, Source, Task

HUNDRED_MB = 10**8


@dataclass(frozen=True)
class Polite:
    """Says who it is, and returns the module as it is. `mark`: a file for process ids."""

    name: ClassVar[str] = "polite"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing",))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    mark: str = option("", "where process ids are written")

    def budget(self, task: Task) -> int:
        """Nothing is trained."""
        return 0

    def repair(self, task: Task) -> nn.Module:
        """The same module."""
        self.note(os.getpid())
        print("a word of the method's own")
        return task.module

    def note(self, pid: int) -> None:
        """Adds a process id to the mark."""
        if self.mark:
            with Path(self.mark).open("a") as file:
                file.write(f"{pid}\n")


@dataclass(frozen=True)
class Swallows(Polite):
    """Swallows whatever is raised in it, its time-out too, and ignores SIGTERM."""

    name: ClassVar[str] = "swallows"

    def repair(self, task: Task) -> nn.Module:
        """Does not return."""
        self.note(os.getpid())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("nothing stops me", flush=True)
        while True:
            try:
                time.sleep(0.05)
            except BaseException:
                continue


@dataclass(frozen=True)
class LoopsInC(Polite):
    """Stays in native code, where no signal handler of Python's runs."""

    name: ClassVar[str] = "loops_in_c"

    def repair(self, task: Task) -> nn.Module:
        """Does not return."""
        self.note(os.getpid())
        sum(range(10**13))
        return task.module


@dataclass(frozen=True)
class Greedy(Polite):
    """Fills 3 GB, in a child of its own if `child`."""

    name: ClassVar[str] = "greedy"
    child: bool = option(False, "whether a process that it starts does it")

    def repair(self, task: Task) -> nn.Module:
        """Keeps what it filled."""
        self.note(os.getpid())
        if self.child:
            code = "import time; held = [b'x' * 10**8 for _ in range(30)]; time.sleep(60)"
            subprocess.run([sys.executable, "-c", code], check=True)
        held = [b"x" * HUNDRED_MB for _ in range(30)]
        time.sleep(60)
        print(len(held))
        return task.module


@dataclass(frozen=True)
class Segfault(Polite):
    """Reads address 0."""

    name: ClassVar[str] = "segfault"

    def repair(self, task: Task) -> nn.Module:
        """Does not return."""
        self.note(os.getpid())
        print("reading address 0", flush=True)
        ctypes.string_at(0)
        return task.module


@dataclass(frozen=True)
class Leaves(Polite):
    """Ends its process as if all were well."""

    name: ClassVar[str] = "leaves"

    def repair(self, task: Task) -> nn.Module:
        """Does not return."""
        self.note(os.getpid())
        os._exit(0)


@dataclass(frozen=True)
class Talks(Polite):
    """Prints 50 MB, past Python's own buffers."""

    name: ClassVar[str] = "talks"

    def repair(self, task: Task) -> nn.Module:
        """The same module."""
        self.note(os.getpid())
        line = b"x" * 99 + b"\n"
        for _ in range(500):
            os.write(1, line * 1000)
        os.write(2, b"that was all\n")
        return task.module


@dataclass(frozen=True)
class Parent(Polite):
    """Starts a process that leaves its session and outlives its own parent."""

    name: ClassVar[str] = "parent"

    def repair(self, task: Task) -> nn.Module:
        """The same module; the grandchild waits for ten minutes."""
        self.note(os.getpid())
        waits = f"import os, time; open({self.mark!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
        code = (
            f"import subprocess, sys; "
            f"subprocess.Popen([sys.executable, '-c', {waits!r}], start_new_session=True)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        end = time.monotonic() + 20
        while len(Path(self.mark).read_text().split()) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        return task.module
