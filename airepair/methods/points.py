"""Which inputs an exact repair is about: all failing ones or a seeded choice, and some passing
ones that must not break.
"""

from __future__ import annotations

import torch

from airepair.types import Split, Task


def choose_points(task: Task, points: int | None) -> Split:
    """Returns at most `points` of the failing inputs, drawn by the task's seed; what was left out
    is noted.
    """
    chosen = draw(task.failing, points, task.generator(1))
    if len(chosen) < len(task.failing):
        left = len(task.failing) - len(chosen)
        task.note(
            f"{len(chosen)} of {len(task.failing)} failing inputs, drawn by the seed, "
            f"went into the repair; {left} left out"
        )
    return chosen


def choose_kept(task: Task, keep: int | None) -> Split:
    """Returns at most `keep` of the passing inputs (None: all), drawn by the task's seed."""
    return draw(task.passing, keep, task.generator(2))


def draw(split: Split, most: int | None, generator: torch.Generator) -> Split:
    """Returns `most` of the split's inputs without replacement, in their order; all of them for
    None or if there are no more.
    """
    if most is None or most >= len(split):
        return split
    index = torch.randperm(len(split), generator=generator)[:most].sort().values
    return split.select(index.to(split.x.device))
