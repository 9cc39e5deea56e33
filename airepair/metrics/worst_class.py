"""worst_class_accuracy and class_gap: how the model does on the class that it knows least, and how far
that is from the one it knows best.

Accuracy of one class is its share of right test images (recall). The worst class of a model is its
own: before and after the repair it may be another one (`worst_class_loss` follows one class through
the repair).
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def worst_class_accuracy(before: Exams, after: Exams) -> float | Missing:
    """It is the lowest accuracy of a class, over the classes that occur in the test split.

    Missing if the test split is empty.
    """
    found = _accuracies(after)
    return min(found) if found else Missing("the test split is empty")


def class_gap(before: Exams, after: Exams) -> float | Missing:
    """It is the highest accuracy of a class minus the lowest.

    Missing if the test split has images of fewer than two classes.
    """
    found = _accuracies(after)
    if not found:
        return Missing("the test split is empty")
    return (
        max(found) - min(found) if len(found) > 1 else Missing("the test split has images of one class only")
    )


def _accuracies(exams: Exams) -> list[float]:
    """Of each class that occurs in the test split."""
    return [float(exams.test.right[exams.test.y == label].double().mean()) for label in exams.test.y.unique()]
