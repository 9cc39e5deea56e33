"""Fine-tuning, as the controls do it: on what their sources give, to the largest declared budget of
the column, at a learning rate that validation chose. Shared by `finetune` and `interpolate`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from airepair.evaluation.exam import logits_of
from airepair.training.best_state import Best, Choice, Watch, choice_of, fit
from airepair.types import Recipe, Split, Task

RATES = (
    0.001,
    0.004,
    0.016,
    0.064,
    0.256,
)  # powers of four: from careful fine-tuning to the rates of training from scratch
PASSES = 60  # where no budget of a column is known: weighted regularisation's (Zhong, Tian et al.)
TRIAL = 8  # a learning rate is tried on an eighth of the budget
SHARES = tuple(
    2**k for k in range(10, 0, -1)
)  # a state is kept at 1/1024, 1/512, ..., 1/2 of the budget, and the last


@dataclass(frozen=True)
class FineTuning:
    """It runs SGD with Nesterov momentum.

    `lr` None: chosen on validation among RATES; `epochs` None: to the largest budget of the column.
    """

    lr: float | None
    batch_size: int
    epochs: int | None
    weight_decay: float

    def recipe(self, task: Task, data: Split) -> Recipe:
        """Returns the whole training as a recipe; its learning rate may still have to be chosen."""
        size, epochs = min(self.batch_size, max(2, len(data))), self.passes(task, len(data))
        recipe = Recipe(
            lr=self.lr or 0.0,
            batch_size=size,
            epochs=epochs,
            weight_decay=self.weight_decay,
            augment=task.recipe.augment,
        )
        return replace(recipe, momentum=0.9)

    def passes(self, task: Task, n: int) -> int:
        """Passes over n images: those that fit into the column's budget, but one at least."""
        known = [b for b in (task.column_budget, task.limit.images) if b is not None]
        if self.epochs is not None:
            return self.epochs
        if task.column_budget is None:
            return PASSES
        return max(1, min(known) // max(1, n))

    def images(self, task: Task) -> int:
        """Returns the images of the whole training, with those that choose the learning rate where they
        count as training.
        """
        n = sum(
            len(part)
            for part in (task.train, task.failing, task.passing, task.pool, fresh(task))
            if part is not None
        )
        n += len(task.train) if task.environment is not None else 0
        epochs = self.passes(task, n)
        trials = (
            len(RATES) * trial_epochs(epochs) * trial_images(n, epochs)
            if self.lr is None and not apart(task)
            else 0
        )
        return n * epochs + trials


def taught(task: Task) -> Split:
    """Returns all images of the task with what is learned from them.

    Train, pool and failing with their labels; the training images once more under the environment;
    passing images with the subject's own answers, which are to stay; unlabelled ones with its own
    predictions, but for those that are already there as failing or passing.
    """
    parts = [
        Split(s.images(), s.y) for s in (task.train, task.pool, task.failing) if s is not None and len(s)
    ]
    if task.environment is not None and len(task.train):
        changed = [task.environment(x, task.generator(31)) for x, _ in task.train.batches(1024)]
        parts.append(Split(torch.cat(changed), task.train.y))
    answered = [x for x in (task.passing.images(), fresh(task)) if len(x)]
    parts += [Split(x, logits_of(task.module, x).argmax(1)) for x in answered]
    return Split(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]))


def fresh(task: Task) -> Tensor:
    """Returns the unlabelled images (N x C x H x W) that are, bit for bit, no failing and no
    passing ones.
    """
    seen = {x.numpy().tobytes() for part in (task.failing, task.passing) for x in part.images().cpu()}
    keep = torch.tensor([x.numpy().tobytes() not in seen for x in task.unlabelled.cpu()], dtype=torch.bool)
    return task.unlabelled[keep.to(task.device)]


def apart(task: Task) -> bool:
    """Returns whether the images that choose the learning rate are counted apart: for the control
    of a column. As a step of a combination it trains on all of them.
    """
    return task.column_budget is not None


def trial_epochs(epochs: int) -> int:
    """Passes of an eighth of the budget: one where that is less."""
    return max(1, epochs // TRIAL)


def trial_images(n: int, epochs: int) -> int:
    """Returns, of n images, those that a trial passes over: all, or so many that its one pass is an
    eighth of the budget.
    """
    return n if epochs >= TRIAL else max(1, n * epochs // TRIAL)


def chosen(task: Task, data: Split, recipe: Recipe, given: float | None) -> Recipe:
    """Returns the recipe with its learning rate: the given one, or that of RATES whose training on
    an eighth of the budget is best on validation.

    Ties go to the lower loss, then to the lower rate.
    """
    if given is not None:
        return recipe
    short = replace(recipe, epochs=trial_epochs(recipe.epochs))
    some = torch.randperm(len(data), generator=task.generator(33))[: trial_images(len(data), recipe.epochs)]
    data = data if len(some) == len(data) else data.select(some.to(data.y.device))
    standings: dict[float, tuple[float, float]] = {}
    choice = choice_of(task)
    with task.meter.choosing() if apart(task) else nullcontext():
        for number, rate in enumerate(RATES, 1):
            module = copy.deepcopy(task.module)
            fit(
                module,
                data,
                choice,
                replace(short, lr=rate),
                task.generator(30),
                phase="choosing the learning rate",
            )
            standings[rate] = Best(module, choice).key
            task.progress("choosing the learning rate", number, len(RATES), 1 - standings[rate][0])
    best = max(RATES, key=lambda rate: standings[rate])
    found = ", ".join(f"{rate:g}: {100 * standings[rate][0]:.2f}" for rate in RATES)
    share = (
        f"{short.epochs} of {recipe.epochs} epochs"
        if recipe.epochs >= TRIAL
        else f"an eighth of {recipe.epochs} epochs"
    )
    task.note(f"learning rate {best:g}, by {choice.words} after {share} ({found} %)")
    return replace(recipe, lr=best)


def train(
    task: Task, training: FineTuning, choice: Choice | None, marks: Mapping[str, int] | None = None
) -> None:
    """Trains the task's module in place (fine-tuning); the best state by `choice` remains, without
    it the last.
    """
    data = taught(task)
    recipe = chosen(task, data, training.recipe(task, data), training.lr)
    watch = Watch(progress=task.progress, keep=task.keep, marks=marks or {})
    fit(task.module, data, choice, recipe, task.generator(), phase="fine-tuning", watch=watch)
