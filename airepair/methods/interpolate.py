"""interpolate: a weight between the subject's and a fine-tuned one, the share chosen on validation.
The control beside retraining methods.

Idea (Ilharco et al., Patching open-vocabulary models by interpolating weights, PAINT, NeurIPS 2022;
Wortsman et al., Robust fine-tuning of zero-shot models, WiSE-FT, CVPR 2022): on the straight line
from a network to its fine-tuned self the old answers get lost later than the new ones come. So the
network is fine-tuned as `finetune` does it, to the last state, and of the points on the line the
one with the best validation accuracy remains, ties by validation loss, the subject included.

Changes all parameters and batch-norm statistics (they move with the weights; integer buffers stay).
Without failing inputs it changes nothing. Defaults: those of `finetune`; 20 steps, PAINT's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from airepair.case import Source
from airepair.methods.information import restricted
from airepair.options import Space, option
from airepair.training.best_state import Best, State, choice_of, snapshot
from airepair.training.fine_tuning import FineTuning, train
from airepair.types import Category, Task

RECIPE = "as finetune"


@dataclass(frozen=True)
class Interpolate:
    """Fine-tunes and goes back as far as validation says."""

    name: ClassVar[str] = "interpolate"
    category: ClassVar[Category] = "control"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "control (Ilharco et al., NeurIPS 2022; Wortsman et al., CVPR 2022)"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    matches_column: ClassVar[bool] = True  # the harness tells it the largest budget of its column

    lr: float | None = option(
        None,
        "learning rate of SGD; none: the best of five on validation",
        low=0.0,
        source=RECIPE,
        tune=Space(1e-4, 0.3, log=True),
    )
    batch_size: int = option(
        128, "images per step", low=2, source=RECIPE, tune=Space(choices=(32, 64, 128, 256))
    )
    epochs: int | None = option(
        None, "passes over its images; none: to the largest budget of the column", low=1, source=RECIPE
    )
    weight_decay: float = option(
        1e-4, "weight decay", low=0.0, source=RECIPE, tune=Space(1e-6, 1e-2, log=True)
    )
    steps: int = option(20, "points on the line, the subject's own left out", low=1, source="PAINT")

    @property
    def _training(self) -> FineTuning:
        return FineTuning(self.lr, self.batch_size, self.epochs, self.weight_decay)

    def budget(self, task: Task) -> int:
        """Counts its passes over its images; those that choose the learning rate are counted apart."""
        return self._training.images(restricted(task, self.sources))

    def repair(self, task: Task) -> nn.Module:
        """Returns the module at the best point of the line."""
        if not len(task.failing):
            return task.module
        task = restricted(task, self.sources)
        module, start = task.module, snapshot(task.module)
        train(task, self._training, None)
        end = snapshot(module)
        module.load_state_dict(start)
        best, share = Best(module, choice_of(task)), 0.0
        for number in range(1, self.steps + 1):
            module.load_state_dict(between(start, end, number / self.steps))
            if best.offer():
                share = number / self.steps
        best.restore()
        task.note(f"{100 * share:g} % of the way from the subject to the fine-tuned weights, by validation")
        return module


def between(start: State, end: State, share: float) -> State:
    """Returns the state at that share of the way; integer buffers are those of the start."""
    return {k: v.lerp(end[k], share) if v.is_floating_point() else v for k, v in start.items()}
