"""Merges the records of several folders into a new one and checks them against each other (docs/slurm.md).

airepair merge shards/* --plan specs/ --out reports/out

Refused: invalid lines, records that their own files contradict, two records of a cell with different results,
and columns whose parts were made under different conditions (benchmark version, arithmetic, kind of
device, versions, data, the subject's weights). `--prefer last` keeps the side of the folder that
was named last, `--prefer best` the side with more finished records, never the better score.

Exit code 0 if every planned cell has a record, 1 if not (the missing cells are listed), 2 if
nothing was written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from airepair.cli.flags import add_flags
from airepair.cli.verification.merging import Entry, Prefer, Shard, broken, merged
from airepair.errors import UsageError, printable
from airepair.host.atomic import replacing
from airepair.records import scan
from airepair.runner.cell import CellResult, CellSpec
from airepair.runner.storage import BEFORE, RECORDS, Keep, file_result

SHOWN = 20  # sentences of a kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares FOLDER..., --out, --plan, --prefer, --keep-models."""
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="DIR", help="folders that hold records.jsonl and cells/"
    )
    add_flags(parser, "merge")
    parser.add_argument("--prefer", choices=get_args(Prefer), help="which side of a contradiction is kept")


def run(args: argparse.Namespace) -> int:
    """Writes the folder whole or not at all."""
    if args.out.exists() and any(args.out.iterdir()):
        raise UsageError(f"{args.out} is not empty; accepted: a new folder")
    planned = _planned(args.plan) if args.plan else None
    shards = [Shard(folder, scan([folder / RECORDS])) for folder in args.folders]
    if wrong := broken(shards):
        _say(wrong)
        raise UsageError(
            f"nothing was merged: {len(wrong)} lines or records cannot be trusted; accepted: "
            f"folders without them"
        )
    found = merged(shards, args.prefer)
    if found.conflicts:
        _say(found.conflicts)
        raise UsageError(
            f"nothing was merged: {len(found.conflicts)} contradictions; accepted: without them, "
            f"or --prefer last or best"
        )
    _say(found.left_out)
    _write(args.out, shards, found.entries, args.keep_models)
    print(f"wrote {args.out / RECORDS} ({len(found.entries)} records of {len(shards)} folders)")
    keys = {entry.record.key for entry in found.entries}
    missing = [key for key in planned or () if key not in keys]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else ""
        print(
            f"{len(missing)} of {len(planned or ())} planned cells have no record: "
            f"{', '.join(missing[:SHOWN])}{more}"
        )
    return 1 if missing else 0


def _say(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        print(f"airepair: {printable(line)}", file=sys.stderr)
    if lines[SHOWN:]:
        print(f"airepair: and {len(lines) - SHOWN} more", file=sys.stderr)


def _planned(folder: Path) -> list[str]:
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UsageError(f"{folder} holds no specs; accepted: a folder of `airepair plan`")
    return [str(CellSpec.from_json(file.read_bytes()).case) for file in files]


def _write(out: Path, shards: list[Shard], entries: list[Entry], keep: Keep) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part:
        for entry in entries:
            cell = shards[entry.shard].folder / "cells" / entry.record.key
            paths = [p for p in sorted(cell.rglob("*")) if p.is_file() and p.name != BEFORE]
            files = {p.relative_to(cell).as_posix(): p.read_bytes() for p in paths}
            file_result(part, CellResult(entry.record, files), keep)
        part.mkdir(parents=True, exist_ok=True)
        if out.exists():
            out.rmdir()
