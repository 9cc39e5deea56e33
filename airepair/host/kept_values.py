"""JSON values that can be made again, kept in a file of lines under their keys.

A line is the key, the digest of the value's text, and that text. What does not fit its digest, or
what a crash has torn, counts for nothing, and the value is made anew. A file that cannot be read or
written means no cache, not an error. Free of torch and numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from airepair.host.digest import of_text

MOST = 32 << 20  # bytes of a file; a larger one begins anew


class KeptValues:
    """It holds the values of one file, whose keys hold no space. `made` says how many were not there."""

    def __init__(self, file: Path) -> None:
        self.file, self.made = file, 0

    @cached_property
    def lines(self) -> dict[str, str]:
        """Maps each key to the digest and the text of the value, as the file has them."""
        found: dict[str, str] = {}
        with suppress(OSError):
            if self.file.stat().st_size > MOST:
                self.file.unlink()
            for line in self.file.read_text(encoding="utf-8", errors="replace").splitlines():
                key, _, rest = line.partition(" ")
                found[key] = rest
        return found

    def of(self, key: str, make: Callable[[], Any]) -> Any:
        """Returns the value of that key, as JSON reads it back; if it is not there it is made and
        appended.
        """
        digest, _, text = self.lines.get(key, "").partition(" ")
        if not text or of_text(text) != digest:
            self.made += 1
            text = json.dumps(make())
            self.lines[key] = f"{of_text(text)} {text}"
            self._append(f"{key} {self.lines[key]}")
        return json.loads(text)

    def _append(self, line: str) -> None:
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, f"\n{line}\n".encode())  # the first line end closes what a crash has torn
            finally:
                os.close(handle)
