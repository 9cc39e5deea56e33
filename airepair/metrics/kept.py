"""What became of the inputs whose answers must not change."""

from __future__ import annotations

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

KEPT = "kept_right"  # in Exams.extra: for each of these inputs, whether the answer is the subject's


def kept(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the inputs to keep (`--keep`) whose answer is still the subject's.

    Missing if no inputs to keep were given.
    """
    same = after.extra.get(KEPT)
    return (
        Missing("no inputs to keep were given")
        if same is None or not len(same)
        else float(same.double().mean())
    )
