"""Joins the records of several folders (shards of a cluster, machines), and finds what contradicts.
Free of torch.

Two records of one column must be of one benchmark version, arithmetic, kind of device and versions;
two of one column and seed of one subject and one data; two of one cell of one experiment with one
result. What a record does not say is unknown, and unknown contradicts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airepair.cli.verification.answers import contradictions
from airepair.records import FINISHED, Found, Record, version
from airepair.records.fingerprint import differences, of

Prefer = Literal["last", "best"]


@dataclass(frozen=True)
class Shard:
    """It is a folder and the records that stand in it."""

    folder: Path
    found: Found


@dataclass(frozen=True)
class Entry:
    """It is a record and the place of its shard among those that are merged; `number` counts the entries."""

    shard: int
    record: Record
    number: int = 0


@dataclass
class Merged:
    """What is kept, one entry per cell; what contradicts, a sentence each; what was left out for that."""

    entries: list[Entry]
    conflicts: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def _provenance(name: str) -> Callable[[Record], Any]:
    return lambda record: record.provenance.get(name)


def _version(name: str) -> Callable[[Record], Any]:
    return lambda record: record.provenance.get("versions", {}).get(name)


COLUMN: Mapping[str, Callable[[Record], Any]] = {
    "benchmark version": version,
    "arithmetic": _provenance("arithmetic"),
    "kind of device": _provenance("device_kind"),
    "version of torch": _version("torch"),
    "version of airepair": _version("airepair"),
    "profile": _provenance("profile"),
}
SUBJECT: Mapping[str, Callable[[Record], Any]] = {
    "weights of the subject": lambda record: record.subject.get("weights"),
    "data": lambda record: record.subject.get("data"),
}


def merged(shards: list[Shard], prefer: Prefer | None = None) -> Merged:
    """Returns one record per cell. Of what contradicts, `prefer` keeps a side, and without it both
    stay and are named.

    "last" keeps the side of the shard that was named last, "best" the side with more finished
    records (on a tie the one that was named first): never the better score.
    """
    pairs = [(i, record) for i, shard in enumerate(shards) for record in shard.found.records]
    found = Merged([Entry(i, record, number) for number, (i, record) in enumerate(pairs)])
    for name, fact in COLUMN.items():
        _settle(found, shards, prefer, name, fact, lambda r: (r.case.dataset, r.case.model))
    for name, fact in SUBJECT.items():
        _settle(
            found, shards, prefer, name, fact, lambda r: (r.case.dataset, r.case.model, f"s{r.case.seed}")
        )
    _settle_cells(found, shards, prefer)
    return found


def broken(shards: Iterable[Shard]) -> list[str]:
    """Returns lines that are no records, and records that their own files contradict."""
    return [
        line
        for shard in shards
        for line in (
            *shard.found.refused,
            *(
                f"{r.key} in {shard.folder}: {said}"
                for r in shard.found.records
                for said in contradictions(r, shard.folder)
            ),
        )
    ]


def _settle(
    found: Merged,
    shards: list[Shard],
    prefer: Prefer | None,
    name: str,
    fact: Callable[[Record], Any],
    group: Callable[[Record], tuple[str, ...]],
) -> None:
    """Within each group all records that state the fact must state the same."""
    groups: dict[tuple[str, ...], dict[str, list[Entry]]] = {}
    for entry in found.entries:
        value = fact(entry.record)
        if value is not None and value != {}:
            groups.setdefault(group(entry.record), {}).setdefault(
                json.dumps(value, sort_keys=True), []
            ).append(entry)
    gone: set[int] = set()
    for place, sides in groups.items():
        if len(sides) > 1:
            words = (f"{_short(value)} in {_folders(side, shards)}" for value, side in sides.items())
            conflict = f"{'-'.join(place)}: {name}: {', '.join(words)}"
            gone |= _losers(found, list(sides.values()), prefer, conflict)
    _drop(found, gone)


def _settle_cells(found: Merged, shards: list[Shard], prefer: Prefer | None) -> None:
    """Several records of a cell: what did not finish gives way, equal ones are one, others contradict."""
    cells: dict[str, list[Entry]] = {}
    for entry in found.entries:
        cells.setdefault(entry.record.key, []).append(entry)
    gone: set[int] = set()
    for key, entries in cells.items():
        finished = [e for e in entries if e.record.status in FINISHED] or entries[-1:]
        sides: list[list[Entry]] = []
        for entry in finished:
            same = next((side for side in sides if not _contradiction(side[0].record, entry.record)), None)
            sides.append([entry]) if same is None else same.append(entry)
        if len(sides) > 1:
            why = _contradiction(sides[0][0].record, sides[1][0].record)
            where = ", ".join(_folders(side, shards) for side in sides)
            gone |= _losers(found, sides, prefer, f"{key}: {why} ({where})")
        gone |= {e.number for e in entries} - {side[0].number for side in sides}
    _drop(found, gone)


def _drop(found: Merged, gone: set[int]) -> None:
    """Without these entries, all at once: one pass per cell would take hours with 10,000 of them."""
    found.entries = [entry for entry in found.entries if entry.number not in gone]


def _contradiction(one: Record, other: Record) -> str:
    """Why two finished records of a cell cannot both be right; "" if they can."""
    if changes := differences(of(one), of(other)):
        return "; ".join(changes)
    if one.status != other.status:
        return f"{one.status}, {other.status}"
    name = next((n for n in one.after if n in other.after and one.after[n] != other.after[n]), None)
    return f"{name} is {one.after[name]:.6g}, {other.after[name]:.6g}" if name else ""


def _losers(found: Merged, sides: list[list[Entry]], prefer: Prefer | None, conflict: str) -> set[int]:
    """The entries of all sides but one; none, and the conflict is named, if nothing is preferred."""
    if prefer is None:
        found.conflicts.append(conflict)
        return set()

    def rank(side: list[Entry]) -> tuple[int, int]:
        if prefer == "last":
            return max(e.shard for e in side), 0
        return sum(e.record.status in FINISHED for e in side), -min(e.shard for e in side)

    kept = max(sides, key=rank)
    losers = [e for side in sides if side is not kept for e in side]
    found.left_out.append(f"{conflict}; left out: {', '.join(sorted({e.record.key for e in losers}))}")
    return {e.number for e in losers}


def _folders(side: list[Entry], shards: list[Shard]) -> str:
    names = list(dict.fromkeys(str(shards[e.shard].folder) for e in side))
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _short(value: str) -> str:
    return value if len(value) < 20 else f"{value[:16]}..."
