"""Reports: records in, text out. Free of torch; nothing here runs a model.

`terminal` is what a run prints at its end, `write_all` what it leaves in a folder. All depend on
the records alone: same records, same bytes; the page also draws the samples beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from airepair.host.atomic import write_atomically
from airepair.records import Record
from airepair.report import paper as paper_table
from airepair.report.cells import Grid, grid
from airepair.report.costs import costs
from airepair.report.extended import extended
from airepair.report.latex import latex
from airepair.report.leaderboard import leaderboard
from airepair.report.markdown import markdown
from airepair.report.paired import paired
from airepair.report.picture import picture
from airepair.report.summary import summary
from airepair.report.table import Table
from airepair.report.table1 import table1
from airepair.report.table2 import table2
from airepair.report.table3 import table3
from airepair.report.text import terminal as as_text
from airepair.report.text import tidy

FORMS = ("txt", "md", "tex", "csv")


def terminal(
    records: Iterable[Record], paper: Path | None = None, *, width: int = 140, bold: bool = False
) -> str:
    """Returns Table I, Table II if there are faults, and Table III if there are ablations, as a
    terminal shows them.

    `bold` writes the best in bold (escape sequences), else it is starred. If nothing ran the last
    line says so.
    """
    cells = grid(records)
    first, second = table1(cells.plain, paper_table.read(paper)), table2(cells.plain)
    tables = [t for t in (first if first.headings or not second else None, second, table3(cells)) if t]
    return "\n".join(as_text(table, width, bold) for table in tables)


def documents(cells: Grid, paper: Path | None) -> dict[str, list[Table]]:
    """Returns every document by name: the tables that stand in it."""
    numbers = paper_table.read(paper)
    plain = cells.plain
    found = {
        "table1": [table1(plain, numbers)] + ([paper_table.table(numbers)] if numbers.numbers else []),
        "extended": extended(plain),
        "cost": [costs(cells)],
    }
    more = {"paired": paired(plain), "table2": table2(plain), "table3": table3(cells)}
    return found | {name: [table] for name, table in more.items() if table}


def render(tables: list[Table], form: str) -> str:
    """Returns the tables one after another as "txt", "md" or "tex"; "csv" holds the tidy rows of
    all.
    """
    if form == "csv":
        return tidy([row for table in tables for row in table.tidy])
    return "\n".join({"txt": as_text, "md": markdown, "tex": latex}[form](table) for table in tables)


def write_all(
    records: Iterable[Record],
    folder: Path,
    paper: Path | None = None,
    marks: Iterable[str] = (),
    runs: Sequence[Path] = (),
) -> list[Path]:
    """Writes every report into `folder`, each file whole or not at all, and returns the paths. OSError
    if the folder cannot be written.

    `marks` say which of the records have been verified (airepair verify); `runs` are the folders of
    the runs, whose samples the page draws.
    """
    table = grid(records)
    folder.mkdir(parents=True, exist_ok=True)
    found = documents(table, paper)
    texts = {f"{name}.{form}": render(tables, form) for name, tables in found.items() for form in FORMS}
    texts |= {"picture.svg": picture(table.plain), "verdict.md": summary(table, paper_table.read(paper))}
    texts["leaderboard.html"] = leaderboard(
        table.plain, [t for tables in found.values() for t in tables], table, marks, runs
    )
    return [replace_file(folder / name, text) for name, text in texts.items()]


def replace_file(path: Path, text: str) -> Path:
    """Writes beside the path, then renames: a reader sees the old file or the new one."""
    write_atomically(path, text.encode())
    return path
