"""accuracy: top-1 on the test split."""

from airepair.metrics import Missing
from airepair.metrics.exams import Exams


def accuracy(before: Exams, after: Exams) -> float | Missing:
    """Share of test images whose largest logit is the label's."""
    return after.test.accuracy if len(after.test.y) else Missing("the test split is empty")
