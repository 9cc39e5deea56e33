"""Brings the records of a campaign's state to the repository, with the tables that follow from all
records there.

    python -m benchmarks.collect STATE/records reports/cifar

What is there stays; records are added at the end, once each. The tables are Tables I to III, the
extended one, the paired tests and what it cost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from airepair.errors import AirepairError, UsageError
from airepair.records import Record, append, scan
from airepair.report import documents, render, replace_file
from airepair.report.cells import grid
from airepair.report.paper import default_path
from airepair.runner.storage import RECORDS


def collect(source: Path, folder: Path) -> int:
    """Adds the finished records of `source`; how many.

    UsageError for one that was made in a checkout with changes.
    """
    known = scan([folder / RECORDS]).records if (folder / RECORDS).exists() else []
    new = [r for r in scan([source]).records if r not in known]
    if dirty := [r.key for r in new if r.provenance.get("dirty") is not False]:
        raise UsageError(
            f"{dirty[0]} was made in a checkout with changes; accepted: records of a clean commit"
        )
    for record in new:
        append(folder / RECORDS, record)
    (folder / f"{RECORDS}.lock").unlink(missing_ok=True)
    return len(new)


def write_tables(records: Sequence[Record], folder: Path) -> list[Path]:
    """Every table as Markdown."""
    found = documents(grid(records), default_path())
    return [replace_file(folder / f"{name}.md", render(tables, "md")) for name, tables in found.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.collect", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("records", type=Path, help="the folder of the state's records")
    parser.add_argument("folder", type=Path, help="the folder of the repository")
    given = parser.parse_args(arguments)
    try:
        count = collect(given.records, given.folder)
        found = scan([given.folder / RECORDS]).records
        print(
            f"{count} records added, {len(found)} in all; "
            f"wrote {', '.join(p.name for p in write_tables(found, given.folder))}"
        )
    except AirepairError as error:
        print(f"collect: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
