"""undertrained: the subject's training was too short; more of the same repairs it.

`severity` is the share of the recipe's epochs that is left out; the schedule is squeezed into the
rest. It spoils every test input, so there is no collateral to measure. (The `_undertrained`
subjects of CIFAR-100 are the paper's: trained until its baseline's accuracy.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from airepair.faults.fault import Fault
from airepair.options import option
from airepair.types import Recipe


@dataclass(frozen=True)
class Undertrained(Fault):
    """The training stops after too few epochs."""

    name: ClassVar[str] = "undertrained"

    severity: float = option(0.95, "share of the epochs that is left out", low=0.01, high=0.999)

    def recipe(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with fewer epochs, at least one."""
        return replace(recipe, epochs=max(1, round(recipe.epochs * (1 - self.severity))))
