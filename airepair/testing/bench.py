"""What the checks of the contract look at: a method on a toy subject. And the error of a broken rule."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor, nn

from airepair.errors import one_line, shortened
from airepair.options import configure
from airepair.testing import toy
from airepair.testing.trial import Trial, answers, attempt, other_global_seed
from airepair.types import Method, Task


class Violation(AssertionError):
    """Says that a method broke its contract: what is wanted, what was seen, what to do."""


def violated(rule: str, seen: str, do: str) -> NoReturn:
    """Raises the Violation of a rule."""
    raise Violation(f"the contract wants: {rule}\n  seen: {seen}\n  do: {do}")


def where(error: Exception) -> str:
    """Returns the error on one line, with the file, line and function that it left."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f for f in frames if "site-packages" not in f.filename and "airepair/testing" not in f.filename
    ] or list(frames)
    return (
        f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 200)} "
        f"({Path(own[-1].filename).name}:{own[-1].lineno}, {own[-1].name})"
    )


@dataclass(frozen=True, eq=False)
class Bench:
    """Runs a method's class on the toy subject of one architecture; its two full repairs are run once
    and shared by the checks.
    """

    method: type[Method]
    options: Mapping[str, Any] = field(default_factory=dict)
    architecture: toy.Architecture = "mlp"

    @cached_property
    def configured(self) -> Method:
        """Returns the method with its options."""
        return configure(self.method, self.options)

    @cached_property
    def task(self) -> Task:
        """Returns the toy task: about 40 failing inputs, a training set with wrong labels, an early
        checkpoint.
        """
        return toy.task(self.architecture, seed=3)

    @cached_property
    def started(self) -> tuple[Trial | None, str]:
        """Returns the first repair, if there is one to look at, and otherwise what came instead."""
        try:
            trial = attempt(self.configured, self.task)
        except Exception as error:
            return None, where(error)
        if trial.refusal is not None:
            return trial, ""
        if not isinstance(trial.module, nn.Module):
            return None, f"it returns {type(trial.module).__name__}"
        return self._answering(trial)

    def _answering(self, trial: Trial) -> tuple[Trial | None, str]:
        elsewhere = {
            str(t.device)
            for t in (*trial.module.parameters(), *trial.module.buffers())
            if t.device != self.task.device
        }
        if elsewhere:
            return None, f"weights on {', '.join(sorted(elsewhere))}; the task is on {self.task.device}"
        try:
            found: Any = answers(trial.module, self.task.validation.images())
        except Exception as error:
            return None, f"on a batch of images the result raises {one_line(error, 200)}"
        return (
            (trial, "")
            if isinstance(found, Tensor)
            else (None, f"on a batch of images the result gives {type(found).__name__}")
        )

    @property
    def first(self) -> Trial:
        """Returns the repair that most checks look at; Violation if there is none."""
        trial, instead = self.started
        if trial is None:
            violated(
                "repair returns a module that takes images and gives logits, on the task's device, "
                "or raises Unsupported",
                instead,
                'return the repaired module itself; raise Unsupported("why") where the method cannot '
                "repair; let no other error out",
            )
        return trial

    @cached_property
    def second(self) -> Trial:
        """Returns the same again, with the global random generators somewhere else."""
        with other_global_seed(4711):
            return attempt(configure(self.method, self.options), self.task)

    @cached_property
    def reseeded(self) -> Trial:
        """Returns the repair under another seed."""
        return attempt(self.configured, replace(self.task, seed=self.task.seed + 1))
