"""One repair after another: the task of a step that starts from an earlier step's result.

Shared by `combined` and `best`.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from airepair.evaluation.exam import sit
from airepair.methods.information import restricted
from airepair.types import Method, Task, metered


def continued(task: Task, module: nn.Module, step: str) -> Task:
    """Returns the task with `module` in place of the subject; what fails and passes is asked of it
    anew, over the same repair split.

    Reports carry the step's name, and the meter goes on counting: costs add up. The images left of
    a limit are what is left to the step.
    """
    moved = metered(module, task.meter)
    repair = task.failing + task.passing
    right = sit(moved, repair).right.to(task.device) if len(repair) else task.failing.y.bool()
    left = None if task.limit.images is None else max(0, task.limit.images - task.meter.backward)
    return replace(
        task,
        module=moved,
        failing=repair.select(~right) if len(repair) else task.failing,
        passing=repair.select(right) if len(repair) else task.passing,
        limit=replace(task.limit, images=left),
        progress=lambda phase, number, steps, loss: task.progress(f"{step}: {phase}", number, steps, loss),
        keep=lambda phase, kept: task.keep(f"{step}: {phase}", kept),
        note=lambda text: task.note(f"{step}: {text}"),
    )


def later_budget(method: Method, task: Task) -> int:
    """What a later step may use: any input of the repair split may fail when its turn comes."""
    return method.budget(restricted(replace(task, failing=task.failing + task.passing), method.sources))
