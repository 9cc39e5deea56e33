"""What cells on other machines report while they run, kept beside the controller.

Free of torch: its process imports nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Report = Mapping[str, Any]


class Bulletin:
    """It holds the newest report per cell: where it runs, its scores before the repair, its progress."""

    def __init__(self) -> None:
        self.reports: dict[str, dict[str, Any]] = {}
        self.news: set[str] = set()

    def put(self, key: str, report: Report) -> None:
        """Adds to the cell's report; a new attempt (it names its `node`) begins a new one."""
        if "node" in report:
            self.reports[key] = {}
        self.reports.setdefault(key, {}).update(report)
        self.news.add(key)

    def changed(self) -> dict[str, Report]:
        """The reports that have changed since the last call."""
        found: dict[str, Report] = {key: dict(self.reports[key]) for key in self.news}
        self.news.clear()
        return found

    def forget(self, key: str) -> None:
        """The cell has ended."""
        self.reports.pop(key, None)
        self.news.discard(key)


def lives() -> bool:
    """Returns True: a node that is asked this and answers lives."""
    return True
