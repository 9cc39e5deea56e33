"""recovery and collateral: how far a repair brings a faulty subject towards its clean twin, and what
that costs elsewhere (docs/faults.md).

Both are of the test split, and of subjects whose fault has a known cause; selection never sees them.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

NO_FAULT = "the subject carries no fault that its record knows the cause of"


def recovery(before: Exams, after: Exams) -> float | Missing:
    """(after - before) / (twin - before), accuracies on the spoiled test inputs; 1 is the clean
    twin.

    Missing if the subject has no known fault or no twin, the fault spoils no test input, or the
    twin is no better than the subject.
    """
    if before.fault is None or after.fault is None:
        return Missing(NO_FAULT)
    if not len(before.fault.spoiled.y):
        return Missing("the fault spoils no test input")
    start, twin = before.fault.spoiled.accuracy, before.fault.twin
    if twin is None:
        return Missing("a user's own network has no clean twin")
    if twin <= start:
        return Missing(f"the clean twin is no better on the spoiled inputs: {twin:.4f} against {start:.4f}")
    return (after.fault.spoiled.accuracy - start) / (twin - start)


def collateral(before: Exams, after: Exams) -> float | Missing:
    """It is the accuracy lost on the test inputs that the fault does not spoil; positive is damage.

    Missing if the subject has no known fault, or the fault spoils every test input.
    """
    if before.fault is None or after.fault is None:
        return Missing(NO_FAULT)
    if not len(before.fault.others.y):
        return Missing("the fault spoils every test input")
    return before.fault.others.accuracy - after.fault.others.accuracy


def spoiled_accuracy(before: Exams, after: Exams) -> float | Missing:
    """It is the accuracy on the test inputs that the fault spoils.

    Missing if the subject has no known fault, or the fault spoils no test input.
    """
    if after.fault is None:
        return Missing(NO_FAULT)
    return (
        after.fault.spoiled.accuracy
        if len(after.fault.spoiled.y)
        else Missing("the fault spoils no test input")
    )
