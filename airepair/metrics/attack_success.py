"""attack_success: share of the triggered test inputs of other classes that a backdoor still leads
to its target (Gu et al., "BadNets", 2017).
"""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def attack_success(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the triggered test inputs of other classes that are answered with the
    target class.

    Missing if the subject has no backdoor, or the fault spoils no test input.
    """
    if after.fault is None or after.fault.target is None:
        return Missing("the subject has no backdoor that its record knows of")
    answers = after.fault.spoiled.predictions
    return (
        float((answers == after.fault.target).double().mean())
        if len(answers)
        else Missing("the fault spoils no test input")
    )
