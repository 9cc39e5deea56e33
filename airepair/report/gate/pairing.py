"""The two records of each cell and seed: which can be compared, what the new ones lack, and what
differs so that they cannot be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from airepair.case import Case
from airepair.records import Record, current, read, standing, version
from airepair.records.fingerprint import differences, of
from airepair.records.right_answers import indices, unpack
from airepair.records.standing import COMPARED
from airepair.report.ordering import column_rank, method_rank
from airepair.report.statistics import Pair


@dataclass(frozen=True)
class Cell:
    """It is a method on a subject: `pairs` are (old, new) of the seeds that both repaired under the
    same conditions.

    `missing`: what the baseline repaired and the new records did not, a sentence per seed;
    `differs`: the conditions that differ, with both values. `old` says on how many seeds the
    baseline repaired it at all.
    """

    case: Case
    old: int
    pairs: tuple[tuple[Record, Record], ...]
    missing: tuple[str, ...]
    differs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Returns the data set, model and method."""
        return f"{self.case.dataset}-{self.case.model}-{self.case.method}"


def baseline(path: Path) -> tuple[list[Record], list[str]]:
    """Returns the records of a baseline and remarks on what was left out. UsageError also for an
    unfinished last line: its cell would not be judged, and the gate be green.
    """
    records, remarks = read([path], whole=True)
    return records, [f"Baseline: {r}" for r in remarks]


def cells(old: Iterable[Record], new: Iterable[Record]) -> list[Cell]:
    """Returns the cells that the baseline has, in the order of the tables; both are the `newest` records.

    `new` may have others: nobody asked about them.
    """
    first, second = _by_key(old), _by_key(new)
    places: dict[tuple[str, str, str], list[str]] = {}
    for key, records in first.items():
        case = records[0].case
        places.setdefault((case.dataset, case.model, case.method), []).append(key)
    ordered = sorted(places, key=lambda p: (*column_rank(p[:2]), *method_rank(p[2])))
    return [_cell(sorted(places[p], key=lambda k: first[k][0].case.seed), first, second) for p in ordered]


def newest(records: Iterable[Record]) -> list[Record]:
    """Returns, of those of the newest benchmark version among them, the ones that stand and are of the
    code that there is now, as in every table.
    """
    given = list(records)
    last = max(map(version, given), default=None)
    return current(standing(r for r in given if version(r) == last)[0])


def images(cell: Cell) -> list[Pair]:
    """Returns which test images the new and the old model of each seed get right; empty unless both
    records say it for every seed.
    """
    found = []
    for old, new in cell.pairs:
        before, after = old.right, new.right
        if not (before.get("after") and after.get("after")) or before["tested"] != after["tested"]:
            return []
        found.append(Pair(unpack(after["after"]), unpack(before["after"]), indices(after["tested"])))
    return found


def _by_key(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.key, []).append(record)
    return found


def _cell(keys: list[str], first: Mapping[str, list[Record]], second: Mapping[str, list[Record]]) -> Cell:
    repaired = {key: found for key in keys if (found := [r for r in first[key] if r.status == "repaired"])}
    pairs: list[tuple[Record, Record]] = []
    missing: list[str] = []
    differs: dict[str, None] = {}
    for key, olds in repaired.items():
        news = second.get(key, [])
        tried = [(old, new) for new in reversed(news) for old in reversed(olds)]  # the last of each first
        same = next((p for p in tried if not _differ(*p)), None)
        others = [p for p in tried if p[1].status == "repaired"]
        if same is not None and same[1].status == "repaired":
            pairs.append(same)
        elif same is None and others:
            differs |= dict.fromkeys(_differ(*others[0]))
        else:
            missing.append(f"seed {olds[0].case.seed} {_ended([same[1]] if same else news)}")
    if missing and len(missing) == len(repaired) and not any(k in second for k in keys):
        missing = ["it did not run"]
    return Cell(first[keys[0]][0].case, len(repaired), tuple(pairs), tuple(missing), tuple(differs))


def _differ(old: Record, new: Record) -> list[str]:
    return differences(of(old), of(new), COMPARED)  # source and weights may differ: that is the question


def _ended(records: list[Record]) -> str:
    """How a cell ended that was not repaired."""
    if not records:
        return "is gone"
    reason = " ".join(records[-1].reason.split())
    return f"was not repaired: {records[-1].status}" + (f" ({reason})" if reason else "")
