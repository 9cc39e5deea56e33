"""The folder of a run, as its controller holds it: taken, kept open, and made whole at the end.

Free of torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from airepair.errors import one_line
from airepair.records import Record, append, mended, since
from airepair.records.files import CELLS
from airepair.records.tenancy import Tenancy
from airepair.suite.session import RECORDS


class RunFolder:
    """It holds the records of one run, from its beginning to its end.

    The record file stays open: if somebody removes it, what it held can still be read and is written again.
    """

    def __init__(self, folder: Path, *, resume: bool, join: bool) -> None:
        """Takes the folder and sets an earlier run's records and cells aside (nothing is lost), unless
        this run resumes or joins it.

        UsageError if another run is there and this one does not join it, OSError if the folder
        cannot be written.
        """
        self.folder, self.file = folder, folder / RECORDS
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"airepair")
        probe.unlink()
        self.tenancy = Tenancy(folder)
        if not join:
            self.tenancy.alone()
            for place in (self.file, folder / CELLS):
                if not resume and place.exists():
                    set_aside(place)
        self.start = mended(self.file)
        self.file.touch()
        self.stream = self.file.open("rb")
        self.tenancy.share()

    def recorded(self) -> dict[str, Record]:
        """Returns what this run (and those that share the folder) has filed so far: the last record
        of each key.
        """
        found = since(self.stream, self.start)
        if self._removed():
            with suppress(OSError):
                found += self._filed()
        return {r.key: r for r in found}

    def make_whole(self, known: Iterable[Record]) -> list[str]:
        """Writes what is not in the file: records that only this process knows, and those of a file
        that was removed.

        A sentence for each kind of thing that happened; one that begins with LOST if records could
        not be written.
        """
        said, held = [], list[Record]()
        if self._removed():
            held = since(self.stream, 0)
            said.append(
                f"{self.file} was removed during the run; written again, without the files of its cells "
                f"that were there"
            )
        missing = list({r.to_json(): r for r in chain(held, known)}.values())
        try:
            there = {r.to_json() for r in self._filed()}
            missing = [r for r in missing if r.to_json() not in there]
            for record in missing:
                append(self.file, record)
        except OSError as error:
            return [f"{LOST}: {', '.join(r.key for r in missing)} ({one_line(error)})"]
        return said

    def _filed(self) -> list[Record]:
        """This run's records in the file that has the name now; OSError if it cannot be read."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as stream:
            return since(stream, 0 if self._removed() else self.start)

    def _removed(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self.stream.fileno()), self.file.stat())
        except OSError:
            return True


LOST = "records that are in no file"


def set_aside(place: Path) -> Path:
    """Moves a record file, or the folder of the cells, to `previous/`, under its time; a number stands
    behind the time if the name is taken.
    """
    stamp = time.strftime(f"{place.stem}-%Y%m%dT%H%M%SZ", time.gmtime(place.stat().st_mtime))
    folder = place.parent / "previous"
    folder.mkdir(exist_ok=True)
    names = chain([stamp], (f"{stamp}-{n}" for n in count(2)))
    aside = next(p for p in (folder / f"{name}{place.suffix}" for name in names) if not p.exists())
    place.replace(aside)
    return aside
