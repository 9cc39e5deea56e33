"""Which of the examined images a model of a cell gets right, as a record holds it
(airepair/records/right_answers.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.evaluation.exams import Exams
from airepair.records.right_answers import right, tested
from airepair.runner.prepared import PreparedCell


def test_index(ready: PreparedCell) -> Tensor:
    """Where each examined image stands in its source data set; its place in the split if it comes from none.

    On the CPU.
    """
    split = ready.subject.dataset.test
    return torch.arange(len(split)) if split.index is None else split.index.cpu()


def right_answers(ready: PreparedCell, after: Exams | None) -> dict[str, str]:
    """Which images are examined, and which of them are right before and, if it was repaired, after."""
    found = {"tested": tested(test_index(ready).numpy()), "before": right_on_test(ready, ready.before)}
    return found | ({"after": right_on_test(ready, after)} if after is not None else {})


def right_on_test(ready: PreparedCell, exams: Exams) -> str:
    """Which examined images are right."""
    return right(exams.test.right.numpy(), test_index(ready).numpy())
