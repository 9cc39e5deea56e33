"""Recommends a method for each subject of a run: expected gain with its interval, damage, cost, and whether the difference is significant.

airepair recommend reports/out
airepair recommend reports/out --subject digits-fc

Gains are on the validation split. The bar is the best control: a method that fine-tuning equals is not recommended.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from airepair.errors import choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which records, and which of their subjects."""
    parser.add_argument("records", nargs="+", type=Path, metavar="DIR|FILE", help="records (.jsonl) or folders of them")
    parser.add_argument("--subject", action="append", default=[], metavar="DATASET-MODEL", help="only this subject (repeat for several)")


def run(args: argparse.Namespace) -> int:
    """Prints a paragraph per subject; 0."""
    from airepair.records import read
    from airepair.report.cells import column, grid
    from airepair.report.recommend import recommendations
    from airepair.report.verdict import of_version

    records, remarks = read(args.records)
    subjects = list(dict.fromkeys("-".join(column(r)) for r in records))
    for name in args.subject:
        choose("subject", name, subjects)
    cells = grid(r for r in records if not args.subject or "-".join(column(r)) in args.subject).plain
    if note := of_version(cells):
        print(note)
    for line in recommendations(cells):
        print(textwrap.fill(f"Recommendation for {line}", 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    for remark in remarks:
        print(remark)
    return 0
