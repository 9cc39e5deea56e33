"""environment: the subject was trained on clean images and works where they are corrupted (one of
airepair/corruptions).

`severity` is the corruption's, 1 to 5. Every image of repair, validation and test is corrupted (and
spoiled); the clean test images are the others, and `Task.environment` is the corruption. The clean
twin has seen it: each training image once as it is and once corrupted. A case may name another
corruption behind its data set: `digits+fog3`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from airepair.corruptions import CORRUPTIONS, Corruption
from airepair.faults.fault import Fault
from airepair.options import option


@dataclass(frozen=True)
class Environment(Fault):
    """The inputs are corrupted; training has seen none like them."""

    name: ClassVar[str] = "environment"
    kind: ClassVar = "environment"

    severity: int = option(3, "of the corruption", low=1, high=5)
    corruption: str = option("fog", "which one")

    @property
    def environment(self) -> Corruption:
        """Returns the corruption."""
        CORRUPTIONS.check(self.corruption)
        return Corruption(self.corruption, self.severity)
