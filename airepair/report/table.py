"""A table before it is rendered: the one layout that terminal, Markdown, LaTeX and HTML are made
from, and the tidy rows of its CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from airepair.report.cells import Sample

Tidy = dict[str, str | int | float | None]  # one line of a CSV


@dataclass(frozen=True)
class Entry:
    """It is one cell: our text, whether it is the column's best, and the paper's number if the cell
    is the same.
    """

    text: str
    best: bool = False
    paper: str = ""


@dataclass(frozen=True)
class Heading:
    """It is a column's heading; neighbours with the same `group` stand under one spanning heading."""

    group: str
    title: str


@dataclass(frozen=True)
class Row:
    """It holds labels for the columns on the left, then one entry per column. `rule` puts a line above."""

    labels: tuple[str, ...]
    entries: tuple[Entry, ...]
    rule: bool = False


@dataclass(frozen=True)
class Table:
    """It is one table of a report: `notes` explain marks; `claims` say what every number rests on
    (n, spread, device, versions, commit) and what was not run.
    """

    name: str
    title: str
    stub: tuple[str, ...]
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    tidy: tuple[Tidy, ...] = ()
    bold: str = "the best"  # what a bold entry is, for a text that has stars instead

    def spans(self) -> Iterator[tuple[str, int]]:
        """Yields the spanning headings from left to right with the number of columns under each."""
        for group, members in groupby(self.headings, key=lambda h: h.group):
            yield group, len(list(members))

    def slice(self, start: int, stop: int) -> Table:
        """Returns the table with only the columns start..stop-1, for a narrow page."""
        rows = tuple(Row(r.labels, r.entries[start:stop], r.rule) for r in self.rows)
        return Table(self.name, self.title, self.stub, self.headings[start:stop], rows)


def fixed(value: float, digits: int = 2, sign: bool = False) -> str:
    """Returns the number with fixed digits, "+" in front where `sign`; never a negative zero."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.replace("-", "+" if sign else "")
    return text


def spread(
    found: Sample,
    digits: int = 2,
    sign: bool = False,
    usual: int | None = None,
    others: Mapping[str, int] | None = None,
) -> str:
    """Returns the mean ± standard deviation; n where it is not the table's usual one, and how many
    seeds ended otherwise ("1 crashed").
    """
    text = fixed(found.mean, digits, sign)
    if found.sd is not None:
        text += f" ± {fixed(found.sd, digits)}"
    remarks = [f"n={found.n}"] if usual is not None and found.n != usual else []
    remarks += [f"{count} {word}" for word, count in sorted((others or {}).items())]
    return f"{text} ({', '.join(remarks)})" if remarks else text


def numbers(found: Sample | None) -> Tidy:
    """Returns mean, standard deviation and n as a CSV has them; absent ones empty."""
    return {
        "mean": round(found.mean, 6) + 0.0 if found else None,
        "sd": round(found.sd, 6) if found and found.sd is not None else None,
        "n": found.n if found else 0,
    }
