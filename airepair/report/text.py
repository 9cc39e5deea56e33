"""Plain text and CSV: a table for the terminal, split into blocks where it is wider than the page,
and tidy rows.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from airepair.report.table import Entry, Table, Tidy

WIDTH = 140


def plain(text: str) -> str:
    """The text on one line, without control characters (a reason may hold an escape sequence of a
    terminal).
    """
    if not text.isprintable():
        text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text)
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def terminal(table: Table, width: int = WIDTH, bold: bool = False) -> str:
    """Returns the table with its notes and claim lines. The best is bold, or starred where `bold`
    is off (a file).
    """
    parts = [_fill(table.title, width), ""]
    if table.rows and table.headings:
        for block in _blocks(table, width):
            parts += [_grid(block, bold), ""]
    lines = list(table.notes) + list(table.claims)
    if not bold and any(e.best for r in table.rows for e in r.entries):
        lines.insert(0, f"* marks {table.bold}.")
    parts += [
        textwrap.fill(
            plain(line),
            max(width, 60),
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for line in lines
    ]
    return "\n".join(parts).rstrip() + "\n"


def _fill(line: str, width: int) -> str:
    return textwrap.fill(
        plain(line), max(width, 60), subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def _entry(entry: Entry, bold: bool) -> str:
    text = plain(entry.text)
    if entry.best:
        text = f"\x1b[1m{text}\x1b[0m" if bold else f"*{text}"
    return f"{text} [{entry.paper}]" if entry.paper else text


def _grid(table: Table, bold: bool) -> str:
    heads, above = [f"\n{s}" for s in table.stub], ""
    for heading in table.headings:
        heads.append(f"{plain(heading.group) if heading.group != above else ''}\n{plain(heading.title)}")
        above = heading.group
    lines, last = [], ""
    for row in table.rows:
        first = "" if row.labels[0] == last and not row.rule else row.labels[0]
        last = row.labels[0]
        lines.append([plain(first), *map(plain, row.labels[1:]), *(_entry(e, bold) for e in row.entries)])
    align = ["left"] * len(table.stub) + ["right"] * len(table.headings)
    return str(tabulate(lines, heads, tablefmt="simple", disable_numparse=True, colalign=align))


def _blocks(table: Table, width: int) -> list[Table]:
    """The table cut between columns so that each block fits the width; at least one column a block."""
    blocks, start, end = [], 0, len(table.headings)
    while start < end:
        stop = start + 1
        while stop < end and _width(table.slice(start, stop + 1)) <= width:
            stop += 1
        blocks.append(table.slice(start, stop))
        start = stop
    return blocks


def _width(table: Table) -> int:
    return max(len(line) for line in _grid(table, False).splitlines())


def tidy(rows: Sequence[Tidy]) -> str:
    """Returns CSV with a heading: one line per row, absent values empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    if names:
        writer.writeheader()
    for row in rows:
        writer.writerow({k: plain(v) if isinstance(v, str) else v for k, v in row.items()})
    return out.getvalue()
