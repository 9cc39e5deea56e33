"""What a repair fixed and what it broke, image by image."""

from __future__ import annotations

from airepair.metrics import Missing
from airepair.metrics.exams import Exams


def repair_rate(before: Exams, after: Exams) -> float | Missing:
    """Share of the failing inputs given to the method that are right after."""
    return float(after.failing.right.double().mean()) if len(after.failing.y) else Missing("the subject has no failing inputs")


def generalisation(before: Exams, after: Exams) -> float | Missing:
    """Share of the test inputs wrong before that are right after."""
    wrong = ~before.test.right
    return float(after.test.right[wrong].double().mean()) if wrong.any() else Missing("no test input was wrong before")


def break_rate(before: Exams, after: Exams) -> float | Missing:
    """Share of the test inputs right before that are wrong after."""
    right = before.test.right
    return float((~after.test.right[right]).double().mean()) if right.any() else Missing("no test input was right before")


def net_change(before: Exams, after: Exams) -> float | Missing:
    """Fixed minus broken, over all test inputs."""
    if not len(after.test.y):
        return Missing("the test split is empty")
    return float((after.test.right.double() - before.test.right.double()).mean())
