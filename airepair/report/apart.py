"""Records that must not be averaged stand in columns and rows of their own.

Within a column profile, arithmetic and data must be one; within a row the method's options and source too.
What most records have keeps the plain name; the others are named by what differs:
`cnn[profile:paper]`, `apricot[weight:50]`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from airepair.case import Case, with_variant
from airepair.host.digest import of_parts
from airepair.records import Record, current, version
from airepair.records.fingerprint import of

CONDITIONS = ("profile", "arithmetic")  # a grid has records of one benchmark version only
PLAIN = re.compile(r"[A-Za-z0-9_.:+]{1,24}")
K = TypeVar("K", bound=Hashable)


def apart(records: Iterable[Record]) -> tuple[list[Record], tuple[str, ...]]:
    """Returns the records, those that differ from most of their column or row under a name of their
    own, and a note per difference.
    """
    notes: dict[str, None] = {}
    found: list[Record] = []
    for (dataset, model), column in _grouped(
        current(records), lambda r: (r.case.dataset, r.case.model)
    ).items():
        named = _named(column, _conditions(column), "model", f"{dataset}-{model}", notes)
        for (place, method), row in _grouped(named, lambda r: (r.case.model, r.case.method)).items():
            found += _named(row, _settings(row), "method", f"{dataset}-{place}-{method}", notes)
    return found, tuple(notes)


def _grouped(records: Iterable[Record], key: Callable[[Record], K]) -> dict[K, list[Record]]:
    found: dict[K, list[Record]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return found


def _named(
    records: Sequence[Record],
    facts: Sequence[Mapping[str, Any]],
    part: str,
    place: str,
    notes: dict[str, None],
) -> list[Record]:
    """Each record with what differs between its facts and those of most put behind that part of its case."""
    usual = _usual(facts)
    named = []
    for record, own in zip(records, facts, strict=True):
        differs = {k: v for k, v in own.items() if v != usual.get(k, v)}
        if not differs:
            named.append(record)
            continue
        label = ",".join(f"{name}:{_word(value)}" for name, value in sorted(differs.items()))
        case = dataclasses.replace(record.case, **_renamed(record.case, part, label))
        named.append(dataclasses.replace(record, case=case))
        words = "; ".join(
            f"{name} {_word(usual[name])} and {_word(value)}" for name, value in sorted(differs.items())
        )
        notes[f"{place} was recorded with {words}: [{label}] stands apart"] = None
    return named


def _renamed(case: Case, part: str, label: str) -> dict[str, Any]:
    """The part of the case with the label: a method's beside the variant that it has."""
    if part == "method":
        return {part: with_variant(case.base_method, ",".join(filter(None, (case.variant, label))))}
    return {part: f"{case.model}[{label}]"}


def _usual(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What most have, all facts together first: of equally many the first in the alphabet, whatever
    order they came in.
    """
    known = [f for f in facts if f]
    counted = Counter(_text(f) for f in known)
    ordered = sorted(known, key=lambda f: (-counted[_text(f)], _text(f)))
    usual: dict[str, Any] = {}
    for own in ordered:
        for name, value in own.items():
            usual.setdefault(name, value)
    return usual


def _conditions(column: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each record profile, arithmetic, and the digest of its data if another record has another."""
    parts = [of(r) for r in column]
    data = _foreign(column, parts)
    return [{k: p[k] for k in CONDITIONS if k in p} | data.get(i, {}) for i, p in enumerate(parts)]


def _foreign(column: Sequence[Record], parts: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Index of a record -> "data" and its digest, or "" if it is the usual one; from version 2 on
    each seed has its own splits.
    """
    found: dict[int, dict[str, Any]] = {}
    groups: dict[int | None, list[int]] = {}
    for i, (record, part) in enumerate(zip(column, parts, strict=True)):
        if "data" in part:
            groups.setdefault(record.case.seed if version(record) > 1 else None, []).append(i)
    for indices in groups.values():
        usual = _usual([parts[i]["data"] for i in indices])
        for i in indices:
            differs = {k: v for k, v in parts[i]["data"].items() if v != usual.get(k)}
            found[i] = {"data": next((f"{k}.{v[:8]}" for k, v in sorted(differs.items(), reverse=True)), "")}
    return found


def _settings(row: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each record its options, and the digest of the method's source."""
    parts = [of(r) for r in row]
    return [{**p.get("options", {}), **({"source": p["source"][:8]} if "source" in p else {})} for p in parts]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _word(value: Any) -> str:
    """A value as a part of a case's name may hold it; the beginning of its digest if it is long or
    has other letters.
    """
    text = (value if isinstance(value, str) else _text(value)).replace("-", "m") or "usual"
    return text if PLAIN.fullmatch(text) else of_parts([text.encode("utf-8", "replace")])[:8]
