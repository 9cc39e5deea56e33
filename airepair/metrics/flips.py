"""What a repair fixed and what it broke, image by image."""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

# in Exams.extra: for each given input that was held out, whether it is answered as wanted
HELD_OUT = "held_out_right"


def repair_rate(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the failing inputs given to the method that are right after the repair,
    without inputs that were held out from it.

    Missing if the subject has no failing inputs.
    """
    return (
        float(after.failing.right.double().mean())
        if len(after.failing.y)
        else Missing("the subject has no failing inputs")
    )


def held_out_rate(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the given inputs that were held out from the method and are right after
    the repair.

    Missing if no given inputs were held out.
    """
    right = after.extra.get(HELD_OUT)
    return (
        Missing("no given inputs were held out")
        if right is None or not len(right)
        else float(right.double().mean())
    )


def generalisation(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the test inputs wrong before the repair that are right after it.

    Missing if no test input was wrong before.
    """
    wrong = ~before.test.right
    return (
        float(after.test.right[wrong].double().mean())
        if wrong.any()
        else Missing("no test input was wrong before")
    )


def break_rate(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the test inputs right before the repair that are wrong after it.

    Missing if no test input was right before.
    """
    right = before.test.right
    return (
        float((~after.test.right[right]).double().mean())
        if right.any()
        else Missing("no test input was right before")
    )


def net_change(before: Exams, after: Exams) -> float | Missing:
    """It is test inputs fixed minus test inputs broken, as a share of all.

    Missing if the test split is empty.
    """
    if not len(after.test.y):
        return Missing("the test split is empty")
    return float((after.test.right.double() - before.test.right.double()).mean())
