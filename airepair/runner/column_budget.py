"""What the methods of a column declare to use: the largest budget, to which the controls of the column train.

It follows from the registered methods, the tables of settings and the task alone, never from what
else is selected or given on a command line: so a control's cell gives the same record in every run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

from airepair.case import Case
from airepair.errors import AirepairError, one_line
from airepair.evaluation.meter import without_meter
from airepair.methods import METHODS, ON_REQUEST, build
from airepair.methods.information import control_on, present, restricted, sources_of
from airepair.settings import choose_options
from airepair.types import Meter, Method, Task


def declared(method: Method, task: Task) -> int:
    """The budget that the method declares for its part of the task, asked on a copy of the module
    that no meter counts.
    """
    return method.budget(restricted(asked(task), sources_of(method)))


def asked(task: Task) -> Task:
    """The task with another copy of the module, unmetered, and nobody who hears notes or progress."""
    silent: Callable[..., None] = lambda *_: None  # noqa: E731 - a closure of one line
    module = without_meter(copy.deepcopy(task.module))
    return replace(task, module=module, meter=Meter(), progress=silent, keep=silent, note=silent)


def column_budget(task: Task, case: Case, profile: str, control: Method) -> int:
    """The largest budget that a method of the case's column declares; the task is told which method's it is.

    Beside methods of other sources than train and failing stands a control of its own, which trains
    to the largest of these methods.
    """
    own, usual = control_on(present(task, sources_of(control))), control_on(())
    budgets: dict[str, int] = {}
    for name, method in _methods(case, profile):
        try:
            if own != usual and control_on(present(task, sources_of(method))) != own:
                continue
            budgets[name] = declared(method, task)
        except AirepairError:
            continue  # it refuses this subject, so there is nothing to stand beside
        except Exception as error:  # of another package: its own cells fail, this one goes on
            task.note(f"{name} could not say its budget: {one_line(error)}")
    largest = max(budgets, key=lambda name: budgets[name], default="")
    if largest:
        task.note(
            f"the largest budget that a method of the column declares is {budgets[largest]:,} images "
            f"({largest})"
        )
    return budgets.get(largest, 0)


def _methods(case: Case, profile: str) -> Iterator[tuple[str, Method]]:
    """The methods that the column runs by default with the options of settings.toml, controls left out."""
    for name in METHODS.names():
        if name in ON_REQUEST:
            continue
        try:
            method = build(name, choose_options(case.dataset, case.model, name, profile, {}).options)
        except AirepairError:
            continue  # what cannot be imported or built is reported by its own cells
        if method.category != "control":
            yield name, method
