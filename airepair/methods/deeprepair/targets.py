"""The classes that weighted regularisation is about, as far as they are not given: found on the
repair split, ties to the lower ids.
"""

from __future__ import annotations

import torch

from airepair.errors import Unsupported
from airepair.evaluation.exam import confusion_matrix, sit
from airepair.types import Task


def confused_pair(task: Task, first: int | None, second: int | None) -> tuple[int, int]:
    """Returns the given classes; what is not given, so that the failing inputs confuse the two most
    often.
    """
    if first is not None and second is not None:
        return first, second
    k = len(task.classes)
    matrix = confusion_matrix(sit(task.module, task.failing), k)
    both = matrix + matrix.T
    both.fill_diagonal_(0)
    given = first if first is not None else second
    if given is None:
        flat = int(both.triu().flatten().argmax())
        return flat // k, flat % k
    if not int(both[given].max()):
        raise Unsupported(
            f"the failing inputs do not confuse class {given} with any other; name both with first and second"
        )
    found = int(both[given].argmax())
    return (given, found) if first is not None else (found, given)


def biased_three(task: Task, given: tuple[int | None, int | None, int | None]) -> tuple[int, int, int]:
    """Returns the classes (a, b, c) with the largest |conf(a, b) - conf(a, c)| among those that
    agree with what is given.

    conf(a, b) is the mean of P(predicted b | true a) and P(predicted a | true b), over failing and
    passing inputs.
    """
    a, b, c = given
    if a is not None and b is not None and c is not None:
        return a, b, c
    k = len(task.classes)
    if k < 3:
        raise Unsupported(f"a bias is about three classes, and there are {k}")
    wrong = confusion_matrix(sit(task.module, task.failing), k).double()
    rates = wrong / (wrong.sum(1) + torch.bincount(task.passing.y.cpu(), minlength=k)).clamp_min(1)[:, None]
    conf = (rates + rates.T) / 2
    bias = conf[:, :, None] - conf[:, None, :]
    bias = bias if b is None and c is None else bias.abs()  # found, b is the one that a is confused with
    ids = torch.arange(k)
    names = ids[:, None, None], ids[None, :, None], ids[None, None, :]
    allowed = (names[0] != names[1]) & (names[0] != names[2]) & (names[1] != names[2])
    for axis, wanted in zip(names, given, strict=True):
        allowed = allowed & (axis == wanted) if wanted is not None else allowed
    bias[~allowed] = -1
    flat = int(bias.flatten().argmax())
    if bias.flatten()[flat] <= 0:
        raise Unsupported(
            "the repair split shows no bias of these classes; name all three with first, second and third"
        )
    return flat // (k * k), flat // k % k, flat % k
