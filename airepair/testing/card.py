"""The rules of a method's class: what can be checked before anything is repaired."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from typing import Any, get_args

from airepair.errors import UsageError
from airepair.options import check_range, configure, describe
from airepair.testing.bench import Bench, violated
from airepair.types import Category, Method, Task


def card(bench: Bench) -> None:
    """The class is a frozen dataclass with `name`, `category` and `paper`, and its module has a docstring."""
    cls = bench.method
    if not frozen(cls):
        violated(
            "a method is a frozen dataclass",
            f"{cls.__name__} is not",
            "put @dataclass(frozen=True) above the class",
        )
    name = getattr(cls, "name", None)
    if (
        not isinstance(name, str)
        or not name
        or "-" in name
        or not name.isascii()
        or any(c.isspace() for c in name)
    ):
        violated(
            "`name` is a short word without hyphens or spaces (it becomes part of test ids)",
            repr(name),
            'name: ClassVar[str] = "mine"',
        )
    if getattr(cls, "category", None) not in get_args(Category):
        violated(
            "`category` is one of " + ", ".join(get_args(Category)),
            repr(getattr(cls, "category", None)),
            "take the one that fits",
        )
    if not str(getattr(cls, "paper", "")).strip():
        violated(
            "`paper` says where the method comes from",
            "nothing",
            'paper: ClassVar[str] = "Author et al., Title, Venue Year"',
        )
    if not (inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or "").strip():
        violated(
            "the module's docstring is the method's card",
            f"{cls.__module__} has none",
            "say the idea in two sentences",
        )


def frozen(cls: Any) -> bool:
    """Whether the class is a frozen dataclass."""
    parameters = getattr(cls, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def options(bench: Bench) -> None:
    """Every option has a help text and a default that its own type and range accept; unknown
    options are refused.
    """
    if not frozen(bench.method):
        return  # the card says so
    fields = {f.name: f for f in dataclasses.fields(bench.method)}  # type: ignore[arg-type]
    for option in describe(bench.method):
        label = f"{bench.method.__name__}.{option.name}"
        if option.default is dataclasses.MISSING:
            violated(
                "every option has a default",
                f"{label} has none",
                f'{option.name}: ... = option(DEFAULT, "what it means")',
            )
        if not option.help:
            violated(
                "every option has a help text",
                f"{label} has none",
                f'{option.name}: ... = option({option.default!r}, "what it means")',
            )
        try:
            again = getattr(configure(bench.method, {option.name: _as_text(option.default)}), option.name)
            check_range(option.default, fields[option.name].metadata, label)
        except UsageError as error:
            violated(
                "a default is within its own type and range",
                str(error),
                "correct the default, the type or the range",
            )
        if again != option.default:
            violated(
                "a default given as text is the default",
                f"{label}: {option.default!r} became {again!r}",
                "use int, float, bool, str, tuple",
            )
        for end in (e for e in (option.low, option.high) if e is not None):
            _refuses(
                bench.method,
                option.name,
                str(end - 1 if end == option.low else end + 1),
                f"{label} outside its range",
            )
    _refuses(bench.method, "no_such_option", "1", "an unknown option")


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _refuses(method: type[Method], name: str, value: Any, what: str) -> None:
    try:
        configure(method, {name: value})
    except UsageError:
        return
    violated(
        f"{what} is refused with a UsageError",
        f"{name}={value} was taken",
        "do not write an __init__ of your own",
    )


def no_test_split(bench: Bench) -> None:
    """A task holds no test images, so a method has none to look at; `repair` takes the task and
    nothing else.
    """
    held = [f.name for f in dataclasses.fields(Task) if "test" in f.name]
    if held:
        violated("the task has no test split", f"fields {held}", "remove them from airepair.types.Task")
    repair = getattr(bench.method, "repair", None)
    if not callable(repair):
        violated(
            "a method has a function repair(self, task)",
            "none",
            "def repair(self, task: Task) -> nn.Module: ...",
        )
    names = list(inspect.signature(repair).parameters)
    if names[1:] != ["task"]:
        violated(
            "repair(self, task) takes nothing else",
            f"repair({', '.join(names)})",
            "take data from the task, settings from options",
        )
