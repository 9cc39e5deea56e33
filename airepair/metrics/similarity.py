"""similarity: DL2's CSimilarityT on CIFAR-10, under its own name: a car is rather a truck than a dog,
and four orderings more.

As DL2 reports it: share of all test images, those of the five classes without a rule satisfy it for nothing.
"""

from __future__ import annotations

import torch

from airepair.constraints.published import CIFAR10, SIMILAR
from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

DELTA = 0.01  # of CSimilarityT in the authors' script (github.com/eth-sri/dl2, run.sh), in logits


def similarity(before: Exams, after: Exams) -> float | Missing:
    """It is the share of test images whose logit of the similar class is at least .01 above that of
    the dissimilar one (car: truck over dog; deer: horse over ship; plane: ship over frog; dog: cat
    over truck; cat: dog over car); images of other classes satisfy it vacuously.

    Missing if the classes are not CIFAR-10's, or the test split is empty.
    """
    if tuple(after.classes) != CIFAR10:
        return Missing("its orderings are of CIFAR-10's classes")
    if not len(after.test.y):
        return Missing("the test split is empty")
    logits, y = after.test.logits.double(), after.test.y
    broken = torch.zeros_like(y, dtype=torch.bool)
    for label, near, far in SIMILAR:
        broken |= (y == label) & (logits[:, near] < logits[:, far] + DELTA)
    return float((~broken).double().mean())
