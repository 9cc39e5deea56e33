"""What every fault is: a frozen dataclass; the benchmark sets its severity, the cell's seed its draw.

What it leaves out stays as it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.corruptions import Corruption, corrupted
from airepair.errors import UsageError
from airepair.options import option
from airepair.types import Dataset, Recipe, Split, Transform, stream

# the purpose of the streams that faults draw from (types.stream): another one than the splits'
FAULT_SEED = 20_250_302


@dataclass(frozen=True)
class Fault:
    """It is a fault with a known cause.

    `kind` says where it sits: in the training, in the weights, or in the inputs that the subject
    meets later.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[Literal["training", "weights", "environment"]] = "training"

    severity: float = option(1.0, "how strong")
    seed: int = option(0, "the cell's seed, from which the fault's own random choices are drawn", low=0)

    def stream(self, part: int = 0) -> int:
        """Returns the seed of a generator of the fault's own; each `part` has a stream of its own."""
        return stream(FAULT_SEED, self.seed, part)

    def generator(self) -> torch.Generator:
        """Returns the generator of the fault's own random choices, at its start."""
        return torch.Generator().manual_seed(self.stream())

    def train(self, split: Split, classes: int) -> Split:
        """Returns the training data as the faulty subject sees them."""
        return split

    def recipe(self, recipe: Recipe) -> Recipe:
        """Returns the recipe by which the faulty subject is trained."""
        return recipe

    def damage(self, module: nn.Module) -> dict[str, Tensor]:
        """Changes weights in place; parameter -> booleans of its shape on the CPU: which ones."""
        return {}

    @property
    def environment(self) -> Transform | None:
        """Returns the change that every input has gone through when the subject meets it."""
        return None

    def change_inputs(self, split: Split, part: int) -> Split:
        """Returns the split's inputs as the fault's environment changes them, by the random numbers
        of that part of the fault's stream; the split itself if no corruption is the environment.
        """
        found = self.environment
        return corrupted(split, found, self.stream(part)) if isinstance(found, Corruption) else split

    @property
    def target(self) -> int | None:
        """Returns the class that a trigger leads to."""
        return None

    def triggered(self, split: Split) -> Split | None:
        """Returns the inputs of a split with the trigger on them, with their right labels; None
        if the fault has no trigger.
        """
        return None

    def spoils(self, data: Dataset) -> Tensor:
        """Which inputs of `data.test` it spoils (booleans on the CPU), where it is not a trigger's:
        all of them unless it says otherwise. (Damage to weights spoils the inputs that it turned
        wrong: faulty.py.)
        """
        return torch.ones(len(data.test), dtype=torch.bool)


def options_of(fault: Fault) -> tuple[tuple[str, Any], ...]:
    """Returns the fault's options by name, without the seed of its draw, which is the cell's."""
    return tuple((name, value) for name, value in asdict(fault).items() if name != "seed")


def check_classes(fault: Fault, wanted: tuple[int, ...], classes: int) -> None:
    """Raises UsageError if the data set lacks a class that the fault is about."""
    for label in wanted:
        if not 0 <= label < classes:
            raise UsageError(
                f"fault {fault.name} is about class {label}; the data set has classes 0..{classes - 1}"
            )


def keep(split: Split, kept: Tensor) -> Split:
    """Returns the images that stay (booleans on the CPU)."""
    return split.select(kept.nonzero()[:, 0].to(split.x.device))
