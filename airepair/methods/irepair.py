"""irepair: repair by gradients on the weights that matter to the failures alone (Henriksen, Leofante
and Lomuscio, I-REPAIR, SAC 2022).

Idea: a weight may move only if its influence on the loss of the still failing inputs is at least
gamma times its influence on the outputs for inputs that are right; these weights follow RMSprop
steps until every failing input is right. gamma = 0 is plain fine-tuning on the same few inputs; as
gamma grows only weights without any influence on the right inputs still move.

    influence on S' (the failing ones) = |d CE(S') / d w|
    influence on G (the right ones)    = |d mean over G of sum |logit| / d w|
    w moves if (influence on S' + 1e-8) / (gamma * influence on G + 1e-8) >= 1
    loss = CE over G and S

Changes parameters of any layer; batch norm stays in evaluation mode. G is a balanced draw of
passing inputs, held to the answers that the subject gives already: something not to break. Refuses
a task without passing inputs. Stops at the first state with all of S right: there is no selection
on validation, the damage shows.

The failing inputs may be of any classes (published: of one). Defaults: the public code's 500
iterations and 1e-8, learning rate 1e-4 and 40 general inputs from the paper's MNIST runs; 32 points
is the most the paper repairs at once; gamma .1 lies in the middle of the paper's .001..5.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from airepair.errors import OutOfBudget, Unsupported
from airepair.evaluation.exam import evaluating, sit
from airepair.host.arithmetic.exact import RMSprop
from airepair.methods.points import choose_points
from airepair.options import Space, option
from airepair.training.best_state import cross_entropy
from airepair.training.loop import Course, passes
from airepair.training.step import Stepper, none
from airepair.types import Category, Source, Split, Task

FLOOR = 1e-8  # of both influences, in the public code


@dataclass(frozen=True)
class IRepair:
    """It runs masked RMSprop until the chosen failing inputs are right."""

    name: ClassVar[str] = "irepair"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Henriksen et al., SAC 2022"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"gamma_0": {"gamma": 0.0}}

    gamma: float = option(
        0.1,
        "weight of the influence on right inputs",
        low=0.0,
        source="paper",
        tune=Space(1e-3, 5.0, log=True),
    )
    lr: float = option(
        1e-4, "learning rate of RMSprop", low=0.0, source="paper", tune=Space(1e-5, 1e-2, log=True)
    )
    iterations: int = option(500, "maximum number of iterations", low=1, source="public code")
    points: int | None = option(
        32, "failing inputs to repair, drawn by the seed; none: all", low=1, source="paper"
    )
    general: int = option(
        40,
        "passing inputs to hold, balanced over classes",
        low=1,
        source="paper",
        tune=Space(10, 400, log=True),
    )

    def budget(self, task: Task) -> int:
        """Every iteration sends the points and the general inputs through twice."""
        points = len(task.failing) if self.points is None else min(self.points, len(task.failing))
        return self.iterations * 2 * (points + min(self.general, len(task.passing)))

    def repair(self, task: Task) -> nn.Module:
        """Returns the module when all chosen points are right, or after the last iteration."""
        if not len(task.failing):
            return task.module
        if not len(task.passing):
            raise Unsupported(
                "there is no passing input whose outputs the influence could be weighed against"
            )
        module, specific = task.module, choose_points(task, self.points)
        general = balanced(task.passing, self.general, task.generator(2))
        masked, both = Masked(module, general, specific, self.gamma), general + specific
        optimizer = RMSprop(masked.parameters, lr=self.lr)
        optimizer.register_step_pre_hook(lambda *_: masked.apply())
        course = Course(self.iterations, len(both), masked.batches)
        with (
            evaluating(module),
            suppress(OutOfBudget),
            Stepper(module, optimizer, cross_entropy, none, task.generator(), parts=False) as step,
        ):
            for epoch in passes(course, lambda index, _: (step(both, index, self.lr),)):
                task.progress("masked steps", epoch.number, self.iterations, epoch.loss)
        if masked.repaired:
            task.note(f"all {len(specific)} points right after {masked.number} iterations")
            return module
        right = int(sit(module, specific).right.sum())
        task.note(
            f"{right} of {len(specific)} points right when it stopped, in iteration {masked.number} of "
            f"{self.iterations}"
        )
        return module


class Masked:
    """It yields the batches of irepair, all of G and S at once while a point of S is wrong, and
    holds the masks of the step on each.
    """

    def __init__(self, module: nn.Module, general: Split, specific: Split, gamma: float) -> None:
        self.module, self.gamma = module, gamma
        self.general, self.images, self.labels = general.images(), specific.images(), specific.y
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.masks: list[Tensor] = []
        self.number, self.repaired = 0, False

    def batches(self) -> Iterator[Tensor]:
        """Yields the next batch, with the masks of the weights as they stand; none if all points
        are right.
        """
        logits = self.module(self.images)
        wrong = logits.argmax(1) != self.labels
        self.repaired = not bool(wrong.any())
        if self.repaired:
            return
        self.number += 1
        on_specific = gradients(
            nn.functional.cross_entropy(logits[wrong], self.labels[wrong]), self.parameters
        )
        on_general = gradients(self.module(self.general).abs().sum(1).mean(), self.parameters)
        self.masks = [mask(s, g, self.gamma) for s, g in zip(on_specific, on_general, strict=True)]
        yield torch.arange(len(self.general) + len(self.images), device=self.images.device)

    def apply(self) -> None:
        """Takes the gradients away where a weight may not move."""
        for parameter, where in zip(self.parameters, self.masks, strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(where)


def mask(specific: Tensor, general: Tensor, gamma: float) -> Tensor:
    """Where a weight may move, from the absolute gradients of both influences."""
    return (specific.abs() + FLOOR) / (gamma * general.abs() + FLOOR) >= 1


def gradients(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Returns d value / d each parameter, zeros if there is no way."""
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def balanced(split: Split, most: int, generator: torch.Generator) -> Split:
    """Returns up to `most` of the inputs, drawn class by class in turn."""
    order = torch.randperm(len(split), generator=generator)
    y = split.y.cpu()[order]
    turn = torch.zeros(len(y), dtype=torch.int64)
    for k in y.unique():
        turn[y == k] = torch.arange(int((y == k).sum()))
    return split.select(order[turn.argsort(stable=True)[:most]].to(split.x.device))
