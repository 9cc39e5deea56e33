"""mode: state differential analysis and input selection (Ma et al., MODE, ESEC/FSE 2018).

Idea: at the layer where the network's features have become good enough, compare for each buggy
label the mean feature vectors (heat maps) of inputs it gets right with those of other labels and of
its mistakes; the difference says which new inputs teach it what it lacks.

1. Layer: a fresh softmax layer on the features of each layer; the first layer whose successor gains
   less than `saturation` on validation.
2. Bugs: a label is over-fit if its accuracy on train exceeds that on validation by `overfit`, else
   under-fit if the latter is below `underfit`.
3. Heat maps on train: HCI (right), HMI (taken for the label), HWI (of the label, missed); DHCI_i =
   mean over k of HCI_i - HCI_k, DHMI_i = HMI_i - HCI_i, DHWI_i = HWI_i - HCI_i.
4. Selection from the pool by <features, differential map>. `map=dhci`: inputs of the label, the
   most similar where under-fit, the least similar where over-fit (diversity); `dhwi`: inputs of the
   label that look most like missed ones; `dhmi`: inputs of other labels that look most like those
   taken for it.
5. Retraining on train, failing and the selection, mixed with random pool inputs; repeat until no
   label is buggy or the rounds end.

Bugs are looked for first: if there are none nothing is trained. A softmax layer learns from
stored features, which costs a small part of a training image's work; it is billed as what it is
worth in such images.

The features of a layer are the inputs of the next weighted layer, pooled over space to at most 1024
numbers. If the subject has no pool, train and failing serve as the pool (the selected then count
twice) and a note says so. Changes all parameters and batch-norm statistics. Refuses a task without
training data or a network without hidden layer. Control: `ratio=0` selects at random.

Defaults: the thresholds .90 and .10 are those of a replication (github.com/fabriceyhc/mode_nn_debugging; the
authors published no code). What nobody published is open until it is tuned on validation; probes, rounds and
epochs limit the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import evaluating, sit
from airepair.evaluation.work import step_work
from airepair.models.layers import runs, weighted
from airepair.options import Space, option
from airepair.search.sampling import drawn
from airepair.training.best_state import Watch, choice_of, cross_entropy, fit, optimizer_of
from airepair.training.loop import Course, passes
from airepair.training.step import Stepper, none
from airepair.types import Category, Recipe, Source, Split, Task

NO_TRAIN = "heat maps are made of training inputs, and there are none"
PROBE_STEPS = 60  # of a softmax layer


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """It holds the mean normalised features of each label (K x F; zeros if there is no such input):
    right, taken for it, missed.
    """

    hci: Tensor
    hmi: Tensor
    hwi: Tensor

    def difference(self, kind: str, label: int) -> Tensor:
        """Returns the differential heat map of a label (F)."""
        if kind == "dhci":
            others = torch.arange(len(self.hci), device=self.hci.device) != label
            return self.hci[label] - self.hci[others].mean(0)
        return (self.hmi if kind == "dhmi" else self.hwi)[label] - self.hci[label]


@dataclass(frozen=True)
class Mode:
    """Selects pool inputs by differential heat maps and retrains."""

    name: ClassVar[str] = "mode"
    category: ClassVar[Category] = "retraining"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "Ma, Liu, Lee, Zhang, Grama: MODE, ESEC/FSE 2018"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing", "pool"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_selection": {"ratio": 0.0}}

    map: Literal["dhci", "dhwi", "dhmi"] = option(
        "dhci", "the differential heat map that selects", source="ESEC/FSE 2018"
    )
    underfit: float = option(
        0.9, "validation accuracy below which a label is under-fit", low=0.0, high=1.0, source="replication"
    )
    overfit: float = option(
        0.1,
        "gap between train and validation above which a label is over-fit",
        low=0.0,
        high=1.0,
        source="replication",
    )
    saturation: float = option(
        0.01,
        "minimum gain of the next layer's softmax, on validation",
        low=0.0,
        source="open",
        tune=Space(1e-3, 0.1, log=True),
    )
    probes: int = option(
        2000, "training images that the softmax layers are trained on", low=2, source="budget"
    )
    selection: int = option(
        500,
        "pool inputs added in a round, selected and random",
        low=1,
        source="open",
        tune=Space(50, 5000, log=True),
    )
    ratio: float = option(
        0.75,
        "share of them that is selected; 0: all random",
        low=0.0,
        high=1.0,
        source="open",
        tune=Space(0.0, 1.0),
    )
    rounds: int = option(3, "rounds of selection and retraining", low=1, source="budget")
    epochs: int = option(20, "epochs of each retraining", low=1, source="budget")
    lr: float = option(0.01, "learning rate of SGD", low=0.0, source="open", tune=Space(1e-4, 0.3, log=True))
    batch_size: int = option(
        128, "images per step", low=2, source="open", tune=Space(choices=(32, 64, 128, 256))
    )

    def budget(self, task: Task) -> int:
        """The steps of the softmax layers, and the passes of each retraining over train, failing
        and what its rounds may have selected.
        """
        if not len(task.train):
            raise Unsupported(NO_TRAIN)
        layers = [r.layer for r in weighted(runs(task.module, task.train.images(slice(2))))][1:]
        chosen = min(self.selection, len(_pool(task)))
        rounds = sum(
            self.epochs * (len(task.labelled) + number * chosen) for number in range(1, self.rounds + 1)
        )
        return (
            self._bill(
                task, features(task.module, layers, few(task.train)), min(self.probes, len(task.train))
            )
            + len(few(task.train))
            + rounds
        )

    def repair(self, task: Task) -> nn.Module:
        """Returns the retrained module."""
        if not len(task.failing):
            return task.module
        if not len(task.train):
            raise Unsupported(NO_TRAIN)
        layers = [r.layer for r in weighted(runs(task.module, task.train.images(slice(2))))][1:]
        if not layers:
            raise Unsupported("a network with one weighted layer has no hidden features to compare")
        pool = _pool(task)
        if pool is not task.pool:
            task.note("no pool of extra data: mode selects from train and failing")
        bugs = self._bugs(task)
        if not bugs:
            task.note(
                f"no label is buggy on validation (accuracy below {self.underfit} or a gap above "
                f"{self.overfit}): nothing was changed"
            )
            return task.module
        chosen, layer = None, layers[self._layer(task, layers)]
        recipe = Recipe(
            lr=self.lr, batch_size=self.batch_size, epochs=self.epochs, augment=task.recipe.augment
        )
        generator = task.generator(2)
        for number in range(1, self.rounds + 1):
            task.progress("selecting", number, self.rounds, float(len(bugs)))
            picked = pool.select(self._select(task, layer, pool, bugs, generator))
            chosen = picked if chosen is None else chosen + picked
            fit(
                task.module,
                task.labelled + chosen,
                choice_of(task),
                recipe,
                generator,
                phase="retraining",
                watch=Watch(progress=task.progress),
            )
            task.keep(f"round {number}", task.module)
            bugs = self._bugs(task)
            if not bugs:
                break
        return task.module

    def _layer(self, task: Task, layers: list[nn.Module]) -> int:
        """The number of the first layer whose features are good enough."""
        data = drawn(task.train, self.probes, task.generator(1))
        train, validation = (
            features(task.module, layers, data),
            features(task.module, layers, task.validation),
        )
        k = len(task.classes)
        scores = [probe(a, data.y, b, task.validation.y, k) for a, b in zip(train, validation, strict=True)]
        task.meter.add(self._bill(task, train, len(data)), training=True)
        return next(
            (i for i in range(len(scores) - 1) if scores[i + 1] - scores[i] < self.saturation),
            len(scores) - 1,
        )

    def _bill(self, task: Task, vectors: list[Tensor], images: int) -> int:
        """What the softmax layers cost, in training images: a step on stored features is a small
        part of one, and the share is measured.
        """
        work = sum(PROBE_STEPS * images * 4 * v.shape[1] * len(task.classes) for v in vectors)
        return math.ceil(work / step_work(task.module, few(task.train).images()))

    def _bugs(self, task: Task) -> dict[int, str]:
        """The buggy labels and whether each is "over" or "under" fit."""
        k, accuracies = len(task.classes), []
        for split in (task.train, task.validation):
            exam = sit(task.module, split)
            accuracies.append(
                torch.bincount(exam.y[exam.right], minlength=k) / torch.bincount(exam.y, minlength=k)
            )
        bugs = {}
        for label, (train, validation) in enumerate(torch.stack(accuracies, 1).tolist()):
            # A label without inputs (0 / 0) is neither.
            if train - validation > self.overfit:
                bugs[label] = "over"
            elif validation < self.underfit:
                bugs[label] = "under"
        return bugs

    def _select(
        self, task: Task, layer: nn.Module, pool: Split, bugs: dict[int, str], generator: torch.Generator
    ) -> Tensor:
        """Indices into the pool: an equal number for each bug, then random ones."""
        number = min(self.selection, len(pool))
        wanted = round(self.ratio * number)
        train = features(task.module, [layer], task.train)[0]
        scale = train.abs().amax(0).clamp_min(1e-12)
        maps = heat_maps(
            train / scale,
            task.train.y,
            sit(task.module, task.train).predictions.to(task.device),
            len(task.classes),
        )
        vectors, taken = features(task.module, [layer], pool)[0] / scale, []
        for number_of, (label, kind) in enumerate(bugs.items()):
            quota = wanted * (number_of + 1) // len(bugs) - wanted * number_of // len(bugs)
            mine = (pool.y != label) if self.map == "dhmi" else (pool.y == label)
            candidates = mine.nonzero()[:, 0]
            score = vectors[candidates] @ maps.difference(self.map, label)
            order = score.argsort(descending=not (self.map == "dhci" and kind == "over"), stable=True)
            taken.append(candidates[order[:quota]])
        selected = torch.cat(taken).unique()
        rest = torch.ones(len(pool), dtype=torch.bool, device=pool.y.device)
        rest[selected] = False
        others = rest.nonzero()[:, 0]
        return torch.cat(
            [
                selected,
                others[
                    torch.randperm(len(others), generator=generator)[: number - len(selected)].to(
                        others.device
                    )
                ],
            ]
        )


def _pool(task: Task) -> Split:
    """What is selected from: the subject's pool, or train and failing where it has none."""
    return task.pool if task.pool is not None and len(task.pool) else task.labelled


def heat_maps(vectors: Tensor, labels: Tensor, predictions: Tensor, classes: int) -> HeatMaps:
    """The heat maps of all labels from features (N x F), labels and predictions (N)."""

    def means(groups: Tensor, here: Tensor) -> Tensor:
        sums = vectors.new_zeros(classes, vectors.shape[1]).index_add(0, groups[here], vectors[here])
        return sums / torch.bincount(groups[here], minlength=classes)[:, None].clamp_min(1)

    right = labels == predictions
    return HeatMaps(means(labels, right), means(predictions, ~right), means(labels, ~right))


@torch.no_grad()
def features(module: nn.Module, layers: list[nn.Module], split: Split, most: int = 1024) -> list[Tensor]:
    """Returns, for each layer its inputs (N x F) on the split: flattened, pooled over space where
    they are more than `most`.
    """
    found: list[list[Tensor]] = [[] for _ in layers]

    def keep(parts: list[Tensor], x: Tensor) -> None:
        if x.ndim == 4 and x[0].numel() > most:
            x = nn.functional.adaptive_avg_pool2d(x, max(1, math.isqrt(most // x.shape[1])))
        parts.append(x.flatten(1).clone())

    handles = [
        layer.register_forward_pre_hook(lambda _, args, parts=parts: keep(parts, args[0]))
        for layer, parts in zip(layers, found, strict=True)
    ]
    try:
        with evaluating(module):
            for x, _ in split.batches(1024):
                module(x)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(parts) for parts in found]


class Softmax(nn.Module):
    """It is a softmax layer on features, from zero: weights and, in the first row, biases (1 + F x K)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features + 1, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (N x K) of features (N x F, or N x F x 1 x 1)."""
        logits: Tensor = x.flatten(1) @ self.weight[1:] + self.weight[0]
        return logits


def few(split: Split) -> Split:
    """Returns two of its images, to ask what a network is like."""
    return split.select(torch.arange(min(2, len(split)), device=split.y.device))


def probe(
    x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, classes: int, steps: int = PROBE_STEPS
) -> float:
    """Returns the accuracy on the second set of a softmax layer trained on the first (Adam on
    standardised features, whole batch).
    """
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    data, layer = Split(((x - mean) / std)[:, :, None, None], y), Softmax(x.shape[1], classes).to(x.device)
    optimizer = optimizer_of(layer, Recipe(optimizer="adam", weight_decay=0.0))
    whole = torch.arange(len(data), device=x.device)
    with Stepper(layer, optimizer, cross_entropy, none, torch.Generator(), parts=False) as stepper:
        for _ in passes(
            Course(steps, len(data), lambda: [whole]), lambda index, _: (stepper(data, index, 0.05),)
        ):
            pass
    with torch.no_grad():
        return float((layer.forward((x_test - mean) / std).argmax(1) == y_test).float().mean())
