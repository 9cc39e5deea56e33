"""Compares records with a baseline's: the change of each cell, and whether it is worse than the rules allow.

airepair compare baseline/ out/ --fail-if accuracy:-0.5pp --fail-if dl2/constraint:-2% --fail-if seconds:+50%

A cell, seed, metric or finite score that the baseline has and the new records lack is a regression.
Records of other options, data, profile, benchmark version or arithmetic are not comparable. Exit
codes: 0 compared and fine, 10 regressed, 11 nothing or not all could be compared, 12 cannot decide
at the level, 2 bad input.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from airepair.cli.flags import add_flags
from airepair.errors import printable
from airepair.records import scan
from airepair.report import render
from airepair.report.gate.output import table, write
from airepair.report.gate.pairing import baseline
from airepair.report.gate.rules import rules_of
from airepair.report.gate.verdict import judge
from airepair.report.text import terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares OLD, NEW, --fail-if, --level, --format, --out."""
    parser.add_argument("old", type=Path, help="the baseline: a record file (.jsonl) or a folder of a run")
    parser.add_argument("new", type=Path, help="the records to judge")
    add_flags(parser, "compare")


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; the gate's exit code."""
    rules = rules_of(args.fail_if, args.level, Path.cwd())
    old, remarks = baseline(args.old)
    new = scan([args.new])
    for line in new.refused:
        print(f"airepair: {printable(line)}", file=sys.stderr)
    notes = [*remarks, *(f"New records: {r}" for r in new.remarks)]
    verdict = judge(old, new.records, rules, remarks=notes, refused=new.refused)
    found = table(verdict)
    width = shutil.get_terminal_size((140, 24)).columns
    print(terminal(found, width) if args.format == "txt" else render([found], args.format), end="")
    if args.out:
        write(verdict, args.out)
    return verdict.code
