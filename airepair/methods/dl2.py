"""dl2: training with a logical constraint as a second loss.

Paper: Fischer, Balunovic, Drachsler-Cohen, Gehr, Zhang, Vechev, "DL2: Training and Querying Neural
Networks with Logic", ICML 2019. Idea: a formula over the network's outputs is translated to a loss
that is 0 exactly where it holds (airepair/constraints/); minimising cross-entropy plus `weight`
times that loss trains the network to satisfy it. Points that a formula quantifies over are found by
a search for counterexamples (airepair/constraints/counterexamples.py).

Data (docs/protocol.md): cross-entropy on train and failing; a constraint that needs no labels is
asked of the repair split's inputs *without* labels (on labelled training points it changed
nothing), one that needs labels of train and failing. The constraint's forward pass runs with
evaluation statistics and gradients, train mode is restored. Pairs are drawn among close ones;
`pairing=shift` is the public code's.

Changes all parameters and batch-norm statistics. Refuses CSimilarity outside CIFAR-10's classes (an
error), groups where the data set has none, radii within which no two inputs lie. The AIREPAIR paper
files DL2 under architecture extension; it changes no architecture: retraining.

Defaults: Adam, batch 128, 200 epochs, and the learning rate, weight and oracle steps of each
published constraint as in the authors' scripts for the data set (github.com/eth-sri/dl2). The class
groups are asked of unlabelled inputs with weight .6 and rate 1e-3, as in their semi-supervised
CIFAR-100 experiment, which runs for 1600 epochs. The kept state is the best on validation. Not
followed: SegmentG's projection to 40 principal components (segments are in pixel space), its label
weights (the public code gives each end the weight of the other) and its unsigned steps; RobustnessG
asks log p(z)_y >= log delta, the public code ignored delta and asked the raw logit:
`dl2.constraint=forall z in box(x, 0.3): logit(z, y) >= log(0.3)`. What AIREPAIR's code ran on every
data set: from_scratch=true, constraint="RobustnessT(eps1=13.8, eps2=0.9)", weight=0.04,
pairing=shift, over=labelled (it never loaded the given weights; its network was a ResNet-50
whatever the subject).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.constraints.counterexamples import Hunt, Search, counterexamples
from airepair.constraints.counterexamples_graph import RecordedHunt
from airepair.constraints.formulas import walk
from airepair.constraints.inputs import Inputs
from airepair.constraints.parser import parse
from airepair.constraints.published import Constraint
from airepair.constraints.terms import Groups
from airepair.errors import Unsupported
from airepair.evaluation.exam import evaluating
from airepair.evaluation.memory import halving
from airepair.options import Space, option
from airepair.training.best_state import Watch, choice_of, fit
from airepair.training.loop import Epoch
from airepair.types import Category, Recipe, Source, Task


@dataclass(frozen=True)
class DL2:
    """Trains on train and failing under cross-entropy, and on a constraint."""

    name: ClassVar[str] = "dl2"
    category: ClassVar[Category] = "retraining"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "Fischer et al., DL2: Training and Querying Neural Networks with Logic, ICML 2019"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing", "unlabelled"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "weight_0": {"weight": 0.0},
        "singleton_groups": {"grouping": "singletons"},
    }

    constraint: str = option(
        "Groups()",
        "a published constraint, an expression of the logic, or several joined by 'and'",
        source="DL2, semi-supervised",
    )
    weight: float | None = option(
        None,
        "of the constraint's loss beside cross-entropy; none: each constraint's published one",
        low=0.0,
        source="DL2 run.sh; .6 for the class groups",
        tune=Space(0.01, 3.0, log=True),
    )
    lr: float | None = option(
        None,
        "learning rate of Adam; none: each constraint's published one, the smallest of several",
        low=0.0,
        source="DL2 run.sh: 1e-4; 1e-3 for the class groups",
        tune=Space(1e-5, 1e-2, log=True),
    )
    batch_size: int = option(
        128, "images per step, and inputs of the constraint per step", low=2, source="DL2 run.sh"
    )
    epochs: int = option(
        200, "passes over train and failing", low=1, source="DL2 run.sh; 1600 for the class groups"
    )
    delay: int = option(
        0, "epochs of cross-entropy alone before the constraint comes in", low=0, source="DL2 --delay"
    )
    over: Literal["auto", "unlabelled", "labelled"] = option(
        "auto",
        "inputs of the constraint; auto: labelled where it needs labels",
        source="DL2, semi-supervised",
    )
    pairing: Literal["close", "shift", "random"] = option(
        "close", "how pairs are drawn", source="form; shift: DL2's code"
    )
    grouping: Literal["given", "singletons"] = option(
        "given",
        "class groups; singletons: each class is its own group (control of the grouping)",
        source="control",
    )
    disjunction: Literal["product", "min"] = option("product", "how 'or' becomes a loss", source="DL2 --or")
    oracle_steps: int | None = option(
        None, "steps of the oracle; none: each constraint's published number", low=0, source="DL2 run.sh"
    )
    oracle_step_size: float = option(0.01, "size of a step, in pixel values", low=0.0, source="DL2 code")
    oracle_restarts: int = option(1, "random starts of the oracle", low=1, source="DL2 --num-restarts")
    from_scratch: bool = option(
        False,
        "train fresh weights instead of the given ones, as AIREPAIR's code did",
        source="AIREPAIR's code",
    )

    def __post_init__(self) -> None:
        parse(self.constraint)

    def budget(self, task: Task) -> int:
        """The passes over train and failing, and at each step what every constraint and its oracle
        ask of the network with gradients.
        """
        constraints = self._constraints(task)
        n, size = len(task.labelled), self.batch_size
        asked = 0
        for c in constraints:
            steps = c.steps if self.oracle_steps is None else self.oracle_steps
            searched = steps * self.oracle_restarts * len(c.outputs & set(c.regions))
            asked += len(c.outputs) + searched
        batches = -(-n // size)
        return self.epochs * n + max(0, self.epochs - self.delay) * batches * size * asked

    def repair(self, task: Task) -> nn.Module:
        """Returns the module, trained further under the constraint; the state that is best on
        validation.
        """
        if not len(task.failing):
            return task.module
        constraints = self._constraints(task)
        parts = [self._part(task, c, salt) for salt, c in enumerate(constraints, 1)]
        if self.from_scratch:
            start_afresh(task.module, task.generator(99))
        objective = Objective(parts, self.delay)
        recipe = Recipe(
            optimizer="adam",
            lr=min(c.rate for c in constraints) if self.lr is None else self.lr,
            weight_decay=0.0,
            batch_size=self.batch_size,
            epochs=self.epochs,
            schedule="constant",
            augment=task.recipe.augment,
        )
        marks = (
            {"cross-entropy alone": self.delay * len(task.labelled)} if 0 < self.delay < self.epochs else {}
        )
        fit(
            task.module,
            task.labelled,
            choice_of(task),
            recipe,
            task.generator(),
            phase="dl2",
            loss=objective,
            watch=Watch(progress=task.progress, epoch=objective.hear, keep=task.keep, marks=marks),
        )
        for part in parts:
            if part.inputs.pairwise and self.pairing == "close":
                task.note(f"{part.constraint.text}: {part.inputs.share:.1%} of the pairs are close")
        return task.module

    def _constraints(self, task: Task) -> tuple[Constraint, ...]:
        """The constraints for the task's data set. Unsupported if singletons would change nothing."""
        found = parse(self.constraint, classes=task.classes, robustness=task.robustness)
        grouped = any(isinstance(term, Groups) for c in found for term in walk(c.formula))
        if self.grouping == "singletons" and not grouped:
            raise Unsupported(
                f"grouping=singletons changes nothing: {self.constraint} is not about class groups"
            )
        return found

    def _part(self, task: Task, constraint: Constraint, salt: int) -> Part:
        if self.over == "unlabelled" and constraint.labelled:
            raise Unsupported(
                f"{constraint.text} needs labels, which unlabelled inputs do not have (over=auto or labelled)"
            )
        labelled = constraint.labelled or self.over == "labelled"
        images, labels = (task.labelled.images(), task.labelled.y) if labelled else (task.unlabelled, None)
        radius = task.robustness.eps1 if constraint.radius is None else constraint.radius
        inputs = Inputs(
            images, labels, self.batch_size, constraint.pairwise, self.pairing, radius, task.generator(salt)
        )
        steps = constraint.steps if self.oracle_steps is None else self.oracle_steps
        search = Search(steps, self.oracle_step_size, self.oracle_restarts)
        weight = constraint.weight if self.weight is None else self.weight
        hunt = RecordedHunt(
            Hunt(
                constraint,
                search,
                membership(task, singletons=self.grouping == "singletons"),
                self.disjunction,
            )
        )
        return Part(weight, inputs, hunt, task.generator(100 + salt))


@dataclass(frozen=True, eq=False)
class Part:
    """It holds one constraint in training: its weight, its inputs, its oracle."""

    weight: float
    inputs: Inputs
    hunt: RecordedHunt
    generator: torch.Generator

    @property
    def constraint(self) -> Constraint:
        """What is to hold."""
        return self.hunt.constraint

    def loss(self, module: nn.Module) -> Tensor:
        """Returns the weighted mean loss of the constraint over a fresh batch, with evaluation
        statistics and gradients to the weights.
        """
        return halving(
            lambda size: self._loss(module, size),
            self.inputs.size,
            "inputs of the constraint in a training step",
        )

    def _loss(self, module: nn.Module, size: int) -> Tensor:
        self.inputs.size = size  # where fewer had to do, they do from here on
        points, labels = self.inputs.draw()
        found = counterexamples(self.hunt, module, points, labels, self.generator)
        with evaluating(module):
            scope = self.constraint.scope(
                module, points | found, labels, self.hunt.hunt.groups, self.hunt.hunt.disjunction
            )
            return self.weight * self.constraint.formula.loss(scope).mean()


class Objective:
    """It computes the loss of a batch: cross-entropy, and from the epoch after `delay` on the constraints."""

    def __init__(self, parts: list[Part], delay: int) -> None:
        self.parts, self.delay, self.done = parts, delay, 0

    def hear(self, epoch: Epoch) -> None:
        """Counts the epochs."""
        self.done = epoch.number

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        # Cross-entropy first: its forward pass moves the batch-norm statistics that the
        # constraint's then reads.
        loss = nn.functional.cross_entropy(module(x), y)
        return sum((p.loss(module) for p in self.parts), loss) if self.done >= self.delay else loss


def membership(task: Task, *, singletons: bool = False) -> Tensor | None:
    """Returns the class groups as a K x G matrix of 0 and 1 on the task's device; None if there are
    none. `singletons`: each class is a group.
    """
    if task.groups and singletons:
        return torch.eye(len(task.classes), device=task.device)
    if not task.groups:
        return None
    matrix = torch.zeros(len(task.classes), len(task.groups), device=task.device)
    for g, members in enumerate(task.groups):
        matrix[list(members), g] = 1
    return matrix


def start_afresh(module: nn.Module, generator: torch.Generator) -> None:
    """Resets every layer by its own rule, from the generator's seed; Unsupported if a layer has none."""
    ruleless = [
        name or "the module itself"
        for name, m in module.named_modules()
        if next(m.parameters(recurse=False), None) is not None
        and not callable(getattr(m, "reset_parameters", None))
    ]
    if ruleless:
        raise Unsupported(
            f"from_scratch: {', '.join(ruleless[:3])} has parameters and no rule to initialise them "
            f"(reset_parameters)"
        )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        for m in module.modules():
            if callable(reset := getattr(m, "reset_parameters", None)):
                reset()
