"""clean_accuracy: accuracy on the clean test images of a subject that works in a corrupted
environment, where `accuracy` is on corrupted ones.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def clean_accuracy(before: Exams, after: Exams) -> float | Missing:
    """It is the accuracy on the clean test images, if `accuracy` is on corrupted ones.

    Missing if the subject works in no corrupted environment, or the test split is empty.
    """
    if after.fault is None or after.fault.clean is None:
        return Missing("the subject works in no corrupted environment; accuracy is on clean images")
    return after.fault.clean.accuracy if len(after.fault.clean.y) else Missing("the test split is empty")
