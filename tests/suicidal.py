"""A method whose process dies in mid-repair: stands for a crash in native code."""

import os
import signal
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from airepair.types import Category, Task


@dataclass(frozen=True)
class Suicidal:
    """Kills its process."""

    name: ClassVar[str] = "suicidal"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "none"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {}

    def budget(self, task: Task) -> int:
        return 0

    def repair(self, task: Task) -> nn.Module:
        """Never returns."""
        os.kill(os.getpid(), signal.SIGKILL)
        return task.module
