"""deeprepair_style: trains on images in the style of the failures (Yu, Qi, Guo, Juefei-Xu, Xie, Ma and
Zhao, "DeepRepair: Style-guided repairing for DNNs in the real-world operational environment", IEEE
Transactions on Reliability 2021).

This is the paper that AIREPAIR cites; what AIREPAIR runs is weighted regularisation, `deeprepair`.

Idea: the failures met in operation show the environment's style; training images painted in that
style, in AugMix chains under a consistency loss, make the model robust there. The failures of each
class are clustered (k-means, k = 5, standardised pixels), one of each cluster is a style reference,
each training image takes the style of a random one; loss = CE(clean) + 12 * Jensen-Shannon(clean,
two changed copies).

The failures come from the subject's environment (a corruption): they are the failing inputs, and the
training images that the model gets wrong under the corruption. A subject without
environment may be given one, `corruption=fog3`; its failing inputs are then not used for their
style (they have train's), only learned from. Style transfer: the authors use WCT2, on a VGG that
was trained elsewhere. Here the default is the same whitening and colouring on the wavelet subbands
of the pixels, which needs no network; `transfer=fourier` is another, and
`encoder=package.module:Name` takes a user's own.

Changes all weights and batch-norm statistics. Refuses a task without training data, one with
neither environment nor `corruption`, and one whose environment the model does not fail in. Defaults
are the paper's: 100 failures per class, 5 clusters, 3 chains of depth up to 3, severity 3, weight 12,
SGD lr .1 with Nesterov momentum .9 and weight decay 5e-4, cosine over 100 epochs, batch 64. Two
differences: the state with the best validation accuracy remains (the paper stops early on test
loss), and cross-entropy is on what every method may learn from, train and the failing inputs
(`learn_from` train: the paper's form).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.corruptions import parse
from airepair.errors import Unsupported
from airepair.evaluation.exam import logits_of
from airepair.methods.deeprepair_style.augmix import Chains, divergence
from airepair.methods.deeprepair_style.clusters import references
from airepair.methods.deeprepair_style.transfer import painted, transfer_of
from airepair.options import Space, option
from airepair.training.best_state import Loss, Watch, choice_of, fit
from airepair.types import Category, Recipe, Source, Split, Task, Transform


@dataclass(frozen=True)
class StyleGuidedDeepRepair:
    """Retrains with images in the style of the failures, consistently."""

    name: ClassVar[str] = "deeprepair_style"
    category: ClassVar[Category] = "retraining"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = "Yu et al., IEEE Transactions on Reliability 2021"
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing", "environment"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"no_style": {"alpha": 0.0}}

    corruption: str = option(
        "none",
        "used if the subject has no environment: a corruption and its severity, such as fog3",
        source="this project",
    )
    clusters: int = option(
        5, "styles per class", low=1, source="Yu et al.", tune=Space(choices=(1, 3, 5, 10))
    )
    per_class: int = option(100, "failures per class that are clustered", low=1, source="Yu et al.")
    transfer: Literal["wavelet", "fourier"] = option(
        "wavelet", "style transfer without a pretrained encoder", source="this project"
    )
    encoder: str | None = option(
        None, "a user's encoder, package.module:Name with encode and decode", source="this project"
    )
    alpha: float = option(
        1.0, "strength of the style", low=0.0, high=1.0, source="Yu et al.", tune=Space(0.2, 1.0)
    )
    weight: float = option(
        12.0, "weight of the Jensen-Shannon loss", low=0.0, source="AugMix", tune=Space(1.0, 24.0, log=True)
    )
    width: int = option(3, "chains per image", low=1, source="AugMix")
    depth: int = option(3, "operations in a chain, at most", low=1, source="AugMix")
    severity: float = option(3.0, "strength of the operations, of ten", low=0.1, high=10.0, source="AugMix")
    lr: float = option(
        0.1, "learning rate of SGD", low=0.0, source="Yu et al.", tune=Space(1e-4, 0.3, log=True)
    )
    weight_decay: float = option(
        5e-4, "weight decay", low=0.0, source="Yu et al.", tune=Space(1e-6, 1e-2, log=True)
    )
    batch_size: int = option(
        64, "training images per step; each is used three times", low=2, source="Yu et al."
    )
    epochs: int = option(100, "passes over the training data", low=1, source="Yu et al.")
    learn_from: Literal["train and failing", "train"] = option(
        "train and failing", "images of the cross-entropy", source="form; train: Yu et al."
    )

    def budget(self, task: Task) -> int:
        """Each image of an epoch goes through three times: clean and in two changed copies."""
        self._environment(task)
        return (
            3 * self.epochs * len(task.train if self.learn_from == "train" else task.labelled)
            if len(task.train)
            else 0
        )

    def repair(self, task: Task) -> nn.Module:
        """Returns the retrained module."""
        if not len(task.failing):
            return task.module
        if not len(task.train):
            raise Unsupported("deeprepair_style paints training images, and train is empty")
        styles = references(self._failures(task), self.clusters, self.per_class, task.generator(21))
        task.note(f"deeprepair_style: {len(styles)} style references by {self.encoder or self.transfer}")
        data = task.train if self.learn_from == "train" else task.labelled
        recipe = Recipe(
            lr=self.lr,
            batch_size=self.batch_size,
            epochs=self.epochs,
            weight_decay=self.weight_decay,
            schedule="cosine",
            augment=task.recipe.augment,
        )
        watch, loss = Watch(progress=task.progress), self._loss(task, styles)
        fit(
            task.module,
            data,
            choice_of(task),
            recipe,
            task.generator(),
            phase="style-guided training",
            loss=loss,
            watch=watch,
        )
        return task.module

    def _environment(self, task: Task) -> Transform:
        """The subject's environment, else the option's."""
        if task.environment is not None:
            return task.environment
        if self.corruption == "none":
            raise Unsupported(
                "the subject has no environment whose style could be learned; give one: "
                "deeprepair_style.corruption=fog3"
            )
        return parse(self.corruption)

    def _failures(self, task: Task) -> Split:
        """The failing inputs, if they come from the environment, and the training images that the
        model gets wrong in it.
        """
        environment, generator = self._environment(task), task.generator(20)
        found = [Split(task.failing.images(), task.failing.y)] if task.environment is not None else []
        given = sum(map(len, found))
        for images, labels in task.train.batches(1024):
            x = environment(images, generator)
            wrong = logits_of(task.module, x).argmax(1) != labels
            found.append(Split(x[wrong], labels[wrong]))
        failures = Split(torch.cat([f.x for f in found]), torch.cat([f.y for f in found]))
        if not len(failures):
            raise Unsupported(f"the model fails on no image in {environment}, so there is no style to learn")
        task.note(
            f"deeprepair_style: {given} failing inputs and {len(failures) - given} training images fail "
            f"in {environment}"
        )
        return failures

    def _loss(self, task: Task, styles: Tensor) -> Loss:
        """CE(clean) + weight * JS(clean, first copy, second copy): one pass of three batches."""
        chains, transfer = (
            Chains(self.width, self.depth, self.severity),
            transfer_of(self.transfer, self.encoder, task.device),
        )
        generator = task.generator(22)

        def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            twice = x.repeat(2, 1, 1, 1)
            copies = chains(twice, painted(twice, styles, transfer, self.alpha, generator), generator)
            logits = module(torch.cat([x, copies])).unflatten(0, (3, len(x)))
            return nn.functional.cross_entropy(logits[0], y) + self.weight * divergence(logits)

        return loss
