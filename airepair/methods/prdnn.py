"""prdnn: provable point repair of one layer of a decoupled network (Sotoudeh and Thakur, PLDI 2021).

Idea: split the network into a channel that fixes the branches of all activations (the original) and
a channel that computes the value (the edited one); then the output is exactly affine in one layer's
change, for any layer, and the repair is a linear program. If that is infeasible, no change of this
layer within the bounds repairs the points: the record's notes say what was proved.

Changes one linear or convolutional layer of the value channel. Which one the paper leaves open (it
tries every layer and compares on test data): `layer=auto` solves the program of each layer, the
last first, and keeps the network that is best on validation. Layers whose program is over the size
limit, or that the solver has no time left for, are left out, and the notes name them. On the last
layer alone the method is `minimal` with another norm.

Passing inputs are kept as in the paper's repair of MNIST under fog, where each line to repair
begins at a clean image whose answer must stay: as many as are repaired. A kept input goes on
winning by the margin or, if it had less, by what it had.

The result has two channels and twice the cost, unless both are the same function (the last layer)
or `fold` asks for one channel: then the points are checked again and the notes say how many hold,
since that is not guaranteed. Refuses layers that run more than once, grouped convolutions, programs
over the size or time limit, and with `infeasible=refuse` infeasible ones. The unchanged network is
no candidate: the damage to other inputs shows.

Defaults: margin .05, bounds +-3, objective Linf + normalised L1, Jacobian batches of 128: the paper
and its public code; 100 points to repair and 100 to keep: the largest of its MNIST experiments (10
to 100 lines). The softened program (the code has slack variables, too) prices each point's
shortfall, which is open until it is tuned on validation; the limits are a budget.
"""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import sit
from airepair.evaluation.work import billed
from airepair.linear.decoupled import Decoupled, fold
from airepair.linear.effect import effect
from airepair.linear.highs import Limits, Norm
from airepair.linear.margins import winning
from airepair.linear.program import check_size, to_fit
from airepair.linear.proof import Plan, settle
from airepair.methods.points import choose_kept, choose_points
from airepair.models.layers import Site, change, exact, find_site, sites
from airepair.options import Space, option
from airepair.types import Category, Source, Split, Task


@dataclass(frozen=True)
class PRDNN:
    """Solves one linear program over one layer of the value channel."""

    name: ClassVar[str] = "prdnn"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Sotoudeh and Thakur, PLDI 2021"
    sources: ClassVar[frozenset[Source]] = frozenset(("failing", "passing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "last_layer": {"layer": "last"},
        "coupled": {"fold": True},
    }

    layer: str = option(
        "auto",
        "layer to repair: auto (the best on validation), last, a name, or a place from the end (-2)",
        source="validation",
    )
    objective: Literal["l1", "linf", "linf+l1"] = option(
        "linf+l1",
        "norm of the change to minimise",
        source="paper",
        tune=Space(choices=("l1", "linf", "linf+l1")),
    )
    margin: float = option(
        0.05,
        "logits by which the wanted class must win",
        low=0.0,
        source="paper",
        tune=Space(1e-3, 3.0, log=True),
    )
    bias: bool = option(True, "the bias may change too", source="paper")
    bound: float | None = option(3.0, "largest change of one weight; none: no bound", low=0.0, source="paper")
    points: int | None = option(
        100, "failing inputs to repair, drawn by the seed; none: all", low=1, source="paper, MNIST: 10 to 100"
    )
    keep: int | None = option(
        100,
        "passing inputs that must stay right, drawn by the seed; none: all",
        low=0,
        source="paper, MNIST: as many as are repaired",
    )
    fold: bool | None = option(
        None, "one channel; none: only where both are the same function (the last layer)", source="form"
    )
    infeasible: Literal["soften", "refuse"] = option(
        "soften", "what to do with a program that has no solution", source="public code: slack"
    )
    penalty: float = option(
        10.0,
        "price of a logit of shortfall in a softened program",
        low=0.0,
        source="open",
        tune=Space(0.01, 1000.0, log=True),
    )
    seconds: float = option(120.0, "time limit of the solver, all layers together", low=0.0, source="budget")
    entries: int = option(20_000_000, "size limit of the program, in numbers", low=1, source="budget")

    def budget(self, task: Task) -> int:
        """Returns, for each layer that it may try, one reverse pass per class through each point;
        the last layer's answers need none.
        """
        if not len(task.failing):
            return 0
        x = task.failing.images(slice(0, 2))
        tried = sites(task.module, x) if self.layer == "auto" else [find_site(task.module, x, self.layer)]
        wanted, kept = (
            len(s) if most is None else min(most, len(s))
            for s, most in ((task.failing, self.points), (task.passing, self.keep))
        )
        return sum(not site.final for site in tried) * (wanted + kept) * len(task.classes)

    def repair(self, task: Task) -> nn.Module:
        """Returns the decoupled network (or its folded form) with the smallest change of the layer."""
        if not len(task.failing):
            return task.module
        wanted, kept = choose_points(task, self.points), choose_kept(task, self.keep)
        module, x = task.module.eval(), (wanted + kept).images(slice(0, 2))
        if self.layer != "auto":
            return self._repaired(task, module, find_site(module, x, self.layer), wanted, kept, self.seconds)
        return self._best(task, module, sites(module, x)[::-1], wanted, kept)

    def _best(
        self, task: Task, module: nn.Module, candidates: list[Site], wanted: Split, kept: Split
    ) -> nn.Module:
        """The best repair on validation, of all layers that can be solved; the later layer on a tie."""
        start, left, solved, left_out = time.monotonic(), self.seconds, [], []
        for site in candidates:
            said: list[str] = []
            try:
                if left <= 0:
                    raise Unsupported(
                        f"no time was left of seconds={self.seconds:g}; allow more, or repair fewer points"
                    )
                found = self._repaired(
                    dataclasses.replace(task, note=said.append), module, site, wanted, kept, left
                )
                solved.append((sit(found, task.validation).standing, site.name, found, said))
            except Unsupported as error:
                left_out.append(f"{site.name}: {error}")
            left = self.seconds - (time.monotonic() - start)
        if not solved:
            raise Unsupported(
                "; ".join(left_out)
                or "the module has no linear or convolutional layer that runs exactly once"
            )
        _, name, best, said = max(solved, key=lambda one: one[0])
        scores = ", ".join(f"{other} {accuracy:.4f}" for (accuracy, _), other, _, _ in solved)
        task.note(
            f"layer {name}, the best on validation ({scores})"
            + "".join(f"; left out {text}" for text in left_out)
        )
        for text in said:
            task.note(text)
        return best

    def _repaired(
        self, task: Task, module: nn.Module, site: Site, wanted: Split, kept: Split, seconds: float
    ) -> nn.Module:
        """The decoupled network (or its folded form) with the smallest change of one layer;
        Unsupported if that cannot be solved.
        """
        both, limits, classes = wanted + kept, Limits(seconds, self.entries), len(task.classes)
        if (
            not site.final
        ):  # before the slopes are computed, which train as many images as there are classes for each point
            layer, rows = site.layer(module), len(both) * (classes - 1)
            weights = layer.weight.numel() + (
                layer.bias.numel() if self.bias and layer.bias is not None else 0
            )
            check_size(to_fit(rows, len(wanted)), weights, weights, limits)
        answers = effect(exact(module), site, both.images().double(), bias=self.bias, entries=self.entries)
        if not site.final:  # vjp counts one backward pass of the K
            task.meter.add(len(both) * (classes - 1), training=True)
        plan = Plan(
            Norm(self.objective, self.bound),
            limits,
            self.penalty if self.infeasible == "soften" else None,
            f"{site.name} within +-{self.bound} lets {len(wanted)} points win by {self.margin:g} in the "
            f"decoupled network and keeps {len(kept)}",
        )
        with billed(task):  # the rows of the program: as many rounds as the solver takes
            found = settle(
                winning(answers, both.y, self.margin, len(kept)),
                plan,
                note=task.note,
                tick=lambda number, worst: task.progress("solving", number, 0, worst),
            )
        network = Decoupled(module, site)
        change(network.value, *answers.split(torch.from_numpy(found.delta).to(task.device)))
        task.note(
            f"decoupled network: {int(sit(network, wanted).right.sum())} of {len(wanted)} points are "
            f"right in its own precision"
        )
        if not (site.final if self.fold is None else self.fold):
            return network
        folded = fold(network)
        same = "the same function" if site.final else "not guaranteed, checked again"
        task.note(
            f"folded into one channel ({same}): {int(sit(folded, wanted).right.sum())} of {len(wanted)} "
            f"points hold"
        )
        return folded
