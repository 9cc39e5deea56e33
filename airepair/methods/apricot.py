"""apricot: Zhang and Chan, "Apricot: A weight-adaptation approach to fixing deep learning models", ASE 2019.

Idea: submodels of the same architecture, trained on parts of the training data, disagree on a failing case; move the weights towards the
mean of those that are right and away from the mean of those that are wrong. After each block of failing cases the result is kept only if
validation improves (then trained further), else rolled back.

Changes all weights and batch-norm statistics (they move with the weights; integer buffers stay). Refuses a task without training data.
Failing cases come from train; where train has none, from `failing`, and the record says which. Submodels start from the subject's early
checkpoint, so that they share its basin and averaging is meaningful; without one they start from the subject itself (noted).

Defaults (the authors' settings): 20 submodels, windows of a quarter of train, strategy 2, rate .005, blocks of 20, 20 further epochs, 20 % of
the subject's epochs for a submodel. A block is 20 failing *cases*. Strategies, with w the weights, C and I the means of the right and
wrong submodels:
  1   w <- w - rate (w - C) + rate (w - I)        2   w <- w - rate (w - C)        3   w <- w + rate (w - I)
A missing set makes its difference 0. `plus` (Apricot+): 3 loops over shuffled cases, rate .0005, 3 further epochs. `lite`: one random right and one
random wrong submodel instead of means, rate .01, no further training. `proportional` weighs C and I by their shares (coinse/arachne's
re-implementation, with the sign of the paper). `sets` "random" and "swapped" are controls of the method's own idea.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.exam import logits_of, sit
from airepair.options import Space, option
from airepair.training import Best, Watch, fit
from airepair.types import Category, Split, Task

Names = tuple[str, ...]


@dataclass(frozen=True)
class Apricot:
    """Adjusts the weights by submodels, block by block, with roll-back on validation."""

    name: ClassVar[str] = "apricot"
    category: ClassVar[Category] = "direct weight modification"
    paper: ClassVar[str] = "Zhang and Chan, ASE 2019"

    submodels: int = option(20, "how many submodels", low=2, high=1000, source="authors' code")
    share: float = option(0.25, "part of train in a submodel's window", low=0.01, high=1.0, source="authors' code")
    submodel_epochs: int | None = option(None, "epochs of a submodel; none: 20 % of the subject's", low=1, source="authors' code")
    strategy: int = option(2, "1, 2 or 3", low=1, high=3, source="authors' code", tune=Space(choices=(1, 2, 3)))
    rate: float | None = option(
        None, "step of an adjustment; none: the variant's", low=0.0, source="authors' code", tune=Space(1e-4, 0.05, log=True)
    )
    block: int = option(20, "failing cases between two validations", low=1, source="authors' code", tune=Space(choices=(10, 20, 40)))
    further_epochs: int | None = option(None, "epochs of training after an improvement; none: the variant's", low=0, source="authors' code")
    variant: Literal["original", "plus", "lite"] = option("original", "the published variant", source="ASE 2019; TOSEM code")
    proportional: bool = option(False, "weigh both means by their shares of submodels", source="coinse/arachne")
    sets: Literal["given", "random", "swapped"] = option("given", "who counts as right: a control of the method's idea", source="control")

    def repair(self, task: Task) -> nn.Module:
        """The adjusted module."""
        if not len(task.failing):
            return task.module
        if not len(task.train):
            raise Unsupported("submodels need training data, and train is empty")
        cases, origin = failing_cases(task)
        task.note(f"apricot: {len(cases)} failing cases from {origin}")
        weights, names = self._submodels(task)
        right = torch.stack([self._right(task, weights[k], names, cases) for k in range(self.submodels)], 1)
        if self.sets != "given":
            right = _control(right, self.sets, task.generator(3))
        self._adjust(task, weights, names, right)
        return task.module

    def _submodels(self, task: Task) -> tuple[Tensor, Names]:
        """The submodels' weights as rows (K x P), trained on sliding windows of train."""
        start = task.checkpoints.get("early")
        if start is None:
            task.note("apricot: no early checkpoint; the submodels start from the subject's own weights")
            start = task.module
        epochs = self.submodel_epochs or max(1, round(0.2 * task.recipe.epochs))
        recipe, rows, names = replace(task.recipe, epochs=epochs), [], float_names(task.module)
        for k, window in enumerate(windows(len(task.train), self.submodels, self.share)):
            module = copy.deepcopy(start)
            data = Split(task.train.x[window], task.train.y[window])
            fit(module, data, None, recipe, task.generator(100 + k), phase="submodel")
            rows.append(flatten(module, names))
            task.progress("submodels", k + 1, self.submodels, 0.0)
        return torch.stack(rows), names

    def _right(self, task: Task, row: Tensor, names: Names, cases: Split) -> Tensor:
        module = copy.deepcopy(task.module)
        put(module, row, names)
        return logits_of(module, cases.x).argmax(1) == cases.y

    def _adjust(self, task: Task, weights: Tensor, names: Names, right: Tensor) -> None:
        """Blocks of cases, one affine combination each; kept if validation improves, rolled back otherwise."""
        best, generator = Best(task.module, task.validation), task.generator(1)
        rate = self.rate if self.rate is not None else {"original": 0.005, "plus": 0.0005, "lite": 0.01}[self.variant]
        further = self.further_epochs if self.further_epochs is not None else {"original": 20, "plus": 3, "lite": 0}[self.variant]
        loops = 3 if self.variant == "plus" else 1
        gained = [0.0, 0.0]
        kept, done, total = 0, 0, loops * -(-len(right) // self.block)
        for _ in range(loops):
            order = torch.randperm(len(right), generator=generator) if self.variant == "plus" else torch.arange(len(right))
            for part in order.split(self.block):
                done += 1
                before = best.key[0]
                chosen = _one_each(right[part.to(right.device)], generator) if self.variant == "lite" else right[part.to(right.device)]
                own, others = combination(chosen, self.strategy, rate, self.proportional)
                put(task.module, own * flatten(task.module, names) + others.to(weights) @ weights, names)
                if best.offer():
                    kept += 1
                    gained[0] += best.key[0] - before
                    if kept == 1:
                        task.keep("adjustment", task.module)
                    gained[1] += self._further(task, best, further, done) if further else 0.0
                else:
                    best.restore()
                task.progress("adjustment", done, total, -best.key[1])
        best.restore()
        task.module.eval()
        task.note(
            f"apricot: {kept} of {total} blocks improved validation; the adjustments gained {100 * gained[0]:.2f} points there, "
            f"the further training {100 * gained[1]:.2f}"
        )

    def _further(self, task: Task, best: Best, epochs: int, salt: int) -> float:
        """Trains on after an improvement; what that gained on validation."""
        before = best.key[0]
        recipe = replace(task.recipe, epochs=epochs)
        watch = Watch(progress=task.progress)
        fit(task.module, task.labelled, task.validation, recipe, task.generator(1000 + salt), phase="further training", watch=watch)
        best.offer()
        best.restore()
        return best.key[0] - before


def failing_cases(task: Task) -> tuple[Split, str]:
    """The cases to adjust for, and where they come from: train's own, or the repair split's where train has none."""
    wrong = ~sit(task.module, task.train).right.to(task.device)
    return (task.train.select(wrong), "train") if bool(wrong.any()) else (task.failing, "the repair split (train has none)")


def windows(n: int, count: int, share: float) -> list[slice]:
    """`count` sliding windows over n images: size n * share, step (n - size) / count."""
    size = max(2, min(n, round(n * share)))
    return [slice(round(k * (n - size) / count), round(k * (n - size) / count) + size) for k in range(count)]


def float_names(module: nn.Module) -> Names:
    """The floating-point parameters and buffers, batch-norm statistics included."""
    return tuple(k for k, v in module.state_dict().items() if v.is_floating_point())


def flatten(module: nn.Module, names: Names) -> Tensor:
    """Those tensors as one vector (P, double)."""
    state = module.state_dict()
    return torch.cat([state[k].detach().reshape(-1).double() for k in names])


@torch.no_grad()
def put(module: nn.Module, vector: Tensor, names: Names) -> None:
    """The vector back into the module; a running variance never falls below 0 (strategies 1 and 3 may leave the convex hull)."""
    state, start = module.state_dict(), 0
    for k in names:
        part = vector[start : start + state[k].numel()].reshape(state[k].shape)
        state[k].copy_(part.clamp_min(0) if k.endswith("running_var") else part)
        start += state[k].numel()


def combination(right: Tensor, strategy: int, rate: float, proportional: bool = False) -> tuple[float, Tensor]:
    """A block of cases as one affine combination: w <- own * w + others @ submodels.

    `right` (cases x K): 1 right, 0 wrong, -1 takes no part. The steps of the cases one after another, accumulated in K + 1 coefficients.
    """
    own, others = 1.0, torch.zeros(right.shape[1], dtype=torch.double)
    for case in right.cpu().to(torch.int8):
        good, bad = (case == 1).double(), (case == 0).double()
        shares = (float(good.sum()), float(bad.sum()))
        towards = rate if strategy in (1, 2) and shares[0] else 0.0
        away = rate if strategy in (1, 3) and shares[1] else 0.0
        if proportional:
            towards, away = (s * n / sum(shares) for s, n in zip((towards, away), shares, strict=True))
        factor = 1 - towards + away
        step = towards * good / max(1.0, shares[0]) - away * bad / max(1.0, shares[1])
        own, others = factor * own, factor * others + step
    return own, others


def _one_each(right: Tensor, generator: torch.Generator) -> Tensor:
    """Lite: per case one random right and one random wrong submodel take part."""
    chosen = torch.full(right.shape, -1, dtype=torch.int8)
    for row, case in zip(chosen, right.cpu(), strict=True):
        for value in (0, 1):
            members = (case == value).nonzero().flatten()
            if len(members):
                row[members[torch.randint(len(members), (1,), generator=generator)]] = value
    return chosen


def _control(right: Tensor, sets: str, generator: torch.Generator) -> Tensor:
    """Controls of the idea: right and wrong exchanged, or each case's answers dealt out at random."""
    if sets == "swapped":
        return ~right
    order = torch.rand(right.shape, generator=generator).argsort(1).to(right.device)
    return right.gather(1, order)
