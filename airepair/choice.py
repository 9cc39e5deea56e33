"""Which of several states of a repair is kept: by validation accuracy, or by its mean with the repair rate of given inputs held out.

Given inputs (`--failing`) are of a kind that validation may not hold: poison, a watermark, corrupted images. Chosen by validation alone, the
start would win against every state that repairs them (docs/protocol.md, "Given failing inputs").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from airepair.data.splits import stratified
from airepair.exam import Exam, sit
from airepair.seeds import stream
from airepair.types import Split, Task

FEWEST = 5  # given inputs from which on a fifth of them is held out
SHARE = 5
HOLDING = 20_251_128  # the purpose of the stream that draws them


@dataclass(frozen=True, eq=False)
class Choice:
    """What states are examined on. `held_out` are given inputs that the repair does not learn from; None if none were held out."""

    validation: Split
    held_out: Split | None = None

    def exam(self, module: nn.Module) -> tuple[tuple[float, float], Exam]:
        """What the better of two states has more of (see Exam.standing), and the exam on validation."""
        found = sit(module, self.validation)
        accuracy, minus_loss = found.standing
        if self.held_out is not None:
            accuracy = (accuracy + sit(module, self.held_out).accuracy) / 2
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


def held_out(given: Split, seed: int) -> tuple[Split, Split | None]:
    """Given inputs divided into those that are learned from and a fifth that is not, stratified by wanted label; fewer than five are not divided."""
    if len(given) < FEWEST:
        return given, None
    generator = torch.Generator().manual_seed(stream(HOLDING, seed))
    count = len(given) // SHARE
    learned, held = stratified(given.y.cpu(), (len(given) - count, count), generator)
    return given.select(learned.to(given.y.device)), given.select(held.to(given.y.device))
