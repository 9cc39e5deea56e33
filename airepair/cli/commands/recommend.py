"""Recommends a method for each subject of the records."""

from __future__ import annotations

import argparse
import textwrap

from airepair.errors import choose
from airepair.records import read
from airepair.report.cells import column, grid
from airepair.report.recommend import OPTIMISM, recommendations
from airepair.report.verdict import of_version


def run(args: argparse.Namespace) -> int:
    """Prints a paragraph per subject; 0."""
    records, remarks = read(args.records)
    subjects = list(dict.fromkeys("-".join(column(r)) for r in records))
    for name in args.subject:
        choose("subject", name, subjects)
    cells = grid(r for r in records if not args.subject or "-".join(column(r)) in args.subject).plain
    if note := of_version(cells):
        print(note)
    for line in (*(f"Recommendation for {r}" for r in recommendations(cells)), OPTIMISM):
        print(
            textwrap.fill(
                line,
                100,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    for remark in remarks:
        print(remark)
    return 0
