"""Table I in the paper's layout: data sets over models in columns; the baseline, then the methods;
accuracy and constraint accuracy in rows.

The baseline is in percent, a method's number its gain in percentage points (after minus before,
seed by seed, then the mean). The best gain of a column is marked, separately for the two metrics,
if it is above zero and significantly above the second (statistics.py; Holm's correction over the
columns). `paper` numbers stand in brackets. ‡ flags a constraint gain that a temperature alone
would give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial

from airepair.records import Record
from airepair.report.cells import Grid, Sample, baseline, column, faulty, gain, sample, status, tuned
from airepair.report.claims import claims, column_notes, commit, device
from airepair.report.comparison import LEVEL
from airepair.report.facts import conditions, flag, flag_notes, marked, wreck_note
from airepair.report.leads import leads, short
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.paper import Paper
from airepair.report.table import Entry, Heading, Row, Table, Tidy, numbers, spread

METRICS = {"accuracy": "Acc.", "constraint": "Const."}
READING = (
    f"Bold: the largest gain per column if it is significantly above the second (p < {LEVEL:g} in the "
    f"paired tests, with Holm's"
    " correction over the columns), accuracy and constraint separately; controls are eligible."
)

TUNED_ROWS = (
    "[tuned]: settings that `airepair tune` chose on validation. On digits seeds share images, so some of "
    "these are test images here: a tuned row says nothing of new images."
)
SHORT = "Not bold, because seeds of its column are missing: {}."


def table1(cells: Grid, paper: Paper) -> Table:
    """Returns Table I of the records, faults left to Table II."""
    others = faulty(cells)
    cells = cells.where(lambda r: column(r) not in others)
    gains = {
        (p, m, k): sample(cells.cell(p, m), partial(gain, metric=k), 100)
        for p in cells.columns
        for m in cells.methods
        for k in METRICS
    }
    usual = {
        p: max((s.n for (q, _, _), s in gains.items() if s and q == p), default=0) for p in cells.columns
    }
    best = {(lead.place, lead.first, k) for k in METRICS for lead in leads(cells, k) if lead.significant}
    rows = [_baseline_row(cells, paper, k, usual) for k in METRICS]
    for method in cells.methods:
        for metric, label in METRICS.items():
            entries = []
            for place in cells.columns:
                found, records = gains[place, method, metric], cells.cell(place, method)
                top = (place, method, metric) in best
                text = (
                    spread(found, sign=True, usual=usual[place], others=_others(records))
                    if found
                    else status(records)
                )
                text += flag(records) if metric == "constraint" else ""
                entries.append(Entry(marked(text, records), top, paper.text(place, method, metric)))
            rows.append(Row((method_title(method), label), tuple(entries), rule=label == "Acc."))
    headings = tuple(
        Heading(dataset_title(d), model_title(m) + _besides(cells, usual, (d, m))) for d, m in cells.columns
    )
    notes = [*_reading(cells, paper), *paper.notes(cells.columns, cells.methods)]
    tidy = tuple(_tidy(cells, paper, gains))
    title = "Table I: accuracy and constraint accuracy, baseline in %, gains in percentage points"
    return Table(
        "table1",
        title,
        ("Method", "Metric"),
        headings,
        tuple(rows),
        tuple(notes),
        claims(cells, METRICS, paper.columns),
        tidy,
    )


def _besides(cells: Grid, usual: Mapping[Column, int], place: Column) -> str:
    """The column's own n, where the columns differ in it, and how it computes, where that is not float32."""
    own = f"n={usual[place]}" if len(set(usual.values()) - {0}) > 1 and usual[place] else ""
    words = ", ".join(filter(None, (conditions(cells.of(place)), own)))
    return f" ({words})" if words else ""


def _baseline_row(cells: Grid, paper: Paper, metric: str, usual: Mapping[Column, int]) -> Row:
    entries = []
    for place in cells.columns:
        found = baseline(cells.of(place), metric)
        n = max(usual[place], found.n if found else 0)
        entries.append(
            Entry(spread(found, usual=n) if found else "missing", paper=paper.text(place, "baseline", metric))
        )
    return Row(("Baseline", METRICS[metric]), tuple(entries))


def _others(records: list[Record]) -> Mapping[str, int]:
    return Counter(r.status for r in records if r.status != "repaired")


def _reading(cells: Grid, paper: Paper) -> list[str]:
    notes = [READING] if cells.columns else []
    if any(tuned(r.case.method) for r in cells.records):
        notes.append(TUNED_ROWS)
    lacking = dict.fromkeys(m for k in METRICS for p in cells.columns for m in short(cells, p, k))
    if lacking:
        notes.append(SHORT.format(", ".join(map(method_title, lacking))))
    notes += wreck_note(cells)
    notes += flag_notes(cells.cell(p, m) for p in cells.columns for m in cells.methods)
    if any(p in paper.columns for p in cells.columns):
        notes.append(
            "In brackets: the paper's own number for the same data set, model and method (its n and "
            "spread are not stated)."
        )
    return notes


def _tidy(
    cells: Grid, paper: Paper, gains: Mapping[tuple[Column, str, str], Sample | None]
) -> Iterator[Tidy]:
    """One row a column x row x metric, with the claim in columns of its own."""
    for place in cells.columns:
        claim = _claim_columns(cells.of(place))
        for metric in METRICS:
            found = baseline(cells.of(place), metric)
            yield (
                _line(place, "baseline", metric, "percent", found, "measured" if found else "missing", paper)
                | claim
            )
        for method in cells.methods:
            for metric in METRICS:
                found, records = gains[place, method, metric], cells.cell(place, method)
                words = (
                    [*(["repaired"] if found else []), *sorted(_others(records))]
                    if found
                    else [status(records)]
                )
                yield _line(place, method, metric, "percentage points", found, "/".join(words), paper) | claim


def _line(
    place: Column, row: str, metric: str, unit: str, found: Sample | None, word: str, paper: Paper
) -> Tidy:
    return {
        "dataset": place[0],
        "model": place[1],
        "row": row,
        "metric": metric,
        "unit": unit,
        **numbers(found),
        "status": word,
        "paper": paper.number(place, row, metric),
        "paper_exceeds_100": "yes" if paper.impossible(place, row, metric) else None,
    }


def _claim_columns(records: list[Record]) -> Tidy:
    def each(values: list[object]) -> str:
        return " / ".join(sorted({str(v) for v in values if v is not None})) or "not recorded"

    origins = [r.provenance for r in records]
    return {
        "device": each([device(p) for p in origins]),
        "torch": each([p.get("versions", {}).get("torch") for p in origins]),
        "commit": each([commit(p) for p in origins]),
        "profile": each([p.get("profile") for p in origins]),
        "test_images": each([p.get("n", {}).get("test") for p in origins]),
        "notes": "; ".join(column_notes(records)) or None,
    }
