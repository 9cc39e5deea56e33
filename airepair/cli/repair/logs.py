"""The results of a run on a terminal: `airepair repair --input_logs`, and the end of every repair.
Free of torch.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from airepair.errors import printable
from airepair.records import Record, scan
from airepair.report import terminal as tables_of
from airepair.report.before_after import before_after
from airepair.report.cells import grid
from airepair.report.paper import default_path
from airepair.report.recommend import recommendations
from airepair.report.text import terminal
from airepair.report.tuned_costs import tuned_costs


def run(args: argparse.Namespace) -> int:
    """Shows the records of an earlier run; 2 if some cannot be read."""
    found = scan([args.input_logs])
    for line in found.refused:
        print(f"airepair: {printable(line)}", file=sys.stderr)
    if found.records or not found.refused:
        print_results(found.records)
        print(tables_of(found.records, default_path(), width=width(), bold=sys.stdout.isatty()), end="")
    for line in found.remarks:
        print(line)
    return 2 if found.refused else 0


def print_results(records: Sequence[Record]) -> None:
    """Prints the scores before and after, what to use, and what tuned settings cost elsewhere."""
    cells = grid(records)
    print(terminal(before_after(cells), width()))
    for line in recommendations(cells):
        print(f"Recommendation for {line}")
    for line in tuned_costs(cells):
        print(line)


def width() -> int:
    """Returns the columns of the terminal, or of a page if there is none."""
    return shutil.get_terminal_size((140, 24)).columns
