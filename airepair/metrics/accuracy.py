"""accuracy: top-1 on the test split."""

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def accuracy(before: Exams, after: Exams) -> float | Missing:
    """It is the share of test images whose largest logit is the label's.

    Missing if the test split is empty.
    """
    return after.test.accuracy if len(after.test.y) else Missing("the test split is empty")
