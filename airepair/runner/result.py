"""CellResult: what a cell leaves, as values that travel: the record's line and the bytes of its files.

Free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from airepair.records import Record


@dataclass(frozen=True)
class CellResult:
    """What `run_cell` leaves; who filed it, and where, is decided by its caller.

    files     path relative to the cell's own folder (`predictions.npz`) -> content
    models    path relative to the run's folder of models -> content, where the spec asks for written models
    lines     for a person: what was written of the repaired model, and why something was not
    lost      state of the process that the method changed and that cannot be put back: no other
    cell may run in this process
    """

    record: Record
    files: Mapping[str, bytes] = field(default_factory=dict)
    models: Mapping[str, bytes] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class Listener(Protocol):
    """Who hears of a cell while it runs."""

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Where training or repair is."""

    def log(self, text: str) -> None:
        """A note of the method or of the harness, as it is made."""

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """The scores before the repair: all there is of a cell whose process dies."""


class Deaf:
    """Hears nothing; whoever hears something inherits the rest."""

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Nothing."""

    def log(self, text: str) -> None:
        """Nothing."""

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """Nothing."""
