"""noop: changes nothing. The control that every difference is measured from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class Noop:
    """Returns the module as it is."""

    name: ClassVar[str] = "noop"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "control"
    sources: ClassVar[frozenset[Source]] = frozenset(())
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def budget(self, task: Task) -> int:
        """0: nothing is trained."""
        return 0

    def repair(self, task: Task) -> nn.Module:
        """Returns the module, untouched."""
        return task.module
