"""Lists what an entry for the leaderboard lacks (docs/leaderboard.md). Runs nothing and needs no torch.

airepair submit-check entries/mine

Exit code 0 if it is complete, 1 if something is missing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from airepair.cli.verification.entry import entry_of, lacks
from airepair.errors import UsageError, printable
from airepair.records import scan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares FOLDER, --print."""
    parser.add_argument(
        "folder", type=Path, help="the entry: a folder with entry.toml and the records of a run"
    )
    parser.add_argument(
        "--print",
        choices=("install",),
        help="print that field of entry.toml and nothing else (for a workflow)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what is missing; 1 if anything is, else 0."""
    if not args.folder.is_dir():
        raise UsageError(f"{args.folder} is not a folder; accepted: one with entry.toml and records.jsonl")
    if args.print:
        print(getattr(entry_of(args.folder), args.print))
        return 0
    found = scan([args.folder])
    missing = lacks(args.folder, found)
    for line in missing:
        print(f"lacks {printable(line)}")
    for line in found.remarks:
        print(f"note: {printable(line)}")
    columns = {(r.case.dataset, r.case.model) for r in found.records}
    print(
        f"{len(found.records)} records in {len(columns)} column{'s' * (len(columns) != 1)}: "
        f"{'incomplete' if missing else 'complete'}"
    )
    return 1 if missing else 0
