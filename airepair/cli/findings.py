"""Writes the findings: the claims that records support after correction, over twenty seeds and in both
arithmetics. Needs no torch.

airepair findings reports/digits reports/digits-native --out docs/findings.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from airepair.cli.flags import add_flags
from airepair.host.atomic import write_atomically
from airepair.records import read
from airepair.report.findings import findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares RECORDS..., --out."""
    parser.add_argument(
        "records", nargs="+", type=Path, help="record files (.jsonl) or folders that hold them"
    )
    add_flags(parser, "findings")


def run(args: argparse.Namespace) -> int:
    """Prints the page or writes it; 0."""
    text = findings(read(args.records)[0], " ".join(map(str, args.records)))
    if args.out is None:
        print(text, end="")
    else:
        write_atomically(args.out, text.encode())
        print(f"wrote {args.out}")
    return 0
