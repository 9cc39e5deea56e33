"""constraint: DL2's class-group constraint, and the same at the temperature that fits validation best.

Share of test images for which every group's probability is above .95 or below .05, strictly. The
label plays no part, so the score rewards over-confidence: dividing the logits by a temperature
alone moves it. Hence its companion.
"""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.evaluation.exam import Exam
from airepair.evaluation.exams import Exams
from airepair.metrics import Missing

EPSILON = 0.05  # DL2's CIFAR-100 experiment, in AIREPAIR's check_model_dl2.py


def satisfied(logits: Tensor, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """Whether each of N images has every group's probability < .05 or > .95."""
    p = logits.double().softmax(1)
    sums = torch.stack([p[:, list(g)].sum(1) for g in groups], 1)
    return ((sums < EPSILON) | (sums > 1 - EPSILON)).all(1)


def constraint(before: Exams, after: Exams) -> float | Missing:
    """It is the share of test images for which the probability of every class group is above .95 or
    below .05.

    Missing if the data set has no groups, or the test split is empty.
    """
    if not after.groups:
        return Missing("the data set has no groups")
    if not len(after.test.y):
        return Missing("the test split is empty")
    return float(satisfied(after.test.logits, after.groups).double().mean())


def temperature(exam: Exam) -> float:
    """Returns the T that minimises the cross-entropy of logits / T (Guo and others, 2017).

    It is searched on a logarithmic grid from .05 to 20, refined twice.
    """
    logits, y = exam.logits.double(), exam.y
    low, high = -3.0, 3.0  # natural logarithm
    for _ in range(3):
        grid = torch.linspace(low, high, 41, dtype=torch.double)
        losses = torch.stack([torch.nn.functional.cross_entropy(logits / t, y) for t in grid.exp()])
        k, width = int(losses.argmin()), (high - low) / 40
        low, high = float(grid[k]) - width, float(grid[k]) + width
    return float(grid[k].exp())


def constraint_tempered(before: Exams, after: Exams) -> float | Missing:
    """It is the same as `constraint`, with the logits divided by the temperature that fits
    validation best.

    Missing if the data set has no groups, or the test or validation split is empty.
    """
    if not after.groups:
        return Missing("the data set has no groups")
    if not len(after.test.y):
        return Missing("the test split is empty")
    if not len(after.validation.y):
        return Missing("no validation images to fit a temperature on")
    scaled = after.test.logits / temperature(after.validation)
    return float(satisfied(scaled, after.groups).double().mean())
