"""noop: changes nothing. The control that every difference is measured from."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from airepair.types import Category, Task


@dataclass(frozen=True)
class Noop:
    """Returns the module as it is."""

    name: ClassVar[str] = "noop"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "control"

    def repair(self, task: Task) -> nn.Module:
        """The module, untouched."""
        return task.module
