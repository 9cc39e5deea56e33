"""group_accuracy: is the predicted class at least in the label's group? Beside the group constraint,
which does not look at the label.

The public DL2 code prints it as "GroupAcc". A label that is in no group is left out; with
overlapping groups one that holds both suffices.
"""

from __future__ import annotations

import torch

from airepair.evaluation.exams import Exams
from airepair.metrics import Missing


def group_accuracy(before: Exams, after: Exams) -> float | Missing:
    """It is the share of the test images with a grouped label whose prediction is in a group of the
    label.

    Missing if the data set has no groups, or no test image has a grouped label.
    """
    if not after.groups:
        return Missing("the data set has no groups")
    exam = after.test
    members = [torch.tensor(g) for g in after.groups]
    of_label = torch.stack([torch.isin(exam.y, m) for m in members], 1)
    of_prediction = torch.stack([torch.isin(exam.predictions, m) for m in members], 1)
    grouped = of_label.any(1)
    if not grouped.any():
        return Missing("no test image has a label of a group")
    return float((of_label & of_prediction).any(1)[grouped].double().mean())
