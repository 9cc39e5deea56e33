"""finetune: plain fine-tuning, the control beside every method that trains.

Idea: more of the subject's own training, under cross-entropy. Whatever a method gains beyond it on
the same sources at the same number of images is due to its own idea. Beside a method that learns
from other sources than train and failing stands `finetune[failing+passing]` and the like: passing
images are learned with the answers that the subject gives (they are to stay), unlabelled ones with
its own predictions, and in an environment the training images a second time as they look there.

It trains to the largest budget that a method of its column declares, and hands in its state at
1/1024, 1/512, ..., 1/2 and 1 of it, so that every cheaper method finds a control within a factor of
two below it. Its learning rate is the best of five on validation, each at an eighth of the budget;
those images are reported apart ("selection"), as those on which a method's options were chosen are.

Changes all parameters and batch-norm statistics. Without failing inputs it changes nothing.
Defaults: SGD with Nesterov momentum .9, weight decay 1e-4 and batches of 128, the published recipe
of weighted regularisation (Zhong, Tian et al.).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from airepair.case import Source
from airepair.errors import UsageError
from airepair.methods.information import restricted
from airepair.options import Space, option
from airepair.training.best_state import choice_of
from airepair.training.fine_tuning import SHARES, FineTuning, train
from airepair.types import Category, Task

RECIPE = "weighted regularisation (Zhong, Tian et al.)"


@dataclass(frozen=True)
class Finetune:
    """Trains on what its sources give; returns the best state on validation."""

    name: ClassVar[str] = "finetune"
    category: ClassVar[Category] = "control"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "control"
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    matches_column: ClassVar[bool] = True  # the harness tells it the largest budget of its column

    lr: float | None = option(
        None,
        "learning rate of SGD; none: the best of five on validation",
        low=0.0,
        source="validation",
        tune=Space(1e-4, 0.3, log=True),
    )
    batch_size: int = option(
        128, "images per step", low=2, source=RECIPE, tune=Space(choices=(32, 64, 128, 256))
    )
    epochs: int | None = option(
        None,
        "passes over its images; none: to the largest budget of the column",
        low=1,
        source="budget: its column's",
    )
    weight_decay: float = option(
        1e-4, "weight decay", low=0.0, source=RECIPE, tune=Space(1e-6, 1e-2, log=True)
    )
    learn_from: tuple[Literal["train", "failing", "passing", "unlabelled", "pool", "environment"], ...] = (
        option(("train", "failing"), "sources of its images", source="form")
    )

    def __post_init__(self) -> None:
        if "failing" not in self.learn_from:
            raise UsageError(
                f"finetune.learn_from={','.join(self.learn_from)!r} lacks failing, "
                f"without which there is nothing to repair"
            )

    @property
    def sources(self) -> frozenset[Source]:
        """What it learns from."""
        return frozenset(self.learn_from)

    @property
    def _training(self) -> FineTuning:
        return FineTuning(self.lr, self.batch_size, self.epochs, self.weight_decay)

    def budget(self, task: Task) -> int:
        """Counts its passes over its images; those that choose the learning rate are counted apart."""
        return self._training.images(restricted(task, self.sources))

    def repair(self, task: Task) -> nn.Module:
        """Returns the fine-tuned module."""
        if not len(task.failing):
            return task.module
        task = restricted(task, self.sources)
        budget = self._training.images(task)
        marks = {f"1/{k} of the budget": budget // k for k in SHARES}
        train(task, self._training, choice_of(task), marks)
        return task.module
