"""The cells that an engine has accepted and not yet run, for engines that run one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from airepair.engines.protocol import Ticket
from airepair.runner.cell import CellSpec


class Queue:
    """It holds cells in the order in which they came, each under its ticket."""

    def __init__(self) -> None:
        self.waiting: dict[Ticket, CellSpec] = {}
        self.count = 0

    def put(self, spec: CellSpec) -> Ticket:
        """Queues the cell."""
        ticket = Ticket(self.count, str(spec.case))
        self.count += 1
        self.waiting[ticket] = spec
        return ticket

    def take(self, tickets: Sequence[Ticket]) -> tuple[Ticket, CellSpec] | None:
        """Returns the first of these cells that has not run, which leaves the queue; None if all
        have run.
        """
        ticket = next((t for t in tickets if t in self.waiting), None)
        return None if ticket is None else (ticket, self.waiting.pop(ticket))

    def clear(self) -> None:
        """Forgets what has not run."""
        self.waiting.clear()
