"""Before and after, for the person who repairs one model: a row a method, scores, damage and cost; and which method suits, by validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from airepair.records import Record
from airepair.report.claims import claims
from airepair.report.facts import marked, wreck_note, wrecked
from airepair.report.grid import Grid, baseline, sample, score, status
from airepair.report.layout import Entry, Heading, Row, Table, Tidy, fixed, numbers, spread
from airepair.report.order import Column, dataset_title, method_title, model_title

Number = Callable[[Record], float | None]


def _after(metric: str) -> Number:
    return lambda record: score(record, metric)


def _subject(name: str) -> Number:
    def number(record: Record) -> float | None:
        value = record.subject.get(name)
        return None if value is None else float(value)

    return number


def _seconds(record: Record) -> float | None:
    return None if record.cost.get("seconds") is None else float(record.cost["seconds"])


def _images(record: Record) -> float | None:
    return float(record.budget["backward"]) if "backward" in record.budget else None


# name -> heading, the number after a repair, scale, digits
COLUMNS: dict[str, tuple[Heading, Number, float, int]] = {
    "accuracy": (Heading("Test, %", "accuracy"), _after("accuracy"), 100, 2),
    "constraint": (Heading("Test, %", "constraint"), _after("constraint"), 100, 2),
    "confusion": (Heading("Test, %", "confusion"), _after("confusion"), 100, 2),
    "validation": (Heading("Validation, %", "accuracy"), _subject("repaired_validation_accuracy"), 100, 2),
    "repair_rate": (Heading("Inputs, %", "repaired"), _after("repair_rate"), 100, 1),
    "break_rate": (Heading("Damage, %", "broken"), _after("break_rate"), 100, 2),
    "worst_class_loss": (Heading("Damage, %", "worst class"), _after("worst_class_loss"), 100, 1),
    "seconds": (Heading("Cost", "seconds"), _seconds, 1, 1),
    "images": (Heading("Cost", "images"), _images, 1, 0),
}
BEFORE = {"accuracy", "constraint", "confusion"}


def before_after(cells: Grid) -> Table:
    """A first row for the subject as it was, then one a method: mean over seeds (± standard deviation); what did not run says why below."""
    rows: list[Row] = []
    for place in cells.columns:
        label = f"{dataset_title(place[0])} {model_title(place[1])}"
        rows.append(Row((label, "before"), tuple(_before(cells, place, name) for name in COLUMNS), rule=True))
        for method in cells.methods:
            records = cells.cell(place, method)
            if records:
                rows.append(Row((label, marked(method_title(method), records)), tuple(_entry(records, name) for name in COLUMNS)))
    notes = (
        "repaired: failing inputs of the repair split that are right afterwards. broken: right test inputs that are wrong afterwards.",
        "worst class: the largest loss of accuracy in one class. images: through forward and backward in the repair.",
        *wreck_note(cells),
    )
    headings = tuple(h for h, *_ in COLUMNS.values())
    title = "Before and after"
    return Table("before_after", title, ("Subject", "Method"), headings, tuple(rows), notes, claims(cells, ()), tuple(_tidy(cells)))


def _before(cells: Grid, place: Column, name: str) -> Entry:
    if name in BEFORE:
        found = baseline(cells.of(place), name)
    elif name == "validation":
        first = {r.case.seed: r for r in reversed(cells.of(place)) if r.subject}
        found = sample(first.values(), _subject("validation_accuracy"), 100)
    else:
        return Entry("")
    return Entry(spread(found) if found else "missing")


def _entry(records: list[Record], name: str) -> Entry:
    _, number, scale, digits = COLUMNS[name]
    ran = [r for r in records if r.status == "repaired"]
    found = sample(ran, number, scale)
    if found is not None:
        return Entry(spread(found, digits, usual=len(records)))
    return Entry((status(records) if name == "accuracy" or ran else "").replace("missing", "-"))


def _tidy(cells: Grid) -> Iterator[Tidy]:
    for place in cells.columns:
        for method in cells.methods:
            ran = [r for r in cells.cell(place, method) if r.status == "repaired"]
            for name, (_, number, scale, _) in COLUMNS.items() if ran else ():
                yield {"dataset": place[0], "model": place[1], "method": method, "quantity": name, **numbers(sample(ran, number, scale))}


def advice(cells: Grid) -> list[str]:
    """For each subject which method suits it, judged on validation alone against the controls that ran; "none" where no method beats them."""
    return [f"{dataset_title(p[0])} {model_title(p[1])}: {_suits(cells, p)}" for p in cells.columns]


def _gain(record: Record) -> float | None:
    after, before = record.subject.get("repaired_validation_accuracy"), record.subject.get("validation_accuracy")
    return None if after is None or before is None else 100 * (float(after) - float(before))


def _suits(cells: Grid, place: Column) -> str:
    gains: dict[str, float] = {}
    controls = {"doing nothing": 0.0}
    for method in cells.methods:
        ran = [r for r in cells.cell(place, method) if r.status == "repaired"]
        found = sample(ran, _gain)
        if found is not None and ran[0].category == "control":
            controls |= {method_title(method): found.mean} if method != "noop" else {}
        elif found is not None and not wrecked(ran):
            gains[method] = found.mean
    if not gains:
        return "no repair method has a result here" + (", only controls." if len(controls) > 1 else ".")
    best = max(gains, key=lambda m: gains[m])
    bar = max(controls, key=lambda c: controls[c])
    finetuned = any(r.case.base_method == "finetune" and r.status == "repaired" for r in cells.of(place))
    open_question = (
        "" if finetuned else " finetune, the control, was not run: whether plain training does as well is open (--method finetune)."
    )
    title, change = method_title(best), f"validation accuracy by {fixed(gains[best], 2, True)} points"
    if gains[best] <= controls[bar]:
        against = "no gain" if bar == "doing nothing" else f"{bar}, a control, by {fixed(controls[bar], 2, True)}"
        return f"none: {title}, the best repair method that ran, changes {change}, {against}.{open_question}"
    than = f" ({bar}, a control: {fixed(controls[bar], 2, True)})" if bar != "doing nothing" else ""
    others = f", the most of the {len(gains)} repair methods that ran" if len(gains) > 1 else ""
    return f"{title} changes {change}{than}{others}.{_noise(cells, place, gains[best] - controls[bar])}{open_question}"


def _noise(cells: Grid, place: Column, lead: float) -> str:
    """A remark where the lead is smaller than two standard errors of a difference between two accuracies on that many validation images."""
    records = [r for r in cells.of(place) if r.status == "repaired"]
    n = min((int(dict(r.provenance.get("n") or {}).get("validation", 0)) for r in records), default=0)
    p = sum(float(r.subject.get("validation_accuracy") or 0) for r in records) / max(1, len(records))
    seeds = max(1, len({r.case.seed for r in records}))
    if n and lead < 200 * math.sqrt(2 * max(p * (1 - p), 1e-4) / (n * seeds)):
        return f" The lead is within the noise of {n} validation images."
    return ""
