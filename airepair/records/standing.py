"""Which records stand where a cell was recorded more than once (docs/protocol.md): the first
finished one of each fingerprint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from airepair.records.fingerprint import Fingerprint, differences, of
from airepair.records.record import FINISHED, Record, version


def standing(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The records that stand, in the order in which their cells first occur, and a remark per cell of
    which some were left out.

    Per key and fingerprint the first finished record stands; without one, the last attempt. What
    did not finish never replaces what did. Records of one key whose fingerprints differ are
    different experiments: each has its own that stands.
    """
    cells: dict[str, list[list[Record]]] = {}
    for record in records:
        groups = cells.setdefault(record.key, [])
        same = next((g for g in groups if not any(_differ(r, record) for r in g)), None)
        if same is None:
            groups.append([record])
        else:
            same.append(record)
    kept = [_stands(group) for groups in cells.values() for group in groups]
    remarks = [remark for key, groups in cells.items() for remark in _remarks(key, groups)]
    return kept, remarks


def resumed(
    records: Iterable[Record], key: str, wanted: Fingerprint, kept: Collection[str] = FINISHED
) -> tuple[Record | None, list[str]]:
    """The record of the cell that a resumed run keeps, or None and what has changed since (nothing: it
    did not finish).

    `records` are those that stand (several of one key if they were recorded under different
    conditions), `kept` the statuses that need not run again.
    """
    changes: list[str] = []
    for record in records:
        if record.key == key and record.status in kept:
            found = differences(of(record), wanted)
            if not found:
                return record, []
            changes = found
    return None, changes


def _differ(old: Record, new: Record) -> list[str]:
    return differences(of(old), of(new))


def _stands(group: list[Record]) -> Record:
    return next((r for r in group if r.status in FINISHED), group[-1])


def _remarks(key: str, groups: list[list[Record]]) -> list[str]:
    found = []
    for group in groups:
        stands = _stands(group)
        others = [r.status for r in group if r is not stands]
        if others:
            which = "the first finished one" if stands.status in FINISHED else "the last attempt"
            found.append(
                f"{key} was recorded {len(group)} times; {which} counts ({stands.status}), left out: "
                f"{', '.join(others)}"
            )
    for group in groups[1:]:
        if version(group[0]) != version(groups[0][0]):
            continue  # every number differs then, and the report says how many it left out
        found.append(
            f"{key} was recorded under different conditions: {'; '.join(_differ(groups[0][0], group[0]))}"
        )
    return found
