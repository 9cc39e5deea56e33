"""drawdown (PRDNN): accuracy before minus after on the drawdown set; beside it the largest loss in a class.

The drawdown set is the whole test split if nothing narrower is given.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def drawdown(before: Exams, after: Exams) -> float | Missing:
    """It is accuracy before minus accuracy after; positive is damage.

    Missing if the test split is empty.
    """
    return (
        before.test.accuracy - after.test.accuracy
        if len(after.test.y)
        else Missing("the test split is empty")
    )


def worst_class_loss(before: Exams, after: Exams) -> float | Missing:
    """It is the largest fall of one class's accuracy, over the classes that occur in the test
    split.

    Missing if the test split is empty.
    """
    losses = []
    for label in after.test.y.unique():
        of_class = after.test.y == label
        losses.append(
            float(before.test.right[of_class].double().mean() - after.test.right[of_class].double().mean())
        )
    return max(losses) if losses else Missing("the test split is empty")
