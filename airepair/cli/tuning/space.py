"""What may be searched: the ranges that stand in a method's options, as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airepair.errors import Unavailable, UsageError
from airepair.methods import METHODS
from airepair.options import Option, Space, describe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def require_optuna() -> None:
    """Raises Unavailable, with the command that installs it, if Optuna is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise Unavailable('airepair tune needs Optuna: pip install "airepair[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def space_of(method: str, only_open: bool = False) -> dict[str, Option]:
    """Returns the method's options that have a range to search, by name; `only_open`: of these,
    those for which no publication states a value.

    UsageError if there is none.
    """
    options = describe(METHODS.get(method))
    found = {o.name: o for o in options if o.tune is not None and (o.source == "open" or not only_open)}
    if not found:
        which = "range for an open option" if only_open else "range"
        has = (
            f"its options {', '.join(o.name for o in options)} state no {which}"
            if options
            else "it has no options"
        )
        raise UsageError(
            f"method {method!r} has an empty tuning space: {has}; accepted: a method with option(..., "
            f"tune=Space(...))"
        )
    for name, option in found.items():
        _check(f"{method}.{name}", option)
    return found


def _check(label: str, option: Option) -> None:
    space = option.tune
    assert space is not None
    ends = (space.low, space.high)
    if not space.choices and (None in ends or not ends[0] < ends[1] or (space.log and ends[0] <= 0)):  # type: ignore[operator]
        raise UsageError(
            f"{label} has an empty tuning space {ends}; accepted: choices, or low < high (above 0 on a "
            f"logarithmic scale)"
        )
    numbers = [v for v in (*space.choices, *ends) if isinstance(v, int | float) and not isinstance(v, bool)]
    if any(
        (option.low is not None and v < option.low) or (option.high is not None and v > option.high)
        for v in numbers
    ):
        raise UsageError(
            f"{label}: its tuning space {numbers} leaves the accepted range {option.low}..{option.high}"
        )


def whole(option: Option) -> bool:
    """Whether the option takes whole numbers."""
    return option.type.split(" or ")[0] == "int"


def distributions(options: Mapping[str, Option]) -> dict[str, BaseDistribution]:
    """Returns Optuna's form of the ranges."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for name, option in options.items():
        space = option.tune or Space()
        if space.choices:
            found[name] = CategoricalDistribution(space.choices)
        elif whole(option):
            found[name] = IntDistribution(int(space.low or 0), int(space.high or 0), log=space.log)
        else:
            found[name] = FloatDistribution(float(space.low or 0), float(space.high or 0), log=space.log)
    return found


def nearest(value: Any, option: Option) -> Any:
    """Returns the point of the range that is nearest to a default: itself where it lies inside; the
    middle where the default is decided at run time.
    """
    space = option.tune or Space()
    if space.choices:
        return value if value in space.choices else space.choices[0]
    low, high = float(space.low or 0), float(space.high or 0)
    if value is None:
        value = math.sqrt(low * high) if space.log else (low + high) / 2
    inside = min(max(float(value), low), high)
    return round(inside) if whole(option) else inside
