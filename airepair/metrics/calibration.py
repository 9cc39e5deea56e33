"""calibration_error: expected calibration error (Naeini 2015; Guo 2017), 15 bins of equal width over
the confidence.

A repair that only makes the model surer raises the group constraint and this error together.
"""

from __future__ import annotations

import torch

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

BINS = 15  # Guo et al. 2017


def calibration_error(before: Exams, after: Exams) -> float | Missing:
    """It is the expected calibration error in 15 bins: the sum over bins of the share of images
    times |accuracy - mean confidence|, on the test split.

    Missing if the test split is empty.
    """
    if not len(after.test.y):
        return Missing("the test split is empty")
    confidence = after.test.logits.double().softmax(1).amax(1)
    surplus = confidence - after.test.right.double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    totals = torch.zeros(BINS, dtype=torch.double).index_add_(0, bins, surplus)
    return float(totals.abs().sum() / len(confidence))
