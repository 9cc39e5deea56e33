"""Which records stand where a cell was recorded more than once (docs/protocol.md): the first
finished one of each fingerprint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from airepair.records.fingerprint import CONDITIONS, Fingerprint, differences, of
from airepair.records.record import FINISHED, Record, version
from airepair.records.schema import Status

COMPARED = ("options", "data", *CONDITIONS)  # what must be equal for two numbers to be comparable
SHOWN = 10  # statuses that a remark lists one by one


def standing(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Returns the records that stand, in the order in which their cells first occur, and a remark
    per cell of which some were left out.

    Per key and fingerprint the first finished record stands; without one, the last attempt. What
    did not finish never replaces what did. Records of one key whose fingerprints differ are
    different experiments: each has its own that stands, the one that was run last as the last.
    """
    cells: dict[str, list[_Group]] = {}
    for turn, record in enumerate(records):
        groups, fingerprint = cells.setdefault(record.key, []), of(record)
        same = next((g for g in groups if g.holds(fingerprint)), None)
        if same is None:
            groups.append(_Group(record, fingerprint, turn))
        else:
            same.add(record, fingerprint, turn)
    kept = [
        group.stands for groups in cells.values() for group in sorted(groups, key=lambda group: group.turn)
    ]
    remarks = [remark for key, groups in cells.items() for remark in _remarks(key, groups)]
    return kept, remarks


class _Group:
    """The records of one cell and fingerprint: the one that stands, and of the others the statuses
    alone, so that a million of them take little memory.
    """

    def __init__(self, record: Record, fingerprint: Fingerprint, turn: int) -> None:
        self.first, self.stands, self.turn = record, record, turn
        self.fingerprints = [fingerprint]
        self.statuses, self.place = [record.status], 0

    def holds(self, fingerprint: Fingerprint) -> bool:
        """Whether nothing differs from any of its records."""
        return not any(differences(old, fingerprint) for old in self.fingerprints)

    def add(self, record: Record, fingerprint: Fingerprint, turn: int) -> None:
        """One more: it stands if none before it finished. A crash that does not say of which code it was
        makes no code the last one.
        """
        if self.stands.status not in FINISHED:
            self.stands, self.place = record, len(self.statuses)
        self.statuses.append(record.status)
        if fingerprint not in self.fingerprints:
            self.fingerprints.append(fingerprint)
        if record.status in FINISHED or "source" in fingerprint:
            self.turn = turn


def current(records: Iterable[Record]) -> list[Record]:
    """Returns, of the records of one cell that differ in nothing but the method's source or the
    subject's weights, only the last: it is of the code that there is now, however it ended.
    """
    kept: dict[str, list[Record]] = {}
    for record in records:
        others = [r for r in kept.get(record.key, []) if differences(of(r), of(record), COMPARED)]
        kept[record.key] = [*others, record]
    return [r for same in kept.values() for r in same]


def resumed(
    records: Iterable[Record], key: str, wanted: Fingerprint, kept: Collection[str] = FINISHED
) -> tuple[Record | None, list[str]]:
    """Returns the record of the cell that a resumed run keeps, or None and what has changed since
    (nothing: it did not finish).

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


def _remarks(key: str, groups: list[_Group]) -> list[str]:
    found = []
    for group in groups:
        others = [*group.statuses[: group.place], *group.statuses[group.place + 1 :]]
        if others:
            which = "the first finished one" if group.stands.status in FINISHED else "the last attempt"
            found.append(
                f"{key} was recorded {len(group.statuses)} times; {which} counts ({group.stands.status}), "
                f"left out: {_listed(others)}"
            )
    for group in groups[1:]:
        if version(group.first) != version(groups[0].first):
            continue  # every number differs then, and the report says how many it left out
        conditions = differences(groups[0].fingerprints[0], group.fingerprints[0])
        found.append(f"{key} was recorded under different conditions: {'; '.join(conditions)}")
    return found


def _listed(statuses: list[Status]) -> str:
    """The statuses one after the other; of many, how often each occurs."""
    if len(statuses) <= SHOWN:
        return ", ".join(statuses)
    return ", ".join(f"{n} {status}" for status, n in Counter(statuses).items())
