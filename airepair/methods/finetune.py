"""finetune: plain fine-tuning, the control beside every method that trains.

Idea: more of the subject's own training on what every method may learn from with labels (train and the failing inputs), under cross-entropy.
Whatever a method gains beyond it at the same number of images is due to its own idea. It hands in its state at 1/8, 1/4 and 1/2 of its
budget, so that a cheaper method finds a control of its own size (protocol: "Budget").

Changes all parameters and batch-norm statistics. Without failing inputs it changes nothing. Defaults: SGD with Nesterov momentum .9 and weight
decay 1e-4 as in the weighted-regularisation recipe (methods.md 2b), lr .01 (good on other seeds of digits, protocol "Digits").
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from airepair.options import Space, option
from airepair.training import Watch, fit
from airepair.types import Category, Recipe, Task


@dataclass(frozen=True)
class Finetune:
    """Trains on train and failing; returns the best state on validation."""

    name: ClassVar[str] = "finetune"
    category: ClassVar[Category] = "control"
    paper: ClassVar[str] = "control"

    lr: float = option(0.01, "learning rate of SGD", low=0.0, source="protocol", tune=Space(1e-4, 0.3, log=True))
    batch_size: int = option(128, "images a step", low=2, source="methods.md 2b", tune=Space(choices=(32, 64, 128, 256)))
    epochs: int = option(60, "passes over train and failing", low=1, source="methods.md 2b")
    weight_decay: float = option(1e-4, "weight decay", low=0.0, source="methods.md 2b", tune=Space(1e-6, 1e-2, log=True))

    def repair(self, task: Task) -> nn.Module:
        """The fine-tuned module."""
        if not len(task.failing):
            return task.module
        data = task.labelled
        recipe = Recipe(
            lr=self.lr, batch_size=self.batch_size, epochs=self.epochs, weight_decay=self.weight_decay, augment=task.recipe.augment
        )
        budget = len(data) * self.epochs
        marks = {f"1/{k} of the budget": budget // k for k in (8, 4, 2)}
        fit(
            task.module,
            data,
            task.validation,
            replace(recipe, momentum=0.9),
            task.generator(),
            phase="fine-tuning",
            watch=Watch(progress=task.progress, keep=task.keep, marks=marks),
        )
        return task.module
