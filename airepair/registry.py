"""Names to things: built-in lines, entry points of installed packages, and `package.module:Name` given by hand.

Places are text and are imported when asked for, so that the grid and the reports know every name without importing torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from airepair.errors import UsageError, choose, one_line


@cache
def _points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda e: e.name))


def installed_points(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, by name. Reading every distribution's metadata is slow, so it is done once for each sys.path."""
    return _points(group, tuple(sys.path))


class Registry:
    """The things of one kind ("method"); `group` is the entry-point group in which other packages register theirs."""

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind, self.group, self.builtin = kind, group, dict(builtin)

    def places(self) -> dict[str, str]:
        """Name -> "module:attribute", built-in ones first; a built-in name cannot be taken by another package."""
        installed = {e.name: e.value for e in installed_points(self.group)}
        return self.builtin | {k: v for k, v in installed.items() if k not in self.builtin}

    def names(self) -> list[str]:
        """Every registered name."""
        return list(self.places())

    def check(self, name: str) -> str:
        """`name` if it is registered or a "module:attribute"; UsageError that lists the names otherwise."""
        return name if ":" in name else choose(self.kind, name, self.names())

    def get(self, name: str) -> Any:
        """The thing of that name, imported now; UsageError where it is unknown or its import fails."""
        place = name if ":" in name else self.places()[self.check(name)]
        module, _, attribute = place.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:
            raise UsageError(f"{self.kind} {name!r} ({place}) cannot be imported: {one_line(error)}") from error
        return found

    def broken(self) -> dict[str, str]:
        """The registered names whose import fails, with the reason; the others stay usable."""
        reasons = {}
        for name in self.names():
            try:
                self.get(name)
            except UsageError as error:
                reasons[name] = str(error)
        return reasons
