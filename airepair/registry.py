"""Names to things: built-in lines, entry points of installed packages, and `package.module:Name`
given by hand.

Places are text and are imported when asked for, so that the grid and the reports know every name
without importing torch.
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
    return tuple(
        sorted(entry_points(group=group), key=lambda e: (e.name, e.dist.name if e.dist else "", e.value))
    )


def installed_points(group: str) -> tuple[EntryPoint, ...]:
    """Returns the entry points of a group, by name.

    Reading every distribution's metadata is slow, so it is done once for each sys.path.
    """
    return _points(group, tuple(sys.path))


class Registry:
    """Finds the things of one kind ("method"); `group` is the entry-point group in which other packages
    register theirs.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind, self.group, self.builtin = kind, group, dict(builtin)

    def places(self) -> dict[str, str]:
        """Maps each name to "module:attribute", built-in ones first; a built-in name cannot be taken by
        another package.
        """
        installed = {
            e.name: e.value for e in reversed(installed_points(self.group))
        }  # of two packages the first counts
        return self.builtin | {k: installed[k] for k in sorted(installed) if k not in self.builtin}

    def names(self) -> list[str]:
        """Returns every registered name."""
        return list(self.places())

    def check(self, name: str) -> str:
        """Returns `name` if it is registered or a "module:attribute"; UsageError that lists the
        names otherwise.
        """
        return name if ":" in name else choose(self.kind, name, self.names())

    def get(self, name: str) -> Any:
        """Returns the thing of that name, imported now; UsageError if it is unknown or its
        import fails.
        """
        place = name if ":" in name else self.places()[self.check(name)]
        module, _, attribute = place.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (
            Exception,
            SystemExit,
        ) as error:  # a module that exits when it is imported must not end the run
            raise UsageError(
                f"{self.kind} {name!r} ({place}) cannot be imported: {one_line(error)}"
            ) from error
        if wrong := self.problem(found):
            raise UsageError(f"{self.kind} {name!r} ({place}) cannot be used: {wrong}")
        return found

    def problem(self, found: Any) -> str:
        """Returns why what was imported is none of this kind ("" if it is one)."""
        return "" if callable(found) else f"it is {type(found).__name__}; accepted: a function (docs/)"

    def ignored(self) -> dict[str, str]:
        """Returns the entry points that count for nothing, with the reason: their name is built in,
        or another package's that comes first.
        """
        found, taken = {}, dict.fromkeys(self.builtin, "this project's own")
        for point in installed_points(self.group):
            package = point.dist.name if point.dist else point.value
            if point.name in taken:
                found[f"{point.name} of {package}"] = (
                    f"{self.kind} {point.name!r} of {package} is ignored: the name is {taken[point.name]}"
                )
            taken.setdefault(point.name, f"that of {package}")
        return found

    def broken(self) -> dict[str, str]:
        """Returns the registered names whose import fails, with the reason, and the ignored ones; the
        others stay usable.
        """
        reasons = self.ignored()
        for name in self.names():
            try:
                self.get(name)
            except UsageError as error:
                reasons[name] = str(error)
        return reasons
