"""Methods for the tests of clusters, copied into a user's folder as `mine.py`: the controller has
to ship them.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from airepair.options import option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class Waits:
    """Waits, then returns the module as it is."""

    name: ClassVar[str] = "waits"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing",))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    seconds: float = option(1.0, "how long", low=0.0)

    def budget(self, task: Task) -> int:
        """Nothing is trained."""
        return 0

    def repair(self, task: Task) -> nn.Module:
        """The same module."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            task.progress("waiting", 0, 0, 0.0)
            time.sleep(0.1)
        return task.module


@dataclass(frozen=True)
class Ends(Waits):
    """Ends its process."""

    name: ClassVar[str] = "ends"

    def repair(self, task: Task) -> nn.Module:
        """Does not return."""
        os._exit(3)


@dataclass(frozen=True)
class Spoils(Waits):
    """Changes its process for good: inference mode, which nobody but who entered it can leave."""

    name: ClassVar[str] = "spoils"

    def repair(self, task: Task) -> nn.Module:
        """The same module."""
        torch.inference_mode().__enter__()
        return task.module
