"""The HTML leaderboard: one self-contained page with Table I, every cell in a sortable table, and each cell's details.

No external resources; without JavaScript everything is readable and only sorting and filtering are gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from airepair.records import Record
from airepair.report.claims import claims
from airepair.report.costs import COLUMNS
from airepair.report.curves import HEIGHT, WIDTH, Curve, curve
from airepair.report.facts import FLAG, FLAGGED, category, marked, settings, temperature_alone, wreck_note, wrecked
from airepair.report.grid import Grid, Sample, gain, sample, score, status
from airepair.report.layout import Table, fixed, spread
from airepair.report.order import Column, dataset_title, method_title, model_title
from airepair.report.states import states
from airepair.report.text import plain
from airepair.report.verdict import verdict


@dataclass(frozen=True)
class Value:
    """What a cell of the sortable table shows, and the number that it is sorted by (None goes last)."""

    text: str
    number: float | None


@dataclass(frozen=True)
class Line:
    """One cell of the grid: `seeds` are (seeds, status, reason), `options` (name, value, origin)."""

    id: str
    subject: str
    method: str
    category: str
    settings: str
    status: str
    values: tuple[Value, ...]
    seeds: tuple[tuple[str, str, str], ...]
    options: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    curve: Curve | None


HEADINGS = (
    ("n", "seeds that were repaired"),
    ("Accuracy", "gain in percentage points"),
    ("Net change", "fixed minus broken, in points"),
    ("finetune", "net change of finetune's last state with no more training images"),
    ("Constraint", "gain in percentage points"),
    ("Tempered", "gain of the constraint at the temperature that fits validation best, in points"),
    ("Repair rate", "failing inputs given to the method that are right after, in %"),
    ("Generalisation", "test inputs wrong before and right after, in %"),
    ("Break rate", "test inputs right before and wrong after, in %"),
    ("Images", "training images, forward and backward"),
    ("Seconds", "of the repair alone"),
    ("Peak MiB", "memory that the repair added"),
)


def leaderboard(cells: Grid, tables: Iterable[Table], whole: Grid | None = None, verified: Iterable[str] = ()) -> str:
    """The page. `whole` are the records with their ablations, for the verdict; `verified` says which have been run again.

    Of `tables` the first (Table I), Table II and Table III stand above the sortable one, the others below it.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = files("airepair.report").joinpath("leaderboard.html.j2").read_text(encoding="utf-8")
    lines = [_line(cells, p, m) for p in cells.columns for m in cells.methods if cells.cell(p, m)]
    found = list(tables)
    first = found[:1] + [t for t in found[1:] if t.name in ("table2", "table3")]
    page = environment.from_string(source).render(
        first=first,
        more=[t for t in found if t not in first],
        headings=HEADINGS,
        lines=lines,
        claims=claims(cells, ()),
        verdict=verdict(whole or cells),
        about=" ".join([_about(cells), *(f"{mark}." for mark in verified)]),
        marks=_marks(cells),
        width=WIDTH,
        height=HEIGHT,
        plain=plain,
    )
    return page + "\n"


def _about(cells: Grid) -> str:
    """When the records were made, and with which versions."""
    days = sorted(str(r.provenance["time"])[:10] for r in cells.records if r.provenance.get("time"))
    when = f"Records of {days[0]}" + (f" to {days[-1]}" if days[-1] != days[0] else "") if days else "Records without a date"
    versions = sorted({str(dict(r.provenance.get("versions") or {}).get("airepair", "unknown")) for r in cells.records})
    return f"{when}; benchmark version {cells.version}; airepair {', '.join(versions)}."


def _marks(cells: Grid) -> list[str]:
    """What the marks in the sortable table say."""
    alone = any(temperature_alone(cells.cell(p, m)) for p in cells.columns for m in cells.methods)
    return [*wreck_note(cells), *([FLAGGED] if alone else [])]


def _line(cells: Grid, place: Column, method: str) -> Line:
    records = cells.cell(place, method)
    given = {(k, str(o.get("value")), str(o.get("origin", "default"))) for r in records for k, o in r.options.items()}
    options = {o for o in given if o[2] != "default"}
    others = Counter(r.status for r in records if r.status != "repaired")
    ended = ", ".join(f"{n} {word}" for word, n in sorted(others.items()))
    ran = any(r.status == "repaired" for r in records)
    return Line(
        id=re.sub(r"[\[\]@]", "_", "-".join((*place, method))),
        subject=f"{dataset_title(place[0])} {model_title(place[1])}",
        method=marked(method_title(method), records),
        category=category(cells, method),
        settings=settings(records),
        status=", ".join(filter(None, ("repaired", "wrecked the model" if wrecked(records) else "", ended))) if ran else status(records),
        values=_values(cells, place, method, records),
        seeds=_seeds(records),
        options=tuple(sorted(options)),
        notes=tuple(dict.fromkeys(plain(n) for r in records for n in r.notes)),
        curve=curve(cells, place, method),
    )


def _seeds(records: list[Record]) -> tuple[tuple[str, str, str], ...]:
    """Which seeds ended how."""
    found: dict[tuple[str, str], list[int]] = {}
    for record in records:
        found.setdefault((record.status, plain(record.reason)), []).append(record.case.seed)
    return tuple((", ".join(map(str, seeds)), status, reason) for (status, reason), seeds in found.items())


def _values(cells: Grid, place: Column, method: str, records: list[Record]) -> tuple[Value, ...]:
    """In the order of HEADINGS."""
    ran = [r for r in records if r.status == "repaired"]
    beside = next((s for s in states(cells, place, method) if s.kind == "beside" and s.label.startswith("finetune")), None)

    def gained(metric: str) -> Value:
        return _value(sample(ran, partial(gain, metric=metric), 100), 2, sign=True)

    def scored(metric: str, sign: bool = False) -> Value:
        return _value(sample(ran, partial(score, metric=metric), 100), 2, sign)

    constraint = gained("constraint")
    if temperature_alone(records):
        constraint = Value(constraint.text + FLAG, constraint.number)
    costs = (_value(sample(ran, COLUMNS[name][1]), digits) for name, digits in (("training_images", 0), ("seconds", 1), ("peak_mib", 0)))
    return (
        Value(f"{len(ran)}/{len(records)}" if len(ran) < len(records) else str(len(ran)), len(ran)),
        gained("accuracy"),
        scored("net_change", sign=True),
        _value(beside.sample("net_change", 100) if beside else None, 2, sign=True),
        constraint,
        gained("constraint_tempered"),
        scored("repair_rate"),
        scored("generalisation"),
        scored("break_rate"),
        *costs,
    )


def _value(found: Sample | None, digits: int, sign: bool = False) -> Value:
    if found is None:
        return Value("–", None)
    text = f"{found.mean:,.0f}" if digits == 0 else spread(found, digits, sign)
    return Value(text, float(fixed(found.mean, 6)))
