"""counterexample: counterexample-guided data augmentation (Dreossi et al., IJCAI 2018).

Idea: sample a space of named label-preserving modifications (rotation, shifts, brightness,
contrast, blur, noise) for images on which the network fails; keep those in an error table, and
analyse it: the principal components of its vectors (where in the space, and in which directions,
failures lie) and its most frequent labels steer half of the next samples; retrain on the data plus
the counterexamples; repeat until none is found or the rounds end.

Images that are modified: those of train and failing that the network gets right as they are, asked
anew in each round. One that it gets wrong would be its own counterexample, whatever the
modification; the failing ones join when they have been learned. Control: `sampler=random` draws the
same number of modified images without looking at the network. Changes all parameters and batch-norm
statistics, through the common training loop; the best state on validation remains. Refuses a task
without a labelled image that the network gets right. No image is mirrored: digits are not
symmetric.

Defaults: Halton sampler, principal components for ordered features and set analysis for unordered ones are
the paper's; the ranges are in search/modifications.py. It states neither a learning rate nor a number of
counterexamples for classifiers of this kind: those are open until they are tuned on validation. Samples,
rounds and epochs limit the budget. `distance` is the paper's optional diversity constraint: a vector nearer
than that to an earlier one of its turn is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import logits_of
from airepair.options import Space, option
from airepair.search.modifications import MODIFICATIONS, modify, names_of
from airepair.search.sampling import Cube
from airepair.training.best_state import Watch, choice_of, fit
from airepair.types import Category, Recipe, Source, Split, Task


@dataclass(frozen=True, eq=False)
class ErrorTable:
    """It holds one row per counterexample: modification vector (n x d, in [0, 1]), label and wrong
    prediction (n).
    """

    vectors: Tensor
    labels: Tensor
    predictions: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def extended(self, other: ErrorTable) -> ErrorTable:
        """Returns the rows of both."""
        pairs = zip(
            (self.vectors, self.labels, self.predictions),
            (other.vectors, other.labels, other.predictions),
            strict=True,
        )
        return ErrorTable(*(torch.cat(p) for p in pairs))

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the mean (d), principal directions (rows, d x d) and standard deviations along them
        (d, largest first) of the vectors.
        """
        mean = self.vectors.mean(0)
        _, sizes, directions = torch.linalg.svd(self.vectors - mean, full_matrices=False)
        return mean, directions, sizes / math.sqrt(max(1, len(self) - 1))

    def combinations(self) -> list[tuple[int, int, int]]:
        """Returns label, prediction and how often they occur together, the most frequent first."""
        pairs, counts = torch.stack([self.labels, self.predictions], 1).unique(dim=0, return_counts=True)
        order = counts.argsort(descending=True, stable=True)
        return [
            (int(a), int(b), int(n))
            for (a, b), n in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)
        ]

    def like(self, labels: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Returns `n` indices into `labels`, drawn so that each label is as frequent as in the
        table (indices of other labels where it has none of them).
        """
        classes = int(max(labels.max(), self.labels.max())) + 1
        wanted, there = (torch.bincount(y.cpu(), minlength=classes).double() for y in (self.labels, labels))
        weights = (wanted / there.clamp_min(1))[labels.cpu()]
        return torch.multinomial(
            weights if bool(weights.any()) else torch.ones_like(weights),
            n,
            replacement=True,
            generator=generator,
        )

    def near(self, n: int, generator: torch.Generator) -> Tensor:
        """Returns `n` new vectors where the failures lie: a Gaussian along the principal
        directions, clipped to the cube.
        """
        mean, directions, spread = self.components()
        return (mean + torch.randn(n, len(spread), generator=generator) * spread @ directions).clamp(0, 1)


@dataclass(frozen=True)
class Counterexample:
    """Retrains on modified images that the network gets wrong."""

    name: ClassVar[str] = "counterexample"
    category: ClassVar[Category] = "retraining"
    chooses: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "Dreossi, Ghosh, Yue, Keutzer, Sangiovanni-Vincentelli, Seshia: "
        "Counterexample-guided data augmentation, IJCAI 2018"
    )
    sources: ClassVar[frozenset[Source]] = frozenset(("train", "failing"))
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_sampler": {"sampler": "random"}}

    sampler: Literal["halton", "uniform", "crossentropy", "random"] = option(
        "halton", "how vectors are drawn; random: the control", source="IJCAI 2018"
    )
    steer: bool = option(
        True,
        "half of the samples follow the error table: its principal components and its labels",
        source="IJCAI 2018",
    )
    modifications: str = option(
        "all", f"comma-separated, of {', '.join(MODIFICATIONS)}, or all", source="form"
    )
    samples: int = option(2000, "modified images tried in a round", low=1, source="budget")
    keep: int = option(
        500, "counterexamples kept in a round", low=1, source="open", tune=Space(50, 5000, log=True)
    )
    distance: float = option(
        0.0, "minimum distance between the vectors of a turn", low=0.0, source="IJCAI 2018"
    )
    rounds: int = option(3, "rounds of sampling and retraining", low=1, source="budget")
    epochs: int = option(20, "epochs of each retraining", low=1, source="budget")
    lr: float = option(0.01, "learning rate of SGD", low=0.0, source="open", tune=Space(1e-4, 0.3, log=True))
    batch_size: int = option(
        128, "images per step", low=2, source="open", tune=Space(choices=(32, 64, 128, 256))
    )

    def budget(self, task: Task) -> int:
        """The passes of each retraining over train, failing and as many counterexamples as its
        rounds may have kept.
        """
        kept = min(self.keep, self.samples)
        return sum(self.epochs * (len(task.labelled) + number * kept) for number in range(1, self.rounds + 1))

    def repair(self, task: Task) -> nn.Module:
        """Returns the module retrained on its counterexamples."""
        if not len(task.failing):
            return task.module
        names = names_of(self.modifications)
        cube = Cube("uniform" if self.sampler == "random" else self.sampler, len(names), task.generator(1))
        table, found = ErrorTable(torch.zeros(0, len(names)), *torch.zeros(2, 0, dtype=torch.int64)), None
        recipe = Recipe(
            lr=self.lr, batch_size=self.batch_size, epochs=self.epochs, augment=task.recipe.augment
        )
        counts, generator = [], task.generator(2)
        for number in range(1, self.rounds + 1):
            images, rows = self._search(task, cube, table, names, generator)
            counts.append(len(images))
            task.progress("sampling", number, self.rounds, float(len(images)))
            if not len(images):
                break
            table, found = table.extended(rows), images if found is None else found + images
            data = task.labelled + found
            fit(
                task.module,
                data,
                choice_of(task),
                recipe,
                generator,
                phase="retraining",
                watch=Watch(progress=task.progress),
            )
            task.keep(f"round {number}", task.module)
        task.note(
            f"counterexamples in each round: {', '.join(map(str, counts))}{self._analysis(table, names)}"
        )
        return task.module

    def _search(
        self, task: Task, cube: Cube, table: ErrorTable, names: tuple[str, ...], generator: torch.Generator
    ) -> tuple[Split, ErrorTable]:
        """A round's new images with their labels, and their rows for the table."""
        base = base_of(task)
        vectors = cube.draw(self.samples)
        steered = self.samples // 2 if self.steer and self.sampler != "random" and len(table) > 1 else 0
        index = torch.randint(len(base), (len(vectors),), generator=generator)
        if steered:
            vectors[:steered] = table.near(steered, generator)
            index[:steered] = table.like(base.y, steered, generator)
        if self.distance:
            far = apart(vectors, self.distance)
            vectors, index, steered = vectors[far], index[far], int(far[:steered].sum())
        index = index.to(task.device)
        images, labels = modify(base.images(index), vectors, names, generator), base.y[index]
        logits = logits_of(task.module, images)
        predictions = logits.argmax(1)
        if self.sampler == "crossentropy":
            cube.learn(
                vectors[steered:],
                nn.functional.cross_entropy(logits, labels, reduction="none").cpu()[steered:],
            )
        wrong = (predictions != labels).nonzero()[:, 0]
        # The control takes as many as there are counterexamples, without looking. Drawn, because
        # the steered ones come first.
        found = (
            torch.randperm(len(images), generator=generator)[: len(wrong)].to(wrong.device)
            if self.sampler == "random"
            else wrong
        )
        chosen = found[torch.randperm(len(found), generator=generator)[: self.keep].to(found.device)]
        return Split(images[chosen], labels[chosen]), ErrorTable(
            vectors[chosen.cpu()], labels[chosen].cpu(), predictions[chosen].cpu()
        )

    def _analysis(self, table: ErrorTable, names: tuple[str, ...]) -> str:
        """Which modification the first principal direction of the error table is mostly made of,
        and its most frequent combination.
        """
        if len(table) < 2 or self.sampler == "random":
            return ""
        mean, directions, _ = table.components()
        top = int(directions[0].abs().argmax())
        label, prediction, count = table.combinations()[0]
        where = f"they spread most along {names[top]}, around {float(mean[top]):.2f} of its range"
        return f"; {where}; class {label} taken for {prediction} is most frequent ({count} of {len(table)})"


def base_of(task: Task) -> Split:
    """Returns the images that are modified: those of train and failing that the network gets right
    now.

    Unsupported if there are none.
    """
    right = logits_of(task.module, task.labelled.x).argmax(1) == task.labelled.y
    if not bool(right.any()):
        raise Unsupported(
            "a counterexample is a modified image that the network gets right as it is, "
            "and there is none with a label"
        )
    return task.labelled.select(right.nonzero()[:, 0])


def apart(vectors: Tensor, distance: float) -> Tensor:
    """Which vectors are at least `distance` from every earlier one (kept or not)."""
    near = (torch.cdist(vectors, vectors) < distance).tril(-1)
    return ~near.any(1)
