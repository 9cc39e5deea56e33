"""churn and negative flips (model-update literature): what changes for a user when the model is replaced.

break_rate divides by the inputs that were right before, negative_flips by all: the same images, two
denominators.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def churn(before: Exams, after: Exams) -> float | Missing:
    """It is the share of test images whose prediction changed, right or wrong.

    Missing if the test split is empty.
    """
    if not len(after.test.y):
        return Missing("the test split is empty")
    return float((before.test.predictions != after.test.predictions).double().mean())


def negative_flips(before: Exams, after: Exams) -> float | Missing:
    """It is the share of all test images that were right before the repair and are wrong after it.

    Missing if the test split is empty.
    """
    if not len(after.test.y):
        return Missing("the test split is empty")
    return float((before.test.right & ~after.test.right).double().mean())


def backward_compatibility(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the test images right before the repair that are right after it.

    Missing if no test image was right before.
    """
    right = before.test.right
    return (
        float(after.test.right[right].double().mean())
        if right.any()
        else Missing("no test image was right before")
    )
