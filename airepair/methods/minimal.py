"""minimal: the smallest change of the last layer that repairs the failing inputs (Goldberger, Katz,
Adi and Keshet, LPAR 2020).

Idea: the logits are affine in the last layer's weights, so "the wanted class wins by a margin" is a
linear constraint, and the smallest change is a linear program whose optimum is proved. Passing
inputs may be kept: a class that wins goes on winning, by the margin or, where it had less, by what
it had.

Changes the last linear layer's weights (and bias, an option). Refuses modules that do something
after that layer, programs over the size limit, and solving times over the time limit. What is
proved goes to the record's notes: the optimum, or that no change of this layer can do it; then the
program is softened (each point may fall short at a price), or refused with `infeasible=refuse`. The
state is not selected on validation: the damage to other inputs shows. The paper's SMT form of the
L1 objective is an LP when only the last layer changes.

Defaults: L1 is the objective of the paper's SMT form, Linf that of its linear program; margin .05 is PRDNN's
buffer, since a tie is no repair in float32; no bound on the change, as in the paper. How many passing inputs
are kept (the paper keeps none) and what a shortfall costs are open until they are tuned on validation;
`points` and the limits are a budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import sit
from airepair.evaluation.work import billed
from airepair.linear.effect import Effect, effect
from airepair.linear.highs import Limits, Norm
from airepair.linear.margins import winning
from airepair.linear.proof import Plan, settle
from airepair.methods.points import choose_kept, choose_points
from airepair.models.layers import change, exact, final_site
from airepair.options import Space, option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class Minimal:
    """Solves one linear program over the last layer."""

    name: ClassVar[str] = "minimal"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Goldberger et al., LPAR 2020"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"gradient": {"direction": "gradient"}}

    objective: Literal["l1", "linf", "linf+l1"] = option(
        "l1",
        "norm of the change to minimise",
        source="paper: its SMT form; linf: its LP",
        tune=Space(choices=("l1", "linf", "linf+l1")),
    )
    direction: Literal["program", "gradient"] = option(
        "program",
        "gradient: a step of the same L2 norm along the gradient of cross-entropy over the same points "
        "(control of the program)",
        source="control",
    )
    margin: float = option(
        0.05,
        "logits by which the wanted class must win",
        low=0.0,
        source="PRDNN",
        tune=Space(1e-3, 3.0, log=True),
    )
    bias: bool = option(True, "the bias may change too", source="paper")
    bound: float | None = option(None, "largest change of one weight", low=0.0, source="paper: none")
    points: int | None = option(
        200, "failing inputs to repair, drawn by the seed; none: all", low=1, source="budget"
    )
    keep: int | None = option(
        500,
        "passing inputs that must stay right, drawn by the seed; none: all",
        low=0,
        source="open",
        tune=Space(choices=(0, 100, 500)),
    )
    infeasible: Literal["soften", "refuse"] = option(
        "soften", "what to do with a program that has no solution", source="form"
    )
    penalty: float = option(
        10.0,
        "price of a logit of shortfall in a softened program",
        low=0.0,
        source="open",
        tune=Space(0.01, 1000.0, log=True),
    )
    seconds: float = option(120.0, "time limit of the solver", low=0.0, source="budget")
    entries: int = option(20_000_000, "size limit of the program, in numbers", low=1, source="budget")

    def budget(self, task: Task) -> int:
        """0: nothing is trained."""
        return 0

    @torch.no_grad()
    def repair(self, task: Task) -> nn.Module:
        """Returns the module with the smallest change, proved smallest."""
        if not len(task.failing):
            return task.module
        wanted, kept = choose_points(task, self.points), choose_kept(task, self.keep)
        both = wanted + kept
        site = final_site(task.module, both.images(slice(0, 2)))
        answers = effect(exact(task.module), site, both.images().double(), bias=self.bias)
        rows = winning(answers, both.y, self.margin, len(kept))
        what = f"{site.name} lets {len(wanted)} points win by {self.margin:g} and keeps {len(kept)}"
        plan = Plan(
            Norm(self.objective, self.bound),
            Limits(self.seconds, self.entries),
            self.penalty if self.infeasible == "soften" else None,
            what,
        )
        with billed(task):  # the rows of the program: as many rounds as the solver takes
            found = settle(
                rows,
                plan,
                note=task.note,
                tick=lambda number, worst: task.progress("solving", number, 0, worst),
            )
        delta = torch.from_numpy(found.delta).to(task.device)
        weight, bias = answers.split(
            delta if self.direction == "program" else downhill(answers, both.y, float(delta.norm()))
        )
        change(site.layer(task.module), weight, bias)
        right = (
            int(sit(task.module, wanted).right.sum()),
            int(sit(task.module, kept).right.sum()) if len(kept) else 0,
        )
        task.note(
            f"in the module's own precision {right[0]} of {len(wanted)} points are right and {right[1]} "
            f"of {len(kept)} kept ones"
        )
        return task.module


def downhill(answers: Effect, y: Tensor, length: float) -> Tensor:
    """Returns the flat change of a last layer, of that L2 norm, along which the mean cross-entropy
    of the points with labels y falls fastest.
    """
    error = answers.logits.softmax(1) - nn.functional.one_hot(y, answers.logits.shape[1])
    parts = [(error.T @ answers.inputs.squeeze(2)).flatten(), *([error.sum(0)] if answers.bias else [])]
    slope: Tensor = torch.cat(parts)
    steepest: Tensor = -slope * (length / slope.norm().clamp_min(1e-300))
    return steepest
