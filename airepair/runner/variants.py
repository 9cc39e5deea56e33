"""The variants of a method that have a name: what the brackets behind it (`apricot[random_sets]`)
change of its options.

ablations  every method's own (`ablations` of its class): its idea alone is off
sources    `finetune[failing+passing]`: the control that learns from these sources
tuned      the options that `airepair tune` found (airepair/settings.py reads them)

Any other variant, such as the value of a sweep (`dl2[weight:0.2]`), comes with the options that a
user gave. Free of torch until a variant is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airepair.case import CONTROL, SOURCES, TUNED, USUAL, control_on, split_variant, with_variant
from airepair.errors import AirepairError, UsageError
from airepair.methods import METHODS
from airepair.methods.information import sources_of
from airepair.settings import Chosen


def ablations(method: str) -> Mapping[str, Mapping[str, Any]]:
    """Maps each name to the options of a method's ablations; none for a class that cannot be imported:
    its own cell says why.
    """
    try:
        return dict(METHODS.get(method).ablations)
    except AirepairError:
        return {}


def is_foreign(method: str) -> bool:
    """Whether a step of the method is somebody else's code: a plug-in or an external tool."""
    return any(step not in METHODS.builtin for step in method.split("+"))


def check(name: str) -> str:
    """Returns `METHOD` or `METHOD[VARIANT]` if there is such a method and it has a variant of that
    name; UsageError otherwise.
    """
    method, variant = split_variant(name)
    METHODS.check(method)
    if variant and variant != TUNED and not _changes(method, variant):
        known = [with_variant(method, v) for v in (*ablations(method), TUNED)]
        known += ["finetune[SOURCE+SOURCE...]"] if method == CONTROL else []
        raise UsageError(
            f"{name!r}: {method} has no variant {variant!r}; accepted: {method}, {', '.join(known)}"
        )
    return name


def applied(chosen: Chosen, method: str, variant: str) -> Chosen:
    """Returns the options of a cell with what its variant changes of them."""
    own = _changes(method, variant)
    return Chosen({**chosen.options, **own}, {**chosen.origins, **dict.fromkeys(own, f"variant {variant}")})


def _changes(method: str, variant: str) -> Mapping[str, Any]:
    """Option -> value of a named variant; empty for any other."""
    if not variant or variant == TUNED:
        return {}
    parts = tuple(variant.split("+"))
    if method == CONTROL and set(parts) <= set(SOURCES):
        return {"learn_from": parts}
    return ablations(method).get(variant, {})


def controls(methods: Iterable[str], *, environment: bool) -> list[str]:
    """Returns the variants of the control that stand beside these methods, `finetune` itself left
    out.

    `environment`: whether the subjects have one. No subject of the grid has a pool.
    """
    found = set()
    for name in methods:
        try:
            method = METHODS.get(name)()
            sources = sources_of(method) - {"pool"} - (set() if environment else {"environment"})
        except AirepairError:
            continue  # its own cell says why
        if method.category != "control" and not sources <= USUAL:
            found.add(split_variant(control_on(sources))[1])
    return sorted(found)
