"""Methods for the tests of clusters, copied into a user's folder as `mine.py`: the controller has
to ship them.
"""

import itertools
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from airepair.options import option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class Waits:
    """Waits, then returns the module as it is. `hold`: a folder; the cells that come after two others
    wait until a file `go` is in it.
    """

    name: ClassVar[str] = "waits"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing",))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    seconds: float = option(1.0, "how long", low=0.0)
    hold: str = option("", "a folder that says when the repair may end")

    def budget(self, task: Task) -> int:
        """Nothing is trained."""
        return 0

    def repair(self, task: Task) -> nn.Module:
        """The same module."""
        end, held = time.monotonic() + self.seconds, self.hold and number(Path(self.hold)) >= 2
        while time.monotonic() < end or (held and not (Path(self.hold) / "go").exists()):
            task.progress("waiting", 0, 0, 0.0)
            time.sleep(0.1)
        return task.module


def number(folder: Path) -> int:
    """How many cells have begun before this one, on all nodes."""
    for n in itertools.count():
        with suppress(FileExistsError):
            (folder / f"began-{n}").touch(exist_ok=False)
            return n
    raise AssertionError


@dataclass(frozen=True)
class Ends(Waits):
    """Ends its process."""

    name: ClassVar[str] = "ends"

    def repair(self, task: Task) -> nn.Module:
        """Does not return."""
        os._exit(3)


@dataclass(frozen=True)
class Spoils(Waits):
    """Changes its process for good: inference mode, which ends only with the object that began it."""

    name: ClassVar[str] = "spoils"
    held: ClassVar[list[torch.inference_mode]] = []

    def repair(self, task: Task) -> nn.Module:
        """The same module."""
        self.held.append(torch.inference_mode())
        self.held[-1].__enter__()
        return task.module
