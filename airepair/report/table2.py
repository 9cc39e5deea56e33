"""Table II: faults with a known cause in rows, methods in columns; recovery with spread, collateral
below it, and what only some faults have.

Recovery = (after - before) / (clean twin - before) on the test inputs that the fault spoils, in
percent: 100 is the twin. Collateral is the accuracy lost on the other test inputs, in points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial

from airepair.records import Record
from airepair.report import retrain
from airepair.report.cells import Grid, Sample, column, sample, score, status
from airepair.report.claims import claims
from airepair.report.facts import category, marked, wreck_note, wrecked
from airepair.report.ordering import (
    Column,
    category_rank,
    dataset_title,
    method_rank,
    method_title,
    model_title,
)
from airepair.report.table import Entry, Heading, Row, Table, Tidy, numbers, spread

METRICS = {
    "recovery": "recovery",
    "collateral": "collateral",
    "attack_success": "attack success",
    "localisation_precision": "localisation precision",
    "localisation_recall": "localisation recall",
}
ALWAYS = (
    "recovery",
    "collateral",
)  # the others stand where a record has them: a backdoor's, a damaged layer's


def table2(cells: Grid) -> Table | None:
    """Returns Table II of the records whose subjects have a fault; None if there is none."""
    places = {column(r) for r in cells.records if r.subject.get("fault")}
    if not places:
        return None
    cells = cells.where(lambda r: column(r) in places)
    methods = sorted(cells.methods, key=lambda m: (category_rank(category(cells, m)), method_rank(m)))
    usual = max(
        (
            s.n
            for p in cells.columns
            for m in methods
            if (s := sample(cells.cell(p, m), partial(score, metric="recovery")))
        ),
        default=0,
    )
    rows = [row for place in cells.columns for row in _rows(cells, place, methods, usual)]
    headings = tuple(Heading(category(cells, m), method_title(m)) for m in methods)
    notes = (
        "Recovery in % of the way from the faulty subject to its clean twin, "
        "on the test inputs that the fault spoils; collateral in points of"
        " accuracy lost on the others; attack success in % of triggered inputs. Bold: "
        "the best recovery of a row, if above zero.",
        *wreck_note(cells),
        *retrain.notes(cells, methods),
    )
    faults = {place: fault(cells, place) for place in cells.columns}
    tidy = (*_tidy(cells, methods), *retrain.tidy(cells, methods, faults))
    shown = list(ALWAYS)
    title = "Table II: recovery from faults with a known cause"
    return Table(
        "table2",
        title,
        ("Subject", "Fault", "Score"),
        headings,
        tuple(rows),
        notes,
        claims(cells, shown, methods=methods),
        tidy,
    )


def fault(cells: Grid, place: Column) -> str:
    """Returns the name and severity of the column's fault (an environment's with its corruption), from
    the first record that has them: a crashed one has none.
    """
    found = next(r.subject["fault"] for r in cells.of(place) if r.subject.get("fault"))
    name, severity = str(found.get("name", "unnamed")), found.get("severity")
    if severity is None:
        return name
    strength = f"{severity:g}" if isinstance(severity, int | float) else str(severity)
    return f"{name} ({found['corruption']} {strength})" if found.get("corruption") else f"{name} ({strength})"


def _rows(cells: Grid, place: Column, methods: list[str], usual: int) -> Iterator[Row]:
    plain = place[1].partition("+")[0]
    labels = (f"{dataset_title(place[0])} {model_title(plain)}", fault(cells, place))
    for metric, title in METRICS.items():
        if metric not in ALWAYS and not any(metric in r.after for r in cells.of(place)):
            continue
        found = {m: sample(cells.cell(place, m), partial(score, metric=metric), 100) for m in methods}
        best = _best(cells, place, found) if metric == "recovery" else set()
        entries = []
        for method in methods:
            value, records = found[method], cells.cell(place, method)
            text = (
                spread(value, sign=metric == "collateral", usual=usual, others=_others(records))
                if value
                else status(records)
            )
            entries.append(Entry(marked(text, records), method in best))
        yield Row((*labels, title), tuple(entries), rule=metric == "recovery")


def _best(cells: Grid, place: Column, found: Mapping[str, Sample | None]) -> set[str]:
    """The methods with the best value as printed, if it is above zero."""
    means = comparable(cells, place, found)
    top = max(means.values(), default=0.0)
    return {m for m, mean in means.items() if mean == top > 0}


def comparable(cells: Grid, place: Column, found: Mapping[str, Sample | None]) -> dict[str, float]:
    """Returns the mean as printed of each method that may be the best: never one that wrecks the model,
    nor one that lacks a seed of another.
    """
    sound = {m: s for m, s in found.items() if s and not wrecked(cells.cell(place, m))}
    most = max((s.n for s in sound.values()), default=0)
    return {m: round(s.mean, 2) for m, s in sound.items() if s.n == most}


def _others(records: list[Record]) -> dict[str, int]:
    return Counter(r.status for r in records if r.status != "repaired")


def _tidy(cells: Grid, methods: list[str]) -> Iterator[Tidy]:
    for place in cells.columns:
        for method in methods:
            records = cells.cell(place, method)
            for metric in METRICS:
                found = sample(records, partial(score, metric=metric), 100)
                if found is None and metric not in ALWAYS:
                    continue
                start: Tidy = {
                    "dataset": place[0],
                    "model": place[1],
                    "fault": fault(cells, place),
                    "method": method,
                    "metric": metric,
                }
                yield start | numbers(found) | {"status": "repaired" if found else status(records)}
