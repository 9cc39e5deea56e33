"""A method must leave the benchmark's data and the subject as they were: digests from loading,
compared after every cell.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from airepair.data.splits import digest as of_split
from airepair.evaluation.digest import digest as of_module
from airepair.types import Split, Subject, Task


def digests(subject: Subject) -> dict[str, str]:
    """Of the weights, of every split and of what else a task is made from, by what a reader calls it."""
    data = subject.dataset
    splits = {name: getattr(data, name) for name in ("train", "repair", "validation", "test")} | {
        "pool": subject.pool
    }
    modules = {
        "the subject": subject.module,
        **{f"the {name} checkpoint": m for name, m in subject.checkpoints.items()},
    }
    found = {name: of_module(module) for name, module in modules.items()}
    return found | {
        f"the {name} images": of_split(split) for name, split in splits.items() if split is not None
    }


def changed(subject: Subject, loaded: Mapping[str, str]) -> list[str]:
    """What of the subject and its data is not what was loaded."""
    now = digests(subject)
    return [name for name, digest in loaded.items() if now.get(name) != digest]


def written(task: Task, given: Mapping[str, Split | Tensor]) -> list[str]:
    """The inputs of a task that are no longer equal to what it was given."""
    return [name for name, value in given.items() if not _same(getattr(task, name), value)]


def _same(found: Split | Tensor, given: Split | Tensor) -> bool:
    if isinstance(found, Split) and isinstance(given, Split):
        return _same(found.x, given.x) and _same(found.y, given.y)
    assert isinstance(found, Tensor)
    assert isinstance(given, Tensor)
    return found.dtype == given.dtype and found.shape == given.shape and torch.equal(found, given)
