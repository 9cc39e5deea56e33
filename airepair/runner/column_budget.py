"""What the methods of a column declare to use: the largest budget, to which the controls of the column train.

It follows from the registered methods, the tables of settings and the task alone, never from what
else is selected or given on a command line: so a control's cell gives the same record in every run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from weakref import ref

from airepair.case import control_on
from airepair.errors import AirepairError, one_line
from airepair.host.tensor_cache import digest_of, digest_of_module
from airepair.methods import METHODS, ON_REQUEST, build
from airepair.methods.information import present, restricted, sources_of
from airepair.runner.cell import CellSpec
from airepair.settings import choose_options
from airepair.types import Meter, Method, Task, without_meter


def declared(method: Method, task: Task) -> int:
    """Returns the budget that the method declares for its part of the task, asked on a copy of the
    module that no meter counts. ValueError if it is no number of images: no record can hold it.
    """
    said = method.budget(restricted(silent_task(task), sources_of(method)))
    if int(said) != said or said < 0:
        raise ValueError(f"budget(task) is {said}; accepted: a whole number of images, at least 0")
    return int(said)


def silent_task(task: Task) -> Task:
    """Returns the task with another copy of the module, unmetered, and nobody who hears notes or
    progress.
    """
    silent: Callable[..., None] = lambda *_: None  # noqa: E731 - a closure of one line
    module = without_meter(copy.deepcopy(task.module))
    return replace(task, module=module, meter=Meter(), progress=silent, keep=silent, note=silent)


def column_budget(task: Task, spec: CellSpec, control: Method) -> int:
    """Returns the largest budget that a method of the cell's column declares, with the options that
    its own cell would get; `task` gets the method's name.

    Beside methods of other sources than train and failing stands a control of its own, which trains
    to the largest of these methods.
    """
    own, usual = control_on(present(task, sources_of(control))), control_on(())
    column = Column(
        (spec.data, spec.settings_model, spec.profile),
        own if own != usual else "",
        tuple(METHODS.places().items()),
        _contents(task),
        ref(task),
    )
    budgets, remarks = _declared_in(column)
    for text in remarks:
        task.note(text)
    largest = max(budgets, key=lambda name: budgets[name], default="")
    if largest:
        task.note(
            f"the largest budget that a method of the column declares is {budgets[largest]:,} images "
            f"({largest})"
        )
    return budgets.get(largest, 0)


@dataclass(frozen=True)
class Column:
    """It holds what the declared budgets depend on: names, the control whose methods count ("" for
    all), the registered methods, and what a method sees of the task.

    The task itself is no part of the key, and is not kept alive: its images would fill the memory.
    """

    names: tuple[str, str, str]
    control: str
    methods: tuple[tuple[str, str], ...]
    contents: tuple[Hashable, ...]
    task: ref[Task] = field(compare=False)


def _contents(task: Task) -> tuple[Hashable, ...]:
    """The task as a value: digests of its tensors, and the rest of what a budget may depend on."""
    splits = (task.train, task.failing, task.passing, task.validation, task.pool, task.held_out)
    modules = {"": task.module, **task.checkpoints}
    return (
        str(task.module),
        *((name, digest_of_module(module)) for name, module in modules.items()),
        *(None if split is None else split.digest() for split in splits),
        digest_of({"unlabelled": task.unlabelled}),
        (task.classes, task.groups, task.robustness, task.recipe, task.seed, task.limit, task.environment),
    )


@lru_cache(maxsize=64)
def _declared_in(column: Column) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Method -> its budget, and what is to be noted. Every method of the column is asked, so the
    answers are kept: each control of the column wants them.
    """
    task = column.task()
    assert task is not None
    budgets: dict[str, int] = {}
    remarks: list[str] = []
    for name, method in _methods(*column.names):
        try:
            if column.control and control_on(present(task, sources_of(method))) != column.control:
                continue
            budgets[name] = declared(method, task)
        except AirepairError:
            continue  # it refuses this subject, so there is nothing to stand beside
        except Exception as error:  # of another package: its own cells fail, this one goes on
            remarks.append(f"{name} could not say its budget: {one_line(error)}")
    return budgets, tuple(remarks)


def _methods(dataset: str, model: str, profile: str) -> Iterator[tuple[str, Method]]:
    """The methods that the column runs by default with the options of settings.toml, controls left out."""
    for name in METHODS.names():
        if name in ON_REQUEST:
            continue
        try:
            method = build(name, choose_options(dataset, model, name, profile, {}).options)
        except AirepairError:
            continue  # what cannot be imported or built is reported by its own cells
        if method.category != "control":
            yield name, method
