"""Which of several states of a repair is kept: by validation accuracy, or by its mean with the repair
rate of given inputs held out.

Given inputs (`--failing`) are of a kind that validation may not hold: poison, a watermark,
corrupted images. Chosen by validation alone, the start would win against every state that repairs
them (docs/protocol.md, "Given failing inputs").
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from airepair.evaluation.exam import Exam, sit
from airepair.types import Split, Task


@dataclass(frozen=True, eq=False)
class Choice:
    """What states are examined on.

    `held_out` are given inputs that the repair does not learn from; None if none were held out.
    """

    validation: Split
    held_out: Split | None = None

    @property
    def words(self) -> str:
        """What it is, for a note."""
        return (
            "validation accuracy"
            if self.held_out is None
            else "validation accuracy and held-out repair rate, averaged,"
        )

    def exam(self, module: nn.Module) -> tuple[tuple[float, float], Exam]:
        """What the better of two states has more of (see Exam.standing), and the exam on validation."""
        found = sit(module, self.validation, quick=True)
        accuracy, minus_loss = found.standing
        if self.held_out is not None:
            accuracy = (accuracy + sit(module, self.held_out, quick=True).accuracy) / 2
        return (accuracy, minus_loss), found

    def standing(self, module: nn.Module) -> tuple[float, float]:
        """The same without the exam."""
        return self.exam(module)[0]


def choice_of(task: Task) -> Choice:
    """What a method that chooses among states chooses by."""
    return Choice(task.validation, task.held_out)


def chooses(method: object) -> bool:
    """Whether a method says that it keeps one of several states, chosen by `choice_of(task)`."""
    return bool(getattr(method, "chooses", False))
