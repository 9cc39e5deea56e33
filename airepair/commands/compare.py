"""Compare records with a baseline's: what changed in each cell, and exit code 1 where something is worse by more than a limit.

airepair compare reports/baseline.jsonl reports/out --fail accuracy:0.5 --fail status --fail seconds:50%
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from airepair.records import read
from airepair.report import render
from airepair.report.grid import grid
from airepair.report.regression import DEFAULT, compare, parse
from airepair.report.text import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OLD, NEW, --fail, --format."""
    parser.add_argument("old", type=Path, help="the baseline's records: a file (.jsonl) or a folder of them")
    parser.add_argument("new", type=Path, help="the records to judge")
    parser.add_argument(
        "--fail",
        action="append",
        metavar="LIMIT",
        help=f"METRIC:POINTS, METRIC:PERCENT%% of the old value, status or absent; may be repeated (default: {' '.join(DEFAULT)})",
    )
    parser.add_argument("--format", choices=("txt", "md", "tex", "csv"), default="txt", help="the form of the table")


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; 1 on a regression, else 0."""
    limits = [parse(text) for text in args.fail or DEFAULT]
    (old, first), (new, second) = read([args.old]), read([args.new])
    table, regressions = compare(grid(old), grid(new), limits)
    width = shutil.get_terminal_size((140, 24)).columns
    print(terminal(table, width) if args.format == "txt" else render([table], args.format), end="")
    if args.format == "txt":
        for remark in (*first, *second):
            print(remark)
    return 1 if regressions else 0
