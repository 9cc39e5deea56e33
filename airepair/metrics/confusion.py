"""confusion: AIREPAIR's confusion accuracy P = TP / (TP + FP) of a class pair.

For the ordered pair (a, b): TP = true a, predicted a; FP = true b, predicted a; everything else is
ignored; 0 / 0 is missing. The pair is the most confused one on validation of seed 0, one for a
column, unless given.
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def _precision(exams: Exams, a: int, b: int) -> float | Missing:
    predicted = exams.test.predictions == a
    true = int((predicted & (exams.test.y == a)).sum())
    false = int((predicted & (exams.test.y == b)).sum())
    return (
        true / (true + false)
        if true + false
        else Missing(f"no test image of class {a} or {b} is predicted as {a}")
    )


def confusion_ab(before: Exams, after: Exams) -> float | Missing:
    """It is TP / (TP + FP) of the class pair (a, b): TP are images of a that are predicted as a, FP
    images of b that are.

    Missing if the subject confuses no two classes on validation, or no image of a or b is
    predicted as a.
    """
    return (
        _precision(after, *after.pair)
        if after.pair
        else Missing("no two classes are confused on validation of seed 0")
    )


def confusion_ba(before: Exams, after: Exams) -> float | Missing:
    """It is the same for the pair (b, a).

    Missing if the subject confuses no two classes on validation, or no image of a or b is
    predicted as b.
    """
    return (
        _precision(after, *after.pair[::-1])
        if after.pair
        else Missing("no two classes are confused on validation of seed 0")
    )


def confusion(before: Exams, after: Exams) -> float | Missing:
    """It is the mean of `confusion_ab` and `confusion_ba`.

    Missing if one of them is missing.
    """
    ab, ba = confusion_ab(before, after), confusion_ba(before, after)
    if isinstance(ab, Missing):
        return ab
    return ba if isinstance(ba, Missing) else (ab + ba) / 2
