"""The HTML leaderboard: one self-contained page with Table I, every cell in a sortable table, and each
cell's details.

No external resources; without JavaScript everything is readable and only sorting and filtering are gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from airepair.records import Record
from airepair.report.cells import Grid, Sample, gain, sample, score, status
from airepair.report.claims import claims, column_notes
from airepair.report.costs import COLUMNS
from airepair.report.curves import HEIGHT, WIDTH, Curve, curve
from airepair.report.facts import (
    category,
    flag,
    flag_notes,
    marked,
    settings,
    wreck_note,
    wrecked,
)
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.picture import PANEL, legend, notes, panels
from airepair.report.states import states
from airepair.report.table import Row, Table, spread
from airepair.report.templates import template
from airepair.report.text import plain
from airepair.report.usage import HEIGHT as USAGE_HEIGHT
from airepair.report.usage import WIDTH as USAGE_WIDTH
from airepair.report.usage import Usage, usage
from airepair.report.verdict import verdict


@dataclass(frozen=True)
class Line:
    """It is one cell of the grid: `labels` and `values` are its row of the sortable table, `seeds`
    are (seeds, status, reason), `options` (name, value, origin), `notes` those that do not hold for
    the whole column.
    """

    id: str
    labels: tuple[str, ...]
    status: str
    values: tuple[str, ...]
    seeds: tuple[tuple[str, str, str], ...]
    options: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    curve: Curve | None
    usage: Usage | None = None


@dataclass(frozen=True)
class Subject:
    """It is a column of the grid: its cells, and the notes that hold for all of them."""

    title: str
    notes: tuple[str, ...]
    lines: tuple[Line, ...]


ROWS = 150  # of a table on the page
FIRST, MORE = ("table1", "table2", "table3"), ("paper",)
LABELS = ("Method", "Data set", "Model", "Fault", "Category", "Settings", "Status")
HEADINGS = (
    ("n", "seeds that were repaired"),
    ("Accuracy", "gain in percentage points"),
    ("Net change", "fixed minus broken, in points"),
    ("finetune", "net change of finetune's last state with no more training images"),
    ("Constraint", "gain in percentage points"),
    ("Tempered", "gain of the constraint at the temperature that fits validation best, in points"),
    ("Repair rate", "failing inputs given to the method that are right after, in %"),
    ("Generalisation", "test inputs wrong before and right after, in %"),
    ("Recovery", "of what the fault spoils, in %: 0 the subject, 100 its twin without the fault"),
    ("Break rate", "test inputs right before and wrong after, in %"),
    ("Images", "training images, forward and backward"),
    ("Seconds", "of the repair alone"),
    ("Peak MiB", "memory that the repair added"),
)


def leaderboard(
    cells: Grid,
    tables: Iterable[Table],
    whole: Grid | None = None,
    verified: Iterable[str] = (),
    runs: Sequence[Path] = (),
) -> str:
    """Returns the page. `whole` are the records with their ablations, for the verdict; `verified`
    says which have been run again; `runs` are the folders in whose `cells/` the samples of the
    repairs lie.

    Of `tables` Table I to III stand above the sortable one and the paper's own below it; the others
    are too long for a page.
    """
    found = {t.name: t for t in tables}
    page = template("leaderboard.html.j2").render(
        first=[_bold_part(found[name]) for name in FIRST if name in found],
        more=[found[name] for name in MORE if name in found],
        labels=LABELS,
        headings=HEADINGS,
        subjects=[_subject(cells, p, runs) for p in cells.columns],
        claims=claims(cells, ()),
        verdict=verdict(whole or cells),
        panels=panels(cells),
        legend=legend(panels(cells)),
        reading=list(notes(cells)),
        panel_size=PANEL,
        about=" ".join([_about(cells), *(f"{mark}." for mark in verified)]),
        marks=_marks(cells),
        width=WIDTH,
        height=HEIGHT,
        usage_size=(USAGE_WIDTH, USAGE_HEIGHT),
        plain=plain,
    )
    return page + "\n"


def _bold_part(table: Table) -> Table:
    """The table; of a long one the groups of rows (a method and metric of Table III) in which
    something is in bold, and how many others it has.
    """
    if len(table.rows) <= ROWS:
        return table
    groups: list[list[Row]] = []
    for row in table.rows:
        if row.labels[1] or not groups:
            groups.append([])
        groups[-1].append(row)
    kept = [row for group in groups if any(e.best for r in group for e in r.entries) for row in group]
    left = f"{len(table.rows) - len(kept):,} rows without anything in bold: {table.name}.*."
    return replace(table, rows=tuple(kept), notes=(left, *table.notes))


def _about(cells: Grid) -> str:
    """When the records were made, and with which versions."""
    days = sorted(str(r.provenance["time"])[:10] for r in cells.records if r.provenance.get("time"))
    when = (
        f"Records of {days[0]}" + (f" to {days[-1]}" if days[-1] != days[0] else "")
        if days
        else "Records without a date"
    )
    versions = sorted(
        {str(dict(r.provenance.get("versions") or {}).get("airepair", "unknown")) for r in cells.records}
    )
    return f"{when}; benchmark version {cells.version}; airepair {', '.join(versions)}."


def _marks(cells: Grid) -> list[str]:
    """What the marks in the sortable table say."""
    return [*wreck_note(cells), *flag_notes(cells.cell(p, m) for p in cells.columns for m in cells.methods)]


def _subject(cells: Grid, place: Column, runs: Sequence[Path]) -> Subject:
    shared = column_notes(cells.of(place))
    lines = tuple(_line(cells, place, m, shared, runs) for m in cells.methods if cells.cell(place, m))
    return Subject(f"{dataset_title(place[0])} {model_title(place[1])}", tuple(map(plain, shared)), lines)


def _line(cells: Grid, place: Column, method: str, shared: Sequence[str], runs: Sequence[Path]) -> Line:
    records = cells.cell(place, method)
    given = {
        (k, str(o.get("value")), str(o.get("origin", "default")))
        for r in records
        for k, o in r.options.items()
    }
    options = {o for o in given if o[2] != "default"}
    others = Counter(r.status for r in records if r.status != "repaired")
    ended = ", ".join(f"{n} {word}" for word, n in sorted(others.items()))
    ran = any(r.status == "repaired" for r in records)
    word = (
        ", ".join(filter(None, ("repaired", "wrecked the model" if wrecked(records) else "", ended)))
        if ran
        else status(records)
    )
    own = dict.fromkeys(
        plain(n) for r in records for n in r.notes if " ".join(n.split()).rstrip(".") not in shared
    )
    return Line(
        id=re.sub(r"[\[\]@]", "_", "-".join((*place, method))),
        labels=(
            marked(method_title(method), records),
            *_place(place),
            category(cells, method),
            settings(records),
            word,
        ),
        status=word,
        values=_values(cells, place, method, records),
        seeds=_seeds(records),
        options=tuple(sorted(options)),
        notes=tuple(own),
        curve=curve(cells, place, method),
        usage=next((u for r in records if (u := usage(runs, r.key)) is not None), None) if runs else None,
    )


def _place(place: Column) -> tuple[str, str, str]:
    """Data set, model and fault (of the subject, or the environment that it works in)."""
    (dataset, _, outside), (model, _, inside) = (name.partition("+") for name in place)
    return dataset_title(dataset), model_title(model), " + ".join(filter(None, (outside, inside))) or "none"


def _seeds(records: list[Record]) -> tuple[tuple[str, str, str], ...]:
    """Which seeds ended how."""
    found: dict[tuple[str, str], list[int]] = {}
    for record in records:
        found.setdefault((record.status, plain(record.reason)), []).append(record.case.seed)
    return tuple((", ".join(map(str, seeds)), status, reason) for (status, reason), seeds in found.items())


def _values(cells: Grid, place: Column, method: str, records: list[Record]) -> tuple[str, ...]:
    """In the order of HEADINGS."""
    ran = [r for r in records if r.status == "repaired"]
    beside = next(
        (s for s in states(cells, place, method) if s.kind == "beside" and s.label.startswith("finetune")),
        None,
    )

    def gained(metric: str) -> str:
        return _value(sample(ran, partial(gain, metric=metric), 100), 2, sign=True)

    def scored(metric: str, sign: bool = False) -> str:
        return _value(sample(ran, partial(score, metric=metric), 100), 2, sign)

    costs = (
        _value(sample(ran, COLUMNS[name][1]), digits)
        for name, digits in (("training_images", 0), ("seconds", 1), ("peak_mib", 0))
    )
    return (
        f"{len(ran)}/{len(records)}" if len(ran) < len(records) else str(len(ran)),
        gained("accuracy"),
        scored("net_change", sign=True),
        _value(beside.sample("net_change", 100) if beside else None, 2, sign=True),
        gained("constraint") + flag(records),
        gained("constraint_tempered"),
        scored("repair_rate"),
        scored("generalisation"),
        scored("recovery"),
        scored("break_rate"),
        *costs,
    )


def _value(found: Sample | None, digits: int, sign: bool = False) -> str:
    """The number with which the text begins is what the page sorts by."""
    if found is None:
        return "–"
    return f"{found.mean:,.0f}" if digits == 0 else spread(found, digits, sign)
