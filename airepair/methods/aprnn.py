"""aprnn: architecture-preserving provable repair (Tao, Nawas, Mitchell and Thakur, PLDI 2023),
re-implemented from its mathematics.

Idea: change the weights of one layer and the biases of all later ones, and demand that no later
unit switches at any repaired point; then the ordinary network is affine in the change at these
points, and "the wanted class wins" is a linear program. What is found holds in the network as it
is: no second channel, no new part.

Changes the weights of `layer` and the biases from there on. Refuses networks in which anything but
ReLU and affine layers runs after that layer (max pooling too: choose a later layer), programs over
the size or time limit, and with `infeasible=refuse` infeasible ones: the frozen pattern makes a
program infeasible that PRDNN's would not be. The state is not selected on validation.

Defaults: bounds +-3, and the objective (Linf + normalised L1 of the weights' change, plus the same
of the outputs' change) are the paper's; the margin is .05 instead of its 1e-6, which float32 does
not see; the last but one layer, points, penalty and limits are ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import logits_of, sit
from airepair.evaluation.work import billed
from airepair.linear.effect import Effect
from airepair.linear.highs import Limits, Norm
from airepair.linear.margins import Array, winning
from airepair.linear.pattern import WithOutputs, parts, pattern_effect, pattern_size, with_pattern
from airepair.linear.proof import Plan, settle
from airepair.methods.points import choose_kept, choose_points
from airepair.models.layers import Site, change, exact, find_site, sites
from airepair.options import Space, option
from airepair.types import Category, Source, Task


@dataclass(frozen=True)
class APRNN:
    """Solves one linear program over a layer's weights and all later biases, the activation pattern
    of the points frozen.
    """

    name: ClassVar[str] = "aprnn"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Tao et al., PLDI 2023"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"free_pattern": {"pattern": "free"}}

    layer: str = option(
        "-2",
        "first layer to change: last, a name, or a place from the end (-2: the last but one)",
        source="open",
        tune=Space(choices=("-2", "last")),
    )
    objective: Literal["l1", "linf", "linf+l1"] = option(
        "linf+l1", "norm of the changes to minimise", source="paper"
    )
    pattern: Literal["frozen", "free"] = option(
        "frozen",
        "free: later units may switch, so nothing is proved (control of the frozen pattern)",
        source="control",
    )
    outputs: bool = option(True, "also minimise the change of the outputs", source="paper")
    margin: float = option(
        0.05,
        "logits by which the wanted class must win",
        low=0.0,
        source="PRDNN",
        tune=Space(1e-3, 3.0, log=True),
    )
    bound: float | None = option(3.0, "largest change of one weight; none: no bound", low=0.0, source="paper")
    points: int | None = option(
        50, "failing inputs to repair, drawn by the seed; none: all", low=1, source="budget"
    )
    keep: int | None = option(
        0, "passing inputs that must stay right, drawn by the seed; none: all", low=0, source="paper: none"
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
    entries: int = option(50_000_000, "size limit of the program, in numbers", low=1, source="budget")

    def budget(self, task: Task) -> int:
        """Counts one reverse pass through each point for every class and every later unit."""
        if not len(task.failing):
            return 0
        x = task.failing.images(slice(0, 2))
        outputs = pattern_size(task.module, find_site(task.module, x, self.layer), x)
        wanted, kept = (
            len(s) if most is None else min(most, len(s))
            for s, most in ((task.failing, self.points), (task.passing, self.keep))
        )
        return (wanted + kept) * outputs

    def repair(self, task: Task) -> nn.Module:
        """Returns the module with changed weights and biases."""
        if not len(task.failing):
            return task.module
        wanted, kept = choose_points(task, self.points), choose_kept(task, self.keep)
        both, classes = wanted + kept, len(task.classes)
        x, double = both.images().double(), exact(task.module)
        found = sites(double, x)
        site = find_site(double, x, self.layer)
        later = [s for s in found[found.index(site) + 1 :] if s.layer(double).bias is not None]
        answers = pattern_effect(double, site, later, x, classes=classes, entries=self.entries)
        task.meter.add(
            len(both) * (answers.logits.shape[1] - 1), training=True
        )  # vjp counts one backward pass of them
        delta = self.solve(task, answers, both.y, len(kept), f"{site.name} and later biases")
        predicted = (answers.logits + answers.shift(torch.from_numpy(delta).to(x)))[:, :classes]
        apply(double, site, later, answers, delta)
        off = float((logits_of(double, x) - predicted).abs().max())
        if self.pattern == "frozen" and off > 1e-5 * (1 + float(predicted.abs().max())):
            raise Unsupported(
                f"the network after layer {site.name!r} is not affine under its ReLU pattern: "
                f"its logits differ by {off:.2g}"
            )
        apply(task.module, site, later, answers, delta)
        task.note(
            f"in the module's own precision {int(sit(task.module, wanted).right.sum())} of {len(wanted)} "
            f"points are right"
        )
        return task.module

    def solve(self, task: Task, answers: Effect, y: Tensor, kept: int, where: str) -> Array:
        """Returns the flat change of weights and biases."""
        classes, n = len(task.classes), len(y)
        logits = Effect(answers.logits[:, :classes], answers.inputs, None, answers.width, answers.bias)
        rows = winning(logits, y, self.margin, kept)
        rows = (
            with_pattern(rows, answers, classes)
            if self.pattern == "frozen"
            else replace(rows, effect=answers)
        )
        held = (
            f", keeps {kept} and switches no later unit at them"
            if self.pattern == "frozen"
            else f" and keeps {kept} in the linear model, whose later units are free to switch"
        )
        plan = Plan(
            Norm(
                self.objective, self.bound, (answers.size, n * classes) if self.outputs else (), answers.size
            ),
            Limits(self.seconds, self.entries),
            self.penalty if self.infeasible == "soften" else None,
            f"{where} within +-{self.bound} lets {n - kept} points win by {self.margin:g}{held}",
        )
        extended = WithOutputs(rows, classes)
        needed = 2 * n * classes * answers.size
        if self.outputs and needed > self.entries:
            raise Unsupported(
                f"the outputs' changes need up to {needed:,} entries, "
                f"more than entries={self.entries:,}; outputs=false or fewer points"
            )
        with billed(task):  # the rows of the program: as many rounds as the solver takes
            found = settle(
                extended if self.outputs else rows,
                plan,
                equalities=extended.equalities() if self.outputs else None,
                note=task.note,
                tick=lambda number, worst: task.progress("solving", number, 0, worst),
            )
        return found.delta[: answers.size]


def apply(module: nn.Module, site: Site, later: list[Site], answers: Effect, delta: Array) -> None:
    """Puts a flat change into the module."""
    device = next(module.parameters()).device
    change(site.layer(module), *answers.split(torch.from_numpy(delta).to(device)))
    with torch.no_grad():
        for place, shift in zip(later, parts(answers, later, delta), strict=True):
            bias = place.layer(module).bias
            assert bias is not None
            bias.add_(shift.to(bias))
