"""What a method learns from: its stated sources.

Free of torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airepair.case import SOURCES, Source
from airepair.errors import AirepairError, UsageError, one_line

if TYPE_CHECKING:
    from airepair.types import Method, Split, Task


def restricted(task: Task, sources: Collection[str]) -> Task:
    """Returns the task with nothing but the stated sources: empty splits in place of the others,
    None for pool and environment.

    Validation is always there: it selects and stops.
    """

    def kept(name: str, split: Split) -> Split:
        return split if name in sources else split.select(split.y[:0])

    return dataclasses.replace(
        task,
        train=kept("train", task.train),
        failing=kept("failing", task.failing),
        passing=kept("passing", task.passing),
        unlabelled=task.unlabelled if "unlabelled" in sources else task.unlabelled[:0],
        pool=task.pool if "pool" in sources else None,
        environment=task.environment if "environment" in sources else None,
    )


def sources_of(method: Method) -> frozenset[Source]:
    """What the method states; UsageError if that is no set of sources."""
    try:
        found: Any = method.sources
    except AirepairError:
        raise
    except Exception as error:  # a property of another package
        raise UsageError(f"the sources of {method.name} cannot be read: {one_line(error)}") from error
    if not isinstance(found, frozenset) or not found <= set(SOURCES):
        raise UsageError(f"{method.name}.sources is {found!r}; accepted: a frozenset of {', '.join(SOURCES)}")
    return found


def present(task: Task, sources: Collection[str]) -> tuple[str, ...]:
    """Returns the stated sources that this task has, in the order of SOURCES: a subject may have no
    pool, no environment, or no training data.
    """
    found = {name: getattr(task, name) for name in SOURCES if name in sources}
    return tuple(k for k, v in found.items() if v is not None and (k == "environment" or len(v)))
