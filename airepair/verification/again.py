"""Runs cells again in a process of their own: `python -m airepair.verification.again SPECS RECORDS`.

SPECS has a spec per line (CellSpec.to_json), RECORDS gets a record's line for each, in the same order, as soon as it is there; a cell that cannot
run has a "failed" record that says why. A method that ends its process costs the cells after it, not the verification.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from airepair.errors import AirepairError, one_line
from airepair.places import cache
from airepair.records import Record, append, scan
from airepair.runner.spec import CellSpec


def repeated(specs: Sequence[CellSpec]) -> dict[str, Record]:
    """Key -> the new record of each cell; a cell that is not there ended the process."""
    with tempfile.TemporaryDirectory(prefix="airepair-again-") as name:
        given, found = Path(name) / "specs", Path(name) / "records.jsonl"
        given.write_bytes(b"".join(spec.to_json() + b"\n" for spec in specs))
        subprocess.run([sys.executable, "-m", __name__, str(given), str(found)], check=False)
        return {r.key: r for r in scan([found]).records} if found.exists() else {}


def main(specs: Path, records: Path) -> None:
    """The child: one cell after the other."""
    from airepair.runner.run import run_cell

    for line in specs.read_bytes().splitlines():
        spec = CellSpec.from_json(line)
        try:
            record = run_cell(spec, cache=cache()).record
        except AirepairError as error:
            record = Record(spec.case, "failed", one_line(error))
        append(records, record)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
