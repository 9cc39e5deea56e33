"""rotated: the subject works where images are turned, by .2 radian (11.5 degrees) for each step of
`severity` (1 to 5), one way or the other.

A shift of geometry; in everything else it is an `environment` (environment.py): the corruption is `rotate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from airepair.corruptions import Corruption
from airepair.faults.fault import Fault
from airepair.options import option


@dataclass(frozen=True)
class Rotated(Fault):
    """The inputs are turned; training has seen none like them."""

    name: ClassVar[str] = "rotated"
    kind: ClassVar = "environment"

    severity: int = option(3, "steps of .2 radian (11.5 degrees)", low=1, high=5)

    @property
    def environment(self) -> Corruption:
        """Returns the rotation."""
        return Corruption("rotate", self.severity)
