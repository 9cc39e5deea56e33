"""Finds the records of a cell in a file that grows: by the key at the head of each line, so that
only those lines are decoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from airepair.errors import UsageError
from airepair.records.files import append
from airepair.records.fingerprint import Fingerprint
from airepair.records.record import FINISHED, Record
from airepair.records.standing import current, resumed, standing

HEAD = re.compile(rb'\s*\{"schema": ?\d+, ?"key": ?("(?:[^"\\]|\\.)*")')


class Lookup:
    """Finds the records of a file by key. Each look reads what was appended since the last one."""

    def __init__(self, file: Path) -> None:
        self.file, self.end = file, 0
        self.places: dict[str, list[int]] = {}

    def of(self, key: str) -> list[Record]:
        """Returns the records of that key that stand; none if there is no file.

        A line that is no record counts for nothing here.
        """
        found = []
        with suppress(FileNotFoundError), self.file.open("rb") as stream:
            stream.seek(self.end)
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # somebody is writing it, or died in it
                self.places.setdefault(_key(line), []).append(self.end)
                self.end += len(line)
            for place in self.places.get(key, ()):
                stream.seek(place)
                with suppress(UsageError):
                    found.append(Record.from_json(stream.readline().strip()))
        return standing(found)[0]

    def resume(
        self, key: str, wanted: Callable[[], Fingerprint], statuses: Collection[str] = FINISHED
    ) -> tuple[Record | None, list[str]]:
        """Returns what `resumed` does; `wanted` is only asked if there is a record.

        A kept record that another code has run after is filed again, as the last one: reports take
        the last one for that of the code that there is now.
        """
        found = self.of(key)
        record, changes = resumed(found, key, wanted(), statuses) if found else (None, [])
        if record is not None and record not in current(found):
            append(self.file, record)
        return record, changes


def _key(line: bytes) -> str:
    """The line's key; "" if it has none."""
    head = HEAD.match(line)
    try:
        return str(json.loads(head[1]) if head else Record.from_json(line.strip()).key)
    except (UsageError, ValueError):
        return ""
