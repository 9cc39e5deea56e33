"""deeprepair: weighted regularisation (WR) of Zhong, Tian and others, which is what AIREPAIR runs under the name DeepRepair.

(The paper that AIREPAIR cites, style-guided DeepRepair by Yu et al. 2021, is another method.) Idea: the model confuses two classes, `first` and
`second`; training is weighted towards telling them apart, by one of five forms (`variant`):

w-bn    each step a second batch of the target classes only passes through; in the last 3 batch-norm layers the running statistics follow
        ratio * normal + (1 - ratio) * target. The target half never reaches the loss, so the weights equal plain fine-tuning's and only
        those statistics differ: that is the published form. `both_halves` adds its cross-entropy, as AIREPAIR's patch does.
w-aug   images of the target classes are drawn with weight 1, others with `weight`.
w-loss  (1 - t) CE + t L, t = `target_weight`, L the mean over the directions present of CE on images of one class predicted as the other.
w-dbr   lam * CE - (1 - lam) * || mean softmax of first - mean softmax of second ||_2; with `third` the bias form, + (1 - lam) |d(1,3) - d(2,3)|.
w-os    no training: multiplies the softmax of both classes by `eta`, which is log(eta) on two biases of the last layer. It cannot turn one
        class into the other; it moves mass out of the pair.

Changes all weights (w-os: two biases). Refuses a model without batch norm for w-bn, and `lam` 0 with w-dbr (no cross-entropy is left).
Defaults are the paper's flags: batch 128, lr .1, lam 0, extra 128, epoch 60, beta 1, cutmix_prob 0, ratio .9. The pair is the most confused one of
the failing inputs unless given, ties to the lower ids. The published codes keep the best state on test; here it is validation's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported, UsageError
from airepair.exam import most_confused, sit
from airepair.options import Space, option
from airepair.training import Loss, Watch, cross_entropy, fit
from airepair.types import Category, Recipe, Split, Task

LAST_LAYERS = 3  # batch-norm layers whose running statistics take part of the target half's (methods.md 2b)


@dataclass(frozen=True)
class DeepRepair:
    """Weighted regularisation towards telling two confused classes apart."""

    name: ClassVar[str] = "deeprepair"
    category: ClassVar[Category] = "retraining"
    paper: ClassVar[str] = "Zhong, Tian et al., weighted regularisation; run by AIREPAIR as DeepRepair"

    variant: Literal["w-bn", "w-aug", "w-loss", "w-dbr", "w-os"] = option("w-bn", "the form of weighting", source="AIREPAIR's flags")
    first: int | None = option(None, "class id of the pair; none: the most confused", low=0, source="WR")
    second: int | None = option(None, "class id of the pair; none: the most confused", low=0, source="WR")
    third: int | None = option(None, "class id that makes w-dbr its bias form", low=0, source="WR")
    lr: float = option(0.1, "learning rate of SGD", low=0.0, source="AIREPAIR II-C", tune=Space(1e-4, 0.3, log=True))
    batch_size: int = option(128, "images a step", low=2, source="AIREPAIR II-C")
    epoch: int = option(60, "passes over train and failing", low=1, source="AIREPAIR II-C")
    extra: int | None = option(
        None, "images of the target half; it follows the normal half's length, so only batch_size is accepted", source="WR"
    )
    ratio: float = option(
        0.9, "w-bn: weight of the normal half's statistics", low=0.0, high=1.0, source="AIREPAIR II-C", tune=Space(0.1, 1.0)
    )
    both_halves: bool = option(False, "w-bn: cross-entropy over both halves, as AIREPAIR's patch", source="AIREPAIR's patch")
    weight: float = option(0.5, "w-aug: sampling weight of the other classes", low=1e-6, high=1.0, source="WR grid")
    target_weight: float = option(0.5, "w-loss: weight of the confused images", low=0.0, high=1.0, source="WR grid")
    eta: float = option(0.5, "w-os: factor of both classes' softmax", low=1e-6, high=1.0, source="WR grid")
    lam: float = option(0.0, "w-dbr: weight of cross-entropy; no effect in the other forms", low=0.0, high=1.0, source="AIREPAIR II-C")
    beta: float = option(1.0, "CutMix: parameter of the Beta distribution", low=1e-6, source="AIREPAIR II-C")
    cutmix_prob: float = option(0.0, "CutMix: probability of a batch; 0 is off", low=0.0, high=1.0, source="AIREPAIR II-C")

    def repair(self, task: Task) -> nn.Module:
        """The repaired module."""
        self._check(task)
        if not len(task.failing):
            return task.module
        pair = self._pair(task)
        task.note(f"deeprepair: {self.variant} on the classes {task.classes[pair[0]]} and {task.classes[pair[1]]}")
        if self.variant == "w-os":
            return scale_outputs(task.module, pair, self.eta, len(task.classes))
        data = task.labelled
        in_pair = (data.y == pair[0]) | (data.y == pair[1])
        weights = torch.where(in_pair, 1.0, self.weight).cpu().double() if self.variant == "w-aug" else None
        recipe = Recipe(lr=self.lr, batch_size=self.batch_size, epochs=self.epoch, augment=task.recipe.augment)
        with self._loss(task, data, pair) as loss:
            fit(
                task.module,
                data,
                task.validation,
                recipe,
                task.generator(),
                phase=self.variant,
                loss=self._cutmix(loss, task.generator(7)),
                weights=weights,
                watch=Watch(progress=task.progress),
            )
        return task.module

    def _check(self, task: Task) -> None:
        """UsageError for options that exclude each other or name no class; Unsupported for a model that the form cannot take."""
        if self.variant == "w-dbr" and self.lam == 0:
            raise UsageError("deeprepair.lam=0.0 with w-dbr leaves no cross-entropy; accepted: above 0, up to 1")
        if self.extra not in (None, self.batch_size):
            raise UsageError(f"deeprepair.extra={self.extra} differs from batch_size={self.batch_size}; accepted: the same number")
        for label, value in (("first", self.first), ("second", self.second), ("third", self.third)):
            if value is not None and value >= len(task.classes):
                raise UsageError(f"deeprepair.{label}={value} is no class; accepted: 0..{len(task.classes) - 1}")
        if self.variant == "w-bn" and not norms(task.module):
            raise Unsupported("w-bn needs batch norm and this model has none; w-aug, w-loss, w-dbr and w-os would run")

    def _pair(self, task: Task) -> tuple[int, int]:
        if self.first is not None and self.second is not None:
            return self.first, self.second
        found = most_confused(sit(task.module, task.failing), len(task.classes))
        if found is None:
            raise Unsupported("no two classes are confused among the failing inputs; name them with first and second")
        return found

    @contextmanager
    def _loss(self, task: Task, data: Split, pair: tuple[int, int]) -> Iterator[Loss]:
        """The variant's loss; w-bn's hooks come off at the end."""
        if self.variant == "w-bn":
            members = ((data.y == pair[0]) | (data.y == pair[1])).nonzero().flatten()
            if not len(members):
                raise Unsupported(f"no labelled image of the classes {pair[0]} and {pair[1]}")
            halves = TargetHalf(task.module, data.select(members), self.ratio, self.both_halves, task.generator(11))
            try:
                yield halves.loss
            finally:
                halves.remove()
        elif self.variant == "w-loss":
            yield lambda module, x, y: confused_loss(module(x), y, pair, self.target_weight)
        elif self.variant == "w-dbr":
            yield lambda module, x, y: distance_loss(module(x), y, (*pair, self.third), self.lam)
        else:
            yield cross_entropy

    def _cutmix(self, loss: Loss, generator: torch.Generator) -> Loss:
        """The loss on CutMix batches with probability `cutmix_prob` (Yun et al. 2019): both labels, weighted by area."""
        if self.cutmix_prob == 0:
            return loss

        def mixed(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            if float(torch.rand((), generator=generator)) >= self.cutmix_prob:
                return loss(module, x, y)
            order = torch.randperm(len(y), generator=generator).to(y.device)
            share = float(torch._sample_dirichlet(torch.tensor([[self.beta, self.beta]]), generator)[0, 0])
            image, kept = cut_and_paste(x, x[order], share, generator)
            return kept * loss(module, image, y) + (1 - kept) * loss(module, image, y[order])

        return mixed


def cut_and_paste(x: Tensor, other: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """x with one rectangle of about (1 - share) of its area from `other`, and the share of x that is left."""
    height, width = x.shape[2:]
    side = math.sqrt(1 - share)
    cy, cx = (int(torch.randint(n, (), generator=generator)) for n in (height, width))
    y0, y1 = (max(0, min(height, cy + int(s * side * height / 2))) for s in (-1, 1))
    x0, x1 = (max(0, min(width, cx + int(s * side * width / 2))) for s in (-1, 1))
    image = x.clone()
    image[:, :, y0:y1, x0:x1] = other[:, :, y0:y1, x0:x1]
    return image, 1 - (y1 - y0) * (x1 - x0) / (height * width)


def norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch-norm layers with running statistics, in the order of definition."""
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per channel: mean, biased variance (to normalise with), unbiased variance (that running statistics take)."""
    dims = [d for d in range(x.ndim) if d != 1]
    variance, mean = torch.var_mean(x, dims, correction=0)
    n = x.numel() // x.shape[1]
    return mean, variance, variance * n / max(1, n - 1)


class TargetHalf:
    """w-bn's second half of a step: passes through with the normal half's statistics, and leaves its own in the last layers' running ones."""

    def __init__(self, module: nn.Module, targets: Split, ratio: float, both: bool, generator: torch.Generator) -> None:
        self.targets, self.ratio, self.both, self.generator = targets, ratio, both, generator
        self.layers = norms(module)
        self.last = set(self.layers[-LAST_LAYERS:])
        self.normal: dict[nn.Module, tuple[Tensor, Tensor, Tensor]] = {}
        self.second = False
        self.hooks = [layer.register_forward_hook(self._hook) for layer in self.layers]

    def remove(self) -> None:
        """Takes the hooks off: the module's interface is as before."""
        for hook in self.hooks:
            hook.remove()

    def _hook(self, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        x = args[0]
        if not self.second:
            if layer.training:
                self.normal[layer] = tuple(m.detach() for m in moments(x))  # type: ignore[assignment]
            return None
        mean, variance, unbiased = self.normal[layer]
        if layer in self.last:
            self._mix(layer, mean, unbiased, x.detach())
        return nn.functional.batch_norm(x, mean, variance, layer.weight, layer.bias, False, 0.0, layer.eps)

    @torch.no_grad()
    def _mix(self, layer: nn.modules.batchnorm._BatchNorm, mean: Tensor, unbiased: Tensor, x: Tensor) -> None:
        """The layer took momentum * normal; its due is momentum * (ratio * normal + (1 - ratio) * target)."""
        assert layer.running_mean is not None
        assert layer.running_var is not None
        target_mean, _, target_variance = moments(x)
        momentum = layer.momentum if layer.momentum is not None else 1.0 / max(1, int(layer.num_batches_tracked or 1))
        # New tensors: autograd keeps the old ones for the normal half's backward pass.
        layer.running_mean = layer.running_mean + momentum * (1 - self.ratio) * (target_mean - mean)
        layer.running_var = layer.running_var + momentum * (1 - self.ratio) * (target_variance - unbiased)

    def loss(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of the normal half (of both with `both`), after the target half has passed through."""
        value = nn.functional.cross_entropy(module(x), y)
        index = torch.randint(len(self.targets), (len(y),), generator=self.generator).to(y.device)
        self.second = True
        for layer in self.layers:
            layer.eval()
        try:
            with torch.set_grad_enabled(self.both):
                logits = module(self.targets.images(index))
        finally:
            self.second = False
            for layer in self.layers:
                layer.train()
        return (value + nn.functional.cross_entropy(logits, self.targets.y[index])) / 2 if self.both else value


def confused_loss(logits: Tensor, y: Tensor, pair: tuple[int, int], weight: float) -> Tensor:
    """w-loss: (1 - t) CE + t L; a direction that is absent leaves the other's mean, both absent plain cross-entropy."""
    each, guess = nn.functional.cross_entropy(logits, y, reduction="none"), logits.argmax(1)
    directions = [(y == a) & (guess == b) for a, b in (pair, pair[::-1])]
    present = [each[d].mean() for d in directions if bool(d.any())]
    return (1 - weight) * each.mean() + weight * torch.stack(present).mean() if present else each.mean()


def distance_loss(logits: Tensor, y: Tensor, classes: tuple[int, int, int | None], lam: float) -> Tensor:
    """w-dbr: lam CE - (1 - lam) d(first, second); with a third class + (1 - lam) |d(first, third) - d(second, third)| instead."""
    entropy, p = nn.functional.cross_entropy(logits, y), logits.softmax(1)
    centres = [p[y == c].mean(0) if c is not None and bool((y == c).any()) else None for c in classes]

    def distance(i: int, j: int) -> Tensor | None:
        a, b = centres[i], centres[j]
        return None if a is None or b is None else (a - b).norm()

    if classes[2] is None:
        d = distance(0, 1)
        return entropy if d is None else lam * entropy - (1 - lam) * d
    d1, d2 = distance(0, 2), distance(1, 2)
    return entropy if d1 is None or d2 is None else lam * entropy + (1 - lam) * (d1 - d2).abs()


@torch.no_grad()
def scale_outputs(module: nn.Module, pair: tuple[int, int], eta: float, classes: int) -> nn.Module:
    """w-os: log(eta) on the biases of both classes in the last linear layer."""
    last = next((m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear) and m.out_features == classes), None)
    if last is None or last.bias is None:
        raise Unsupported("w-os needs a last linear layer with a bias, one output a class")
    last.bias[list(pair)] += math.log(eta)
    return module
