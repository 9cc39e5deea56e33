"""top5: is the label among the five largest logits? Missing if there are no more than five classes."""

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def top5(before: Exams, after: Exams) -> float | Missing:
    """It is the share of test images whose label is among the five classes with the largest logits.

    Missing if there are five classes or fewer, or the test split is empty.
    """
    exam = after.test
    if not len(exam.y):
        return Missing("the test split is empty")
    if exam.logits.shape[1] <= 5:
        return Missing(f"with {exam.logits.shape[1]} classes the label is always among five")
    return float((exam.logits.topk(5, 1).indices == exam.y[:, None]).any(1).double().mean())
