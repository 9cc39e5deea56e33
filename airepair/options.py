"""Options of a method: the fields of its frozen dataclass, parsed from text and checked, never `eval`ed."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from airepair.errors import UsageError, choose

T = TypeVar("T")
# Sources of a default that are no publication, in the words of `airepair list methods` and of the
# methods' pages.
SOURCES = {
    "validation": "chosen on validation",
    "budget": "a limit of time or size",
    "form": "one of several published forms, or a rule of the benchmark",
    "control": "for a control",
    "open": "not stated by any publication; `airepair tune` searches it",
}


@dataclass(frozen=True)
class Space:
    """Holds the range that a tuner may search: `choices`, or `low`..`high` (on a logarithmic scale
    if `log`).
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        """As a card shows it: `0.0001..0.3, logarithmic` or `32, 64, 128`."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        return f"{self.low}..{self.high}" + (", logarithmic" if self.log else "")


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    source: str = "",
    tune: Space | None = None,
) -> Any:
    """Returns a field of a method: its default, what it means, the accepted range (both ends
    included), its search space, and `source`.

    `source` says where the default comes from: the paper or its public code, or a word of SOURCES.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "source": source, "tune": tune}
    )


@dataclass(frozen=True)
class Option:
    """What `airepair list methods` shows of one option."""

    name: str
    type: str
    default: Any
    help: str
    low: float | None
    high: float | None
    source: str
    tune: Space | None


def describe(method: type) -> list[Option]:
    """Returns the options of a method's class, in the order of its fields."""
    hints = typing.get_type_hints(method)
    return [
        Option(
            f.name,
            type_name(hints[f.name]),
            f.default,
            f.metadata.get("help", ""),
            f.metadata.get("low"),
            f.metadata.get("high"),
            f.metadata.get("source", ""),
            f.metadata.get("tune"),
        )
        for f in dataclasses.fields(method)
    ]


def type_name(hint: Any) -> str:
    """Returns a type as a person reads it: `int`, `one of a|b`, `float or none`."""
    if get_origin(hint) is Literal:
        return "one of " + "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_name(a) for a in get_args(hint))
    if get_origin(hint) is tuple:
        return f"{type_name(get_args(hint)[0])},..."
    return "none" if hint is type(None) else str(getattr(hint, "__name__", hint))


def configure(method: type[T], given: Mapping[str, Any], name: str = "") -> T:
    """Returns the method with the given options (text or values).

    UsageError for an unknown option, a wrong type or a value out of range.
    """
    label = name or str(getattr(method, "name", method.__name__))
    hints = typing.get_type_hints(method)
    fields = {f.name: f for f in dataclasses.fields(method)}  # type: ignore[arg-type]
    values = {}
    for key, raw in given.items():
        choose(f"option of {label}", key, list(fields))
        value = convert(raw, hints[key], f"{label}.{key}")
        check_range(value, fields[key].metadata, f"{label}.{key}")
        values[key] = value
    return method(**values)


def check_range(value: Any, metadata: Mapping[str, Any], label: str) -> None:
    """Raises UsageError if a number (or one of a tuple) lies outside `low`..`high`."""
    low, high = metadata.get("low"), metadata.get("high")
    for v in value if isinstance(value, tuple) else (value,):
        if isinstance(v, bool) or not isinstance(v, (int, float)):
            continue
        if not math.isfinite(v) or (low is not None and v < low) or (high is not None and v > high):
            ends = f"{'-inf' if low is None else low}..{'inf' if high is None else high}"
            raise UsageError(f"{label}={v} is out of range; accepted: {ends}")


def convert(raw: Any, hint: Any, label: str) -> Any:
    """Returns `raw` (text or a value) as the type `hint`; UsageError if it is not one."""
    if get_origin(hint) in (Union, types.UnionType):
        return _convert_union(raw, get_args(hint), label)
    if get_origin(hint) is Literal:
        accepted = get_args(hint)
        return {str(a): a for a in accepted}[
            choose(f"value of {label}", str(raw), [str(a) for a in accepted])
        ]
    if get_origin(hint) is tuple:
        parts = [p for p in raw.replace(" ", "").split(",") if p] if isinstance(raw, str) else list(raw)
        return tuple(convert(p, get_args(hint)[0], label) for p in parts)
    try:
        if hint is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                str(raw).lower()
            ]
        if hint is int and not (isinstance(raw, float) and not raw.is_integer()):
            return int(raw)
        if hint is float:
            return float(raw)
        if hint is str:
            return str(raw)
    except (KeyError, ValueError, TypeError, OverflowError):
        pass
    raise UsageError(f"{label}={raw!r} is not of the accepted type: {type_name(hint)}")


def _convert_union(raw: Any, hints: tuple[Any, ...], label: str) -> Any:
    if type(None) in hints and (raw is None or str(raw).lower() in ("none", "auto", "")):
        return None
    errors = []
    for hint in (h for h in hints if h is not type(None)):
        try:
            return convert(raw, hint, label)
        except UsageError as error:
            errors.append(error)
    raise errors[0]


def split_assignment(text: str) -> tuple[str, str, str]:
    """Splits `method.option=value` into its three parts; UsageError otherwise."""
    target, equals, value = text.partition("=")
    method, dot, name = target.strip().partition(".")
    if not (equals and dot and method and name):
        raise UsageError(
            f"{text!r} is not a setting; accepted: METHOD.OPTION=VALUE, for example apricot.lr=0.005"
        )
    return method, name, value.strip()
