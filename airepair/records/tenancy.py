"""Who writes into a folder of records: one run, or several that share it (`--join`).

The lock is the kernel's (flock), so that of a dead process is free. Every process that files
records holds it shared, the workers of a run too: a run that was killed has left the folder when
its last process has ended.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path

from airepair.errors import UsageError
from airepair.host.digest import of_text

LOCK, CELLS = ".run.lock", ".cells.lock"
PATIENCE = 5.0  # seconds for the processes of a killed run to end


class Tenancy:
    """Holds a process's part in a folder; given up when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handle, self.cells = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644) for name in (LOCK, CELLS)
        )

    def alone(self, seconds: float = PATIENCE) -> None:
        """Nobody else is there until `share`. UsageError that names the other run after `seconds`."""
        self._take(fcntl.LOCK_EX, seconds)
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def share(self, seconds: float = PATIENCE) -> None:
        """Others may be there too.

        UsageError if a run that begins holds the folder for longer than `seconds`.
        """
        self._take(fcntl.LOCK_SH, seconds)

    def claim(self, key: str) -> bool:
        """Whether the cell is this process's from now until `release`; False while another process
        of the folder runs it.
        """
        try:
            fcntl.lockf(self.cells, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
            return False
        return True

    def release(self, key: str) -> None:
        """The cell may be another's."""
        fcntl.lockf(self.cells, fcntl.LOCK_UN, 1, _place(key))

    def _take(self, how: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self.handle, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.1)
                    continue
                who = os.pread(self.handle, 200, 0).decode(errors="replace") or "its process is not known"
                raise UsageError(
                    f"another run writes into {self.folder} ({who}); accepted: another --out, "
                    f"or --join to share its cells"
                ) from None
            return


def _place(key: str) -> int:
    """The byte of the file of claims that stands for a cell: the lock is on it, and it need not exist."""
    return int(of_text(key)[:12], 16)
