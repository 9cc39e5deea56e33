"""best: picks per subject on validation, in the order that the AIREPAIR paper recommends (III-D).

Idea: direct weight modification first, then fine-tuning and retraining, then attached units; each
stage tries its candidates from the best state so far and keeps the one with the best validation
accuracy (ties by loss), if it is better than what was there.

Changes what the candidates change. A candidate that refuses is left out with a note. It stops after
`patience` stages in a row without a gain: two by default, since the paper expects direct
modification to fail on complex networks "where retraining can still be applied". Defaults of the
candidates: the paper's three methods and deepcorrect, each with its own defaults;
`dl2@epochs=10@lr=0.001` sets options.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.methods import build
from airepair.methods.handover import continued, later_budget
from airepair.methods.information import restricted
from airepair.options import option
from airepair.training.best_state import choice_of
from airepair.types import Category, Method, Source, Task

STAGES: tuple[tuple[Category, ...], ...] = (
    ("direct weight modification",),
    ("retraining", "control"),
    ("architecture extension",),
)


@dataclass(frozen=True)
class Best:
    """Tries the candidates stage by stage and returns the best state on validation."""

    name: ClassVar[str] = "best"
    category: ClassVar[Category] = "architecture extension"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "AIREPAIR III-D: recommended order"
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_choice": {"choice": "random"}}

    candidates: tuple[str, ...] = option(
        ("apricot", "deeprepair", "dl2", "deepcorrect"),
        "methods to choose from, METHOD or METHOD@option=value",
        source="AIREPAIR III-D",
    )
    choice: Literal["validation", "random"] = option(
        "validation",
        "which state a stage keeps; random: that of a random candidate (control of the choice)",
        source="control",
    )
    patience: int = option(
        2, "stages in a row without a gain after which it stops", low=1, high=3, source="AIREPAIR III-D"
    )

    def methods(self) -> list[Method]:
        """Returns the candidates with their options."""
        return [configured(text) for text in self.candidates]

    @property
    def sources(self) -> frozenset[Source]:
        """What one of its candidates learns from, and what passes: each stage asks anew which inputs fail."""
        return frozenset[Source](("failing", "passing")).union(*(m.sources for m in self.methods()))

    def budget(self, task: Task) -> int:
        """Returns all that its candidates may use, whatever fails when their turn comes; one that
        refuses uses nothing.
        """
        total = 0
        for method in self.methods():
            with suppress(Unsupported):
                total += later_budget(method, task)
        return total

    def repair(self, task: Task) -> nn.Module:
        """Returns the best state on validation, the subject's own included."""
        if not len(task.failing):
            return task.module
        methods = self.methods()
        best, idle, generator = copy.deepcopy(task.module), 0, task.generator(1)
        for categories in STAGES:
            stage = [m for m in methods if m.category in categories]
            if not stage:
                continue
            tried = [r for m in stage if (r := attempt(m, task, best)) is not None]
            found = max([best, *tried], key=lambda r: standing(r, task))
            if self.choice == "random" and tried:
                found = tried[int(torch.randint(len(tried), (), generator=generator))]
            idle = idle + 1 if found is best else 0
            best = found
            if idle == self.patience:
                task.note(f"best stopped after {idle} stages without a gain on validation")
                break
        return best


def configured(text: str) -> Method:
    """Returns the candidate `METHOD@option=value@...`; UsageError if it is none."""
    name, *settings = text.split("@")
    if name == Best.name or any("=" not in s for s in settings):
        raise UsageError(
            f"candidate {text!r} of best; accepted: METHOD or METHOD@option=value, other than best itself"
        )
    return build(name, {s.split("=", 1)[0]: s.split("=", 1)[1] for s in settings})


def attempt(method: Method, task: Task, start: nn.Module) -> nn.Module | None:
    """Returns the method's result from `start`, or None if it refuses. The state is noted and kept."""
    try:
        found = method.repair(restricted(continued(task, copy.deepcopy(start), method.name), method.sources))
    except Unsupported as error:
        task.note(f"best left out {method.name}: {error}")
        return None
    before, after = standing(start, task)[0], standing(found, task)[0]
    task.note(f"best tried {method.name}: validation accuracy {before:.4f} to {after:.4f}")
    task.keep(f"after {method.name}", found)
    return found


def standing(module: nn.Module, task: Task) -> tuple[float, float]:
    """What the better of two states has more of."""
    return choice_of(task).standing(module)
