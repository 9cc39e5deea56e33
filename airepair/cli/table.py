"""Renders Table I and the other reports from records alone: loads no model and needs no torch.

airepair table reports/out                              Tables I to III, as `--report full` prints them
airepair table reports/out --table extended --format md
airepair table reports/out --table verdict              the verdict, in Markdown
airepair table reports/out --table picture > net.svg    net change against training images, as an SVG
airepair table reports/out --out paper/                 every report in every form

An invalid line is reported on standard error; the others are rendered, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from airepair.cli.flags import add_flags
from airepair.cli.verification.mark import read as read_mark
from airepair.errors import UsageError, printable
from airepair.records import Record, scan
from airepair.report import documents, render, terminal, write_all
from airepair.report.cells import grid
from airepair.report.paper import default_path
from airepair.report.paper import read as read_paper
from airepair.report.picture import picture
from airepair.report.summary import summary

TEXTS = ("verdict", "picture")  # Markdown and SVG, whatever the records hold
TABLES = ("table1", "extended", "cost", "paired", "table2", "table3", *TEXTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares RECORDS..., --table, --format, --out, --paper."""
    parser.add_argument(
        "records", nargs="+", type=Path, help="record files (.jsonl) or folders that hold them"
    )
    parser.add_argument("--table", choices=TABLES, default="table1", help="which report to print")
    add_flags(parser, "table")
    parser.add_argument(
        "--paper",
        type=Path,
        metavar="CSV",
        help="CSV of the paper's numbers to print beside ours (default: the one in this package)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints one report, with --out writes all; 2 if a line was no record, else 0."""
    found = scan(args.records)
    for line in found.refused:
        print(f"airepair: {printable(line)}", file=sys.stderr)
    if found.records or not found.refused:
        _show(args, found.records, found.remarks)
    return 2 if found.refused else 0


def _show(args: argparse.Namespace, records: list[Record], remarks: list[str]) -> None:
    paper = args.paper or default_path()
    if (args.table, args.format) == ("table1", "txt"):
        print(
            terminal(
                records, paper, width=shutil.get_terminal_size((140, 24)).columns, bold=sys.stdout.isatty()
            ),
            end="",
        )
    elif args.table in TEXTS:
        cells = grid(records)
        print(summary(cells, read_paper(paper)) if args.table == "verdict" else picture(cells.plain), end="")
    else:
        found = documents(grid(records), paper)
        if args.table not in found:
            raise UsageError(
                f"these records have no data for {args.table}; accepted: {', '.join([*found, *TEXTS])}"
            )
        print(render(found[args.table], args.format), end="")
    lines = remarks if args.format == "txt" and args.table not in TEXTS else []
    if args.out:
        marks = [
            f"{folder}: {mark}" for folder in args.records if folder.is_dir() and (mark := read_mark(folder))
        ]
        runs = [folder for folder in args.records if folder.is_dir()]
        written = write_all(records, args.out, paper, marks, runs)
        lines = [*lines, *marks, "wrote " + ", ".join(map(str, written))]
    for line in lines:
        print(line)
