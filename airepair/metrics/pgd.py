"""pgd_accuracy: accuracy under projected gradient descent (Madry et al. 2018) on the first images of
the test split.

A metric is a function of exams, and an attack needs gradients: `attack` is run when the model is
examined, and its answer travels in `Exams.extra["pgd_right"]`. Without an attack the metric is
missing. An attack gives an upper bound of the robust accuracy, not a proof.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from airepair.constraints.counterexamples import BoxGround, Search, frozen, worst
from airepair.evaluation.exam import logits_of
from airepair.evaluation.exams import Exams
from airepair.evaluation.memory import halving
from airepair.metrics import Missing
from airepair.types import Split

IMAGES = 512  # the first of the test split
EPSILON = 8 / 255  # Madry et al. on CIFAR-10; one value for every data set, so that columns compare
SEARCH = Search(steps=20, step_size=2 / 255, restarts=1)
SEED = 20_241_124  # fixed: the attack's random starts belong to the benchmark, never to a cell


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the label's logit minus the largest other one, N."""
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return logits.gather(1, y[:, None])[:, 0] - others


def attack(module: nn.Module, split: Split, images: int = IMAGES, batch_size: int = 256) -> Tensor:
    """Whether each of the first `images` is right as it is and at the worst point found within
    EPSILON; booleans on the CPU.
    """
    first = Split(split.x[:images], split.y[:images])
    return halving(lambda size: _attacked(module, first, size), batch_size, "images at once in an attack")


def _attacked(module: nn.Module, first: Split, batch_size: int) -> Tensor:
    generator, answers = torch.Generator().manual_seed(SEED), []
    for x, y in first.batches(batch_size):
        right = logits_of(module, x).argmax(1) == y

        def objective(z: Sequence[Tensor], y: Tensor = y) -> Tensor:
            return margin(module(z[0]), y)

        with frozen(module):
            _, least = worst(objective, [BoxGround(x, EPSILON)], len(x), SEARCH, generator)
        answers.append((right & (least > 0)).cpu())
    return torch.cat(answers) if answers else torch.zeros(0, dtype=torch.bool)


def pgd_accuracy(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the first 512 test images that are right, and right at the worst point
    found within 8/255: 20 steps of 2/255 from a random start.

    Missing if no attack was run (see `--pgd`), or the test split is empty.
    """
    found = after.extra.get("pgd_right")
    if found is None:
        return Missing("no attack was run on this model (it needs gradients; ask for it with --pgd)")
    return float(found.double().mean()) if len(found) else Missing("the test split is empty")
