"""The extended report: one table a data set and model, methods by category in rows, all metrics in
columns, controls beside each method.

Scores after the repair in percent (differences in percentage points), the subject's own in the
first row. Below a method stand the states it handed in on the way, so that one sees what its own
idea contributed, and its controls. ‡ flags a constraint gain that a temperature gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from airepair.metrics import Entry as Metric
from airepair.metrics import entries as metric_entries
from airepair.records import Record
from airepair.report.cells import Grid, Sample, baseline, status
from airepair.report.claims import claims, column_notes
from airepair.report.facts import (
    category,
    flag,
    flag_notes,
    marked,
    settings,
    temperature_alone,
    wreck_note,
    wrecked,
)
from airepair.report.ordering import (
    Column,
    category_rank,
    dataset_title,
    method_rank,
    method_title,
    model_title,
)
from airepair.report.states import State, states
from airepair.report.table import Entry, Heading, Row, Table, Tidy, fixed, numbers, spread

FLAGS = {True: "temperature alone", None: "temperature alone: unknown", False: ""}
HEADINGS = {
    "accuracy": Heading("Accuracy", "all"),
    "top5": Heading("Accuracy", "top 5"),
    "clean_accuracy": Heading("Accuracy", "on clean images"),
    "drawdown": Heading("Accuracy", "drawdown"),
    "worst_class_loss": Heading("Accuracy", "worst class loss"),
    "worst_class_accuracy": Heading("Accuracy", "worst class"),
    "class_gap": Heading("Accuracy", "gap between classes"),
    "repair_rate": Heading("Inputs", "repair rate"),
    "held_out_rate": Heading("Inputs", "repair rate, held out"),
    "generalisation": Heading("Inputs", "generalisation"),
    "break_rate": Heading("Inputs", "break rate"),
    "net_change": Heading("Inputs", "net change"),
    "constraint": Heading("Constraint", "groups"),
    "constraint_tempered": Heading("Constraint", "at best temperature"),
    "similarity": Heading("Constraint", "class similarity"),
    "group_accuracy": Heading("Constraint", "group accuracy"),
    "calibration_error": Heading("Constraint", "calibration error"),
    "robustness": Heading("Pairs", "robustness"),
    "close_pairs": Heading("Pairs", "share close"),
    "pgd_accuracy": Heading("Robust", "under PGD"),
    "confusion_ab": Heading("Confusion", "(a, b)"),
    "confusion_ba": Heading("Confusion", "(b, a)"),
    "confusion": Heading("Confusion", "mean"),
    "churn": Heading("Replacement", "churn"),
    "negative_flips": Heading("Replacement", "negative flips"),
    "backward_compatibility": Heading("Replacement", "compatibility"),
    "spoiled_accuracy": Heading("Fault", "accuracy where it spoils"),
    "recovery": Heading("Fault", "recovery"),
    "collateral": Heading("Fault", "collateral"),
    "attack_success": Heading("Fault", "attack success"),
    "localisation_precision": Heading("Fault", "localisation precision"),
    "localisation_recall": Heading("Fault", "localisation recall"),
}


def extended(cells: Grid) -> list[Table]:
    """Returns one table for each data set and model."""
    return [_table(cells, place) for place in cells.columns]


def metrics_of(records: Iterable[Record]) -> list[str]:
    """Returns every metric that the records name, in the order of the headings, others after them."""
    found = {m for r in records for m in (*r.before, *r.after)}
    return [m for m in HEADINGS if m in found] + sorted(found - set(HEADINGS))


@cache
def _registered() -> dict[str, Metric]:
    return metric_entries()  # reads the entry points of every installed package: once is enough


def heading(metric: str) -> Heading:
    """Returns the metric's heading; a metric of another package is titled as it registers itself."""
    known = _registered()
    return HEADINGS.get(metric) or Heading("Other", known[metric].title if metric in known else metric)


def unit(metric: str) -> tuple[float, bool]:
    """Returns the factor that shows the metric (100 for shares and differences) and whether it
    carries a sign.
    """
    entry = _registered().get(metric)
    kind = entry.unit if entry else "share"
    return (100.0 if kind in ("share", "difference") else 1.0), kind == "difference"


def _table(cells: Grid, place: Column) -> Table:
    here = cells.where(lambda r: (r.case.dataset, r.case.model) == place)
    metrics = metrics_of(here.records)
    base = {m: baseline(here.records, m) for m in metrics}
    rows = (
        [Row(("subject", "before", ""), (*(_base_entry(base[m], m) for m in metrics), Entry("")))]
        if metrics
        else []
    )
    order = sorted(here.methods, key=lambda m: (category_rank(category(here, m)), method_rank(m)))
    best = {m: _best(here, place, m, base[m]) for m in metrics}
    last = ""
    for method in order:
        records = here.cell(place, method)
        label, rule = category(here, method), category(here, method) != last
        last = label
        found = states(here, place, method)
        if not found:
            rows.append(
                Row(
                    (label, method_title(method), settings(records)),
                    (Entry(status(records)),) * (len(metrics) + 1),
                    rule,
                )
            )
        for state in found:
            rows.append(_row(state, label, method, records, metrics, best, rule and state.kind == "final"))
    title = (
        f"{dataset_title(place[0])} {model_title(place[1])}: scores after the repair, "
        f"in % of test images unless stated"
    )
    headings = (*map(heading, metrics), Heading("Cost", "training images"))
    tidy = tuple(_tidy(here, place, order, metrics))
    notes = tuple(_notes(here, place))
    name = f"extended-{place[0]}-{place[1]}"
    return Table(
        name,
        title,
        ("Category", "Method", "Settings"),
        headings,
        tuple(rows),
        notes,
        claims(here, metrics, methods=cells.methods),
        tidy,
    )


def _base_entry(found: Sample | None, metric: str) -> Entry:
    scale, sign = unit(metric)
    return Entry(
        spread(Sample(tuple(v * scale / 100 for v in found.values)), sign=sign) if found else "missing"
    )


def _row(
    state: State,
    label: str,
    method: str,
    records: list[Record],
    metrics: list[str],
    best: dict[str, Sample | None],
    rule: bool,
) -> Row:
    shown = []
    for metric in metrics:
        scale, sign = unit(metric)
        found = state.sample(metric, scale)
        text = spread(found, sign=sign, usual=len(records)) if found else "missing"
        final = state.kind == "final"
        mark = flag(records) if final and metric == "constraint" else ""
        top = (
            final
            and found is not None
            and not wrecked(records)
            and (first := best[metric]) is not None
            and (round(found.mean, 2), found.n) == (round(first.mean, 2), first.n)
        )
        shown.append(Entry(text + mark, top))
    shown.append(Entry(f"{state.images.mean:,.0f}" if state.images else ""))
    names = {
        "final": marked(method_title(method), records),
        "phase": f"  · {state.label}",
        "beside": f"  beside it: {state.label}",
    }
    return Row(
        (label, names[state.kind], settings(records) if state.kind == "final" else ""), tuple(shown), rule
    )


def _best(cells: Grid, place: Column, metric: str, base: Sample | None) -> Sample | None:
    """The best value of the metric over the repaired models as printed, if it is better than the
    subject's own; a method that lacks it at a seed of another one is not the best.
    """
    entry = _registered().get(metric)
    if entry is None or entry.better == "none" or base is None:
        return None
    scale, _ = unit(metric)
    sound = [m for m in cells.methods if not wrecked(cells.cell(place, m))]
    found = [s for m in sound for state in states(cells, place, m)[:1] if (s := state.sample(metric, scale))]
    most = max((s.n for s in found), default=0)
    way = 1 if entry.better == "higher" else -1
    top = max((s for s in found if s.n == most), key=lambda s: way * s.mean, default=None)
    start = round(base.mean * scale / 100, 2)
    return top if top and way * round(top.mean, 2) > way * start else None


def _notes(cells: Grid, place: Column) -> Iterator[str]:
    yield (
        "· an intermediate state of the method; beside it: finetune's last state with at most as many "
        "training images, and for direct"
        " weight modifications a random change of the same norm (of each tensor)."
    )
    yield from wreck_note(cells)
    yield from flag_notes(cells.cell(place, m) for m in cells.methods)
    pairs = sorted({tuple(p) for r in cells.records if (p := r.subject.get("pair"))})
    if pairs:
        yield f"Confusion pair (a, b): classes {', '.join(f'{a} and {b}' for a, b in pairs)}."
    shared = set(column_notes(cells.records))
    for method in cells.methods:
        records = cells.cell(place, method)
        chosen = {
            f"{k}={o['value']} ({o.get('origin', 'given')})"
            for r in records
            for k, o in r.options.items()
            if o.get("given")
        }
        if chosen:
            yield f"Options of {method_title(method)} that are not its defaults: {', '.join(sorted(chosen))}."
        own: dict[str, list[str]] = {}
        for r in records:
            for note in r.notes:
                own.setdefault(" ".join(note.split()).rstrip("."), []).append(str(r.case.seed))
        for note, seeds in own.items():
            if note not in shared:
                yield f"{method_title(method)} notes (s{','.join(dict.fromkeys(seeds))}): {note}."


def _tidy(cells: Grid, place: Column, order: list[str], metrics: list[str]) -> Iterator[Tidy]:
    for method in order:
        records = cells.cell(place, method)
        start: Tidy = {
            "dataset": place[0],
            "model": place[1],
            "category": category(cells, method),
            "method": method,
            "settings": settings(records),
        }
        found = states(cells, place, method)
        if not found:
            yield start | {
                "state": "",
                "metric": "",
                **numbers(None),
                "training_images": None,
                "status": status(records),
                "flag": "",
            }
        for state in found:
            label = "final" if state.kind == "final" else f"{state.kind}: {state.label}"
            mark = FLAGS[temperature_alone(records)] if state.kind == "final" else ""
            for metric in metrics:
                values = state.sample(metric, unit(metric)[0])
                yield start | {
                    "state": label,
                    "metric": metric,
                    **numbers(values),
                    "training_images": fixed(state.images.mean, 0) if state.images else None,
                    "status": "repaired" if values else "missing",
                    "flag": mark if metric == "constraint" else "",
                }
