"""What every fault is: a frozen dataclass whose severity and seed belong to the benchmark, never to a cell. What it leaves out stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.options import option
from airepair.types import Dataset, Recipe, Split, Transform

SEED = 20_230_518  # of every fault's own random choices; fixed, like the splits


@dataclass(frozen=True)
class Fault:
    """A fault with a known cause. `kind` says where it sits: in the training, in the weights, or in the inputs that the subject meets later."""

    name: ClassVar[str] = ""
    kind: ClassVar[Literal["training", "weights", "environment"]] = "training"

    severity: float = option(1.0, "how strong")
    seed: int = option(SEED, "of the fault's own random choices")

    def train(self, split: Split, classes: int) -> Split:
        """The training data as the faulty subject sees them."""
        return split

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe by which the faulty subject is trained."""
        return recipe

    def damage(self, module: nn.Module) -> dict[str, Tensor]:
        """Changes weights in place; parameter -> booleans of its shape on the CPU: which ones."""
        return {}

    @property
    def environment(self) -> Transform | None:
        """The change that every input has gone through when the subject meets it."""
        return None

    @property
    def target(self) -> int | None:
        """The class that a trigger leads to."""
        return None

    def triggered(self, split: Split) -> Split | None:
        """The inputs of a split with the trigger on them, with their right labels; None where the fault has no trigger."""
        return None

    def spoils(self, data: Dataset) -> Tensor:
        """Which inputs of `data.test` it spoils (booleans on the CPU), where it is not a trigger's: all of them unless it says
        otherwise. (Damage to weights spoils the inputs that it turned wrong: faulty.py.)"""
        return torch.ones(len(data.test), dtype=torch.bool)


def check_classes(fault: Fault, wanted: tuple[int, ...], classes: int) -> None:
    """UsageError where the data set lacks a class that the fault is about."""
    for label in wanted:
        if not 0 <= label < classes:
            raise UsageError(f"fault {fault.name} is about class {label}; the data set has classes 0..{classes - 1}")


def keep(split: Split, kept: Tensor) -> Split:
    """The images that stay (booleans on the CPU)."""
    return split.select(kept.nonzero()[:, 0].to(split.x.device))
