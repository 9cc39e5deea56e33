"""The cost table: seconds, peak memory and images of the repair alone, a column each, for every data
set, model and method.

Kept apart from Table I, which holds nothing that varies between two runs of the same cells. Seconds
are reported, not matched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airepair.records import Record
from airepair.report.cells import Grid, Sample, sample, status
from airepair.report.claims import claims
from airepair.report.facts import marked, wreck_note
from airepair.report.ordering import dataset_title, method_title, model_title
from airepair.report.table import Entry, Heading, Row, Table, Tidy, numbers, spread

MIB = 2**20
Number = Callable[[Record], float | None]


def _cost(name: str, scale: float = 1.0) -> Number:
    def number(record: Record) -> float | None:
        value = record.cost.get(name)
        return None if value is None else float(value) * scale

    return number


def _budget(name: str) -> Number:
    def number(record: Record) -> float | None:
        return float(record.budget[name]) if name in record.budget else None

    return number


COLUMNS: dict[str, tuple[Heading, Number, int]] = {
    "seconds": (Heading("Time", "seconds"), _cost("seconds"), 2),
    "cpu_seconds": (Heading("Time", "CPU seconds"), _cost("cpu_seconds"), 2),
    "peak_mib": (Heading("Memory", "peak MiB"), _cost("peak_bytes", 1 / MIB), 1),
    "joules": (Heading("Energy", "joules"), _cost("joules"), 1),
    "training_images": (Heading("Images", "forward and backward"), _budget("backward"), 0),
    "forward_images": (Heading("Images", "forward only"), _budget("forward"), 0),
}

OPTIONAL = ("joules", "cpu_seconds")  # a column only where some record has it


def costs(cells: Grid) -> Table:
    """Returns the mean and spread over seeds; a cell that did not run shows its status."""
    names = [n for n, (_, number, _) in COLUMNS.items() if n not in OPTIONAL or sample(cells.records, number)]
    rows: list[Row] = []
    for place in cells.columns:
        for method in cells.methods:
            records = cells.cell(place, method)
            if not records:
                continue
            ran = [r for r in records if r.status == "repaired"]
            entries = tuple(Entry(_text(sample(ran, COLUMNS[n][1]), COLUMNS[n][2], records)) for n in names)
            label = f"{dataset_title(place[0])} {model_title(place[1])}"
            rows.append(
                Row(
                    (label, marked(method_title(method), records)),
                    entries,
                    rule=not rows or rows[-1].labels[0] != label,
                )
            )
    sources = sorted({str(r.cost["memory_source"]) for r in cells.records if "memory_source" in r.cost})
    about = (
        f"Of the repair alone. Peak memory is what the repair added, "
        f"by {' / '.join(sources) or 'a source that was not recorded'}.",
    )
    notes = (*about, *wreck_note(cells))
    headings = tuple(COLUMNS[n][0] for n in names)
    title = "Cost of each repair: mean over seeds"
    return Table(
        "cost",
        title,
        ("Subject", "Method"),
        headings,
        tuple(rows),
        notes,
        claims(cells, ()),
        tuple(_tidy(cells, names)),
    )


def _text(found: Sample | None, digits: int, records: list[Record]) -> str:
    if found is None:
        return status(records).replace("missing", "not measured")
    return spread(found, digits, usual=len(records))


def _tidy(cells: Grid, names: list[str]) -> Iterator[Tidy]:
    for place in cells.columns:
        for method in cells.methods:
            ran = [r for r in cells.cell(place, method) if r.status == "repaired"]
            for name in names if ran else ():
                found = sample(ran, COLUMNS[name][1])
                yield {
                    "dataset": place[0],
                    "model": place[1],
                    "method": method,
                    "quantity": name,
                    **numbers(found),
                }
