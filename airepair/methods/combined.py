"""a+b: combined repair, the future work of the AIREPAIR paper (III-C): `apricot+dl2` runs one method
after the other.

Idea: methods complement each other, so the second starts from the first's result. Which inputs fail
is asked anew before each step, over the same repair split; validation and test stay where they are;
costs add up; each step's state is handed in under its name.

Changes what its steps change, refuses what one of them refuses. Every option of a step is an option
here, as `<method>_<option>`, for example `--set apricot+dl2.dl2_epochs=10`; the defaults are the
steps' own.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.methods.handover import continued, later_budget
from airepair.methods.information import restricted
from airepair.training.best_state import chooses
from airepair.types import Category, Method, Source, Task


@dataclass(frozen=True)
class Combination:
    """The steps, in order. `combine` makes a class with their options."""

    name: ClassVar[str]
    category: ClassVar[Category]
    paper: ClassVar[str] = "AIREPAIR III-C (future work): combined repair"
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]]
    steps: ClassVar[tuple[type[Method], ...]]

    def methods(self) -> list[Method]:
        """Returns the methods with their options."""
        return [
            step(**{f.name: getattr(self, f"{step.name}_{f.name}") for f in _fields(step)})
            for step in self.steps
        ]

    @property
    def sources(self) -> frozenset[Source]:
        """What one of its steps learns from, and what passes: each step asks anew which inputs fail."""
        return frozenset[Source](("failing", "passing")).union(*(method.sources for method in self.methods()))

    @property
    def chooses(self) -> bool:
        """Whether one of its steps keeps one of several states."""
        return any(map(chooses, self.methods()))

    def budget(self, task: Task) -> int:
        """What its steps may use together; the later ones whatever fails when their turn comes."""
        first, *later = self.methods()
        return first.budget(restricted(task, first.sources)) + sum(
            later_budget(method, task) for method in later
        )

    def repair(self, task: Task) -> nn.Module:
        """Returns the result of the last step."""
        module = task.module
        for number, method in enumerate(self.methods(), 1):
            if number > 1:
                task.keep(f"after {self.steps[number - 2].name}", module)
            try:
                module = method.repair(restricted(continued(task, module, method.name), method.sources))
            except Unsupported as error:
                raise Unsupported(f"step {number}, {method.name}: {error}") from error
        return module


def _fields(step: type[Method]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(step)  # type: ignore[arg-type]


def combine(steps: Sequence[type[Method]]) -> type[Method]:
    """Returns the method that runs `steps` one after the other; UsageError if fewer than two or
    twice the same are given.
    """
    names = [step.name for step in steps]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            f"{'+'.join(names)!r} is not a combination; accepted: two or more different methods, "
            f"for example apricot+dl2"
        )
    fields: list[Any] = [
        (
            f"{step.name}_{f.name}",
            typing.get_type_hints(step)[f.name],
            dataclasses.field(default=f.default, metadata=f.metadata),
        )
        for step in steps
        for f in _fields(step)
    ]
    strongest = max((step.category for step in steps), key=get_args(Category).index)
    namespace: dict[str, Any] = {
        "name": "+".join(names),
        "category": strongest,
        "steps": tuple(steps),
        "ablations": {
            f"{step.name}_{name}": {f"{step.name}_{k}": v for k, v in options.items()}
            for step in steps
            for name, options in step.ablations.items()
        },
        "__doc__": f"{' then '.join(names)}.",
    }
    made: Any = dataclasses.make_dataclass(
        "_".join(names),
        fields,
        bases=(Combination,),
        namespace={**namespace, "__module__": __name__},
        frozen=True,
    )
    found: type[Method] = made
    return found
