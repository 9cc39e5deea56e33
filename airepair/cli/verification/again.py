"""Runs the cells of records again, in processes of their own: one in portable arithmetic, one in
native, as each record was made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from airepair.cli.verification.sample import spec_of
from airepair.records import Record, scan


def repeated(records: Sequence[Record]) -> dict[str, Record]:
    """Maps each key to the new record of each cell; a cell that is not there ended its process."""
    found: dict[str, Record] = {}
    for arithmetic in ("portable", "native"):
        chosen = [r for r in records if r.provenance.get("arithmetic", "native") == arithmetic]
        if chosen:
            found |= {r.key: r for r in _run(arithmetic, chosen)}
    return found


def _run(arithmetic: str, records: Sequence[Record]) -> list[Record]:
    with tempfile.TemporaryDirectory(prefix="airepair-again-") as name:
        specs, news = Path(name) / "specs", Path(name) / "records.jsonl"
        specs.write_bytes(b"".join(spec_of(r).to_json() + b"\n" for r in records))
        command = [sys.executable, "-m", "airepair.cli.verification.child", arithmetic, str(specs), str(news)]
        subprocess.run(command, check=False)
        return scan([news]).records if news.exists() else []
