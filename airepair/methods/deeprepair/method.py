"""deeprepair: weighted regularisation (WR) of Zhong, Tian and others, which is what AIREPAIR runs
under the name DeepRepair.

(The paper that AIREPAIR cites, style-guided DeepRepair by Yu et al. 2021, is `deeprepair_style`.)
Idea: the model confuses two classes, `first` and `second`, or is biased: it confuses `first` with
`second` far more than with `third`. Training is weighted towards these classes, by one of five
forms (`variant`), each for both targets (`target`; a given `third` means bias):

- w-bn: in each step a second batch of the target classes only passes through; in the last 3
  batch-norm layers the running statistics follow ratio * normal + (1 - ratio) * target. The target
  half never reaches the loss, so the weights equal plain fine-tuning's and only those statistics
  differ: that is the published form. `both_halves` adds its cross-entropy, as AIREPAIR's patch does.
- w-aug: images of the target classes are drawn with weight 1, others with `weight`.
- w-loss: (1 - t) CE + t L, t = `target_weight`, L the mean over the directions present of CE on
  images of one class predicted as the other; bias: the mean over the pairs (first, second) and
  (first, third). (The published bias script has t the other way round.)
- w-dbr: lam * CE - (1 - lam) * d(first, second), with d the L2 distance between the mean softmax of
  one class and that of the other; bias: lam * CE + (1 - lam) * |d(first, second) - d(first, third)|.
  (The published bias script computes that difference and then subtracts another variable; its
  scripts also add ten images of the target classes to each batch.)
- w-os: no training; it multiplies the softmax of the target classes by `eta`, which adds log(eta) to
  their biases of the last layer. It cannot turn one class of the pair into the other; it moves mass
  out of the pair.

Bias is |conf(first, second) - conf(first, third)|, conf the mean over both directions of
P(predicted b | true a); w-bn, w-aug and w-os take all three as target classes.

Changes all weights (w-os: two or three biases). Refuses a model without batch norm for w-bn, and
`lam` 0 with w-dbr (no cross-entropy is left). Defaults are the paper's flags: batch 128, lr .1, lam
0, extra 128, epoch 60, beta 1, cutmix_prob 0, ratio .9. Unless given the pair is the most confused
one of the failing inputs, the three classes of a bias are those of the largest one on the repair
split, ties to the lower ids. The published codes keep the best state on test; here it is
validation's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import logits_of
from airepair.host.arithmetic.exact import logarithm
from airepair.methods.deeprepair.batch_norm import TargetHalf, norms
from airepair.methods.deeprepair.cutmix import Criterion, cutmix
from airepair.methods.deeprepair.losses import confused_loss, distance_loss
from airepair.methods.deeprepair.targets import biased_three, confused_pair
from airepair.options import Space, option
from airepair.training.best_state import Loss, Watch, choice_of, fit
from airepair.training.step import augmentation
from airepair.types import Category, Recipe, Source, Split, Task


@dataclass(frozen=True)
class DeepRepair:
    """It retrains with weighted regularisation and is meant to separate two confused classes."""

    name: ClassVar[str] = "deeprepair"
    category: ClassVar[Category] = "retraining"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "Zhong, Tian et al., weighted regularisation; run by AIREPAIR as DeepRepair"
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "unweighted": {
            "ratio": 1.0,
            "weight": 1.0,
            "target_weight": 0.0,
            "lam": 1.0,
            "both_halves": False,
        },  # in each form its own weight is off; w-os, which is nothing else, is refused
    }

    variant: Literal["w-bn", "w-aug", "w-loss", "w-dbr", "w-os"] = option(
        "w-bn", "the form of weighting", source="AIREPAIR's flags"
    )
    first: int | None = option(None, "class id of the pair; none: the most confused", low=0, source="WR")
    second: int | None = option(None, "class id of the pair; none: the most confused", low=0, source="WR")
    third: int | None = option(
        None, "third target class, of a bias; none: found if target is bias", low=0, source="WR"
    )
    target: Literal["confusion", "bias"] = option(
        "confusion", "the kind of error; giving a third class means bias", source="WR"
    )
    lr: float = option(
        0.1, "learning rate of SGD", low=0.0, source="AIREPAIR II-C", tune=Space(1e-4, 0.3, log=True)
    )
    batch_size: int = option(128, "images per step", low=2, source="AIREPAIR II-C")
    epoch: int = option(60, "passes over train and failing", low=1, source="AIREPAIR II-C")
    extra: int | None = option(
        None,
        "images of the target half; it follows the normal half's length, so only batch_size is accepted",
        source="WR",
    )
    ratio: float = option(
        0.9,
        "w-bn: weight of the normal half's statistics",
        low=0.0,
        high=1.0,
        source="AIREPAIR II-C",
        tune=Space(0.1, 1.0),
    )
    replace: bool = option(
        True, "w-bn: replace batch norm by the weighted one; without it nothing of w-bn is left", source="WR"
    )
    both_halves: bool = option(
        False, "w-bn: cross-entropy over both halves, as AIREPAIR's patch", source="AIREPAIR's patch"
    )
    weight: float = option(
        0.5, "w-aug: sampling weight of the other classes", low=1e-6, high=1.0, source="WR grid"
    )
    target_weight: float = option(
        0.5, "w-loss: weight of the confused images", low=0.0, high=1.0, source="WR grid"
    )
    eta: float = option(
        0.5, "w-os: factor of the target classes' softmax", low=1e-6, high=1.0, source="WR grid"
    )
    lam: float = option(
        0.0,
        "w-dbr: weight of cross-entropy; no effect in the other forms",
        low=0.0,
        high=1.0,
        source="AIREPAIR II-C",
    )
    beta: float = option(1.0, "CutMix: parameter of the Beta distribution", low=1e-6, source="AIREPAIR II-C")
    cutmix_prob: float = option(
        0.0, "CutMix: probability of a batch; 0 is off", low=0.0, high=1.0, source="AIREPAIR II-C"
    )

    @property
    def sources(self) -> frozenset[Source]:
        """Returns train and failing, and to find the classes of a bias also passing."""
        return frozenset(("train", "failing", "passing") if self._biased else ("train", "failing"))

    @property
    def _biased(self) -> bool:
        return self.target == "bias" or self.third is not None

    @property
    def _unweighted(self) -> bool:
        return all(getattr(self, name) == off for name, off in self.ablations["unweighted"].items())

    def budget(self, task: Task) -> int:
        """The passes over train and failing, twice where both halves of a step are trained on;
        nothing for w-os.
        """
        self._check(task)
        if self.variant == "w-os":
            return 0
        return self.epoch * len(task.labelled) * (2 if self.variant == "w-bn" and self.both_halves else 1)

    def repair(self, task: Task) -> nn.Module:
        """Returns the repaired module."""
        self._check(task)
        if not len(task.failing):
            return task.module
        targets = self._targets(task)
        task.note(f"deeprepair: {self.variant} on the classes {', '.join(task.classes[c] for c in targets)}")
        if self.variant == "w-os":
            return scaled_outputs(task, targets, self.eta)
        data = task.labelled
        member = torch.isin(data.y, torch.tensor(targets, device=data.y.device))
        weights = torch.where(member, 1.0, self.weight).cpu().double() if self.variant == "w-aug" else None
        recipe = Recipe(
            lr=self.lr, batch_size=self.batch_size, epochs=self.epoch, augment=task.recipe.augment
        )
        watch = Watch(progress=task.progress)
        with self._loss(task, data.select(member.nonzero().flatten()), targets) as loss:
            fit(
                task.module,
                data,
                choice_of(task),
                recipe,
                task.generator(),
                phase=self.variant,
                loss=loss,
                weights=weights,
                watch=watch,
            )
        return task.module

    def _check(self, task: Task) -> None:
        """Raises UsageError for options that exclude each other or name no class; Unsupported for a model
        that the form cannot take.
        """
        if self.variant == "w-dbr" and self.lam == 0:
            raise UsageError(
                "deeprepair.lam=0.0 with w-dbr leaves no cross-entropy; accepted: above 0, up to 1"
            )
        if self.variant == "w-bn" and not self.replace:
            raise UsageError(
                "deeprepair.replace=false with w-bn is plain fine-tuning; accepted: true, "
                "or the method finetune"
            )
        if self.extra not in (None, self.batch_size):
            raise UsageError(
                f"deeprepair.extra={self.extra} differs from batch_size={self.batch_size}; accepted: "
                f"the same number"
            )
        for label, value in (("first", self.first), ("second", self.second), ("third", self.third)):
            if value is not None and value >= len(task.classes):
                raise UsageError(
                    f"deeprepair.{label}={value} is not a class; accepted: 0..{len(task.classes) - 1}"
                )
        given = [c for c in (self.first, self.second, self.third) if c is not None]
        if len(set(given)) < len(given):
            raise UsageError(
                f"deeprepair.first, second, third={', '.join(map(str, given))} name a class twice; "
                f"accepted: different classes"
            )
        if self.variant == "w-os" and self._unweighted:
            raise Unsupported(
                "w-os is its weighting alone: without it the model comes back as it was, as from noop"
            )
        if self.variant == "w-bn" and not norms(task.module):
            raise Unsupported(
                "w-bn needs batch norm and this model has none; w-aug, w-loss, w-dbr and w-os would run"
            )

    def _targets(self, task: Task) -> tuple[int, ...]:
        """The two classes of a confusion or the three of a bias."""
        if self._biased:
            return biased_three(task, (self.first, self.second, self.third))
        return confused_pair(task, self.first, self.second)

    @contextmanager
    def _loss(self, task: Task, images: Split, targets: tuple[int, ...]) -> Iterator[Loss]:
        """The variant's loss, with the target classes' images; w-bn's hooks come off at the end."""
        loss = cutmix(self._criterion(targets), self.beta, self.cutmix_prob, task.generator(7))
        if self.variant != "w-bn":
            yield loss
            return
        if not len(images):
            raise Unsupported(f"no labelled image of the classes {', '.join(map(str, targets))}")
        change = augmentation(task.recipe.augment)
        half = TargetHalf(task.module, images, self.ratio, self.both_halves, change, task.generator(11))
        try:
            yield half.after(loss)
        finally:
            half.remove()

    def _criterion(self, targets: tuple[int, ...]) -> Criterion:
        if self.variant == "w-loss":
            return lambda logits, y: confused_loss(logits, y, targets, self.target_weight)
        if self.variant == "w-dbr":
            return lambda logits, y: distance_loss(logits, y, targets, self.lam)
        return nn.functional.cross_entropy


def scaled_outputs(task: Task, targets: tuple[int, ...], eta: float) -> nn.Module:
    """Returns a copy with w-os: log(eta) on the target classes' biases of the last linear layer;
    Unsupported if that is not what makes the logits.
    """
    module, k = copy.deepcopy(task.module), len(task.classes)
    last = next(
        (m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear) and m.out_features == k),
        None,
    )
    if last is None or last.bias is None:
        raise Unsupported("w-os needs a last linear layer with a bias, one output per class")
    with torch.no_grad():
        last.bias[list(targets)] += logarithm(eta)
    some = task.validation.images(slice(0, 64))
    wanted: Tensor = logits_of(task.module, some)
    wanted[:, list(targets)] += logarithm(eta)
    if not torch.allclose(logits_of(module, some).softmax(1), wanted.softmax(1), atol=1e-4):
        raise Unsupported("w-os: the last linear layer's outputs are not this model's logits")
    return module
