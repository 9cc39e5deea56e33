"""Before and after, for the person who repairs one model: a row per method, scores, damage and cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from airepair.records import Record
from airepair.report.cells import Grid, baseline, sample, score, status
from airepair.report.claims import claims
from airepair.report.facts import marked, wreck_note
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.table import Entry, Heading, Row, Table, Tidy, numbers, spread

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
    "held_out_rate": (Heading("Inputs, %", "held out"), _after("held_out_rate"), 100, 1),
    "break_rate": (Heading("Damage, %", "broken"), _after("break_rate"), 100, 2),
    "worst_class_loss": (Heading("Damage, %", "worst class"), _after("worst_class_loss"), 100, 1),
    "seconds": (Heading("Cost", "seconds"), _seconds, 1, 1),
    "images": (Heading("Cost", "images"), _images, 1, 0),
}
HELD_OUT = "held_out_rate"
BEFORE = {"accuracy", "constraint", "confusion"}


def before_after(cells: Grid) -> Table:
    """Returns a first row for the subject before the repair, then one per method: mean over seeds
    (± standard deviation); what did not run says why below.
    """
    rows: list[Row] = []
    names = columns(cells)
    for place in cells.columns:
        label = f"{dataset_title(place[0])} {model_title(place[1])}"
        rows.append(Row((label, "before"), tuple(_before(cells, place, name) for name in names), rule=True))
        for method in cells.methods:
            records = cells.cell(place, method)
            if records:
                rows.append(
                    Row(
                        (label, marked(method_title(method), records)),
                        tuple(_entry(records, name) for name in names),
                    )
                )
    held = (
        ("held out: given inputs that the method did not learn from; the others are under repaired.",)
        if HELD_OUT in names
        else ()
    )
    notes = (
        "repaired: failing inputs that the method got that are right afterwards. broken: "
        "right test inputs that are wrong afterwards.",
        *held,
        "worst class: the largest loss of accuracy in one class. images: through forward and backward in "
        "the repair.",
        *wreck_note(cells),
        *_of_files(cells),
    )
    headings = tuple(COLUMNS[name][0] for name in names)
    title = "Before and after"
    return Table(
        "before_after",
        title,
        ("Subject", "Method"),
        headings,
        tuple(rows),
        notes,
        claims(cells, ()),
        tuple(_tidy(cells)),
    )


def _of_files(cells: Grid) -> Iterator[str]:
    """What was noted when the model files were read, once for each: what stays in a file though the
    repair makes it untrue, whose code was run, ...
    """
    for place in cells.columns:
        origins = [record.subject.get("origin") or {} for record in cells.of(place)]
        for note in dict.fromkeys(note for origin in origins for note in origin.get("notes") or ()):
            yield f"Note on the file ({'-'.join(place)}): {str(note).rstrip('.')}."


def columns(cells: Grid) -> list[str]:
    """Returns the columns of these records; that of inputs held out stands only where some were."""
    return [name for name in COLUMNS if name != HELD_OUT or any(name in r.after for r in cells.records)]


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
            for name in columns(cells) if ran else ():
                _, number, scale, _ = COLUMNS[name]
                yield {
                    "dataset": place[0],
                    "model": place[1],
                    "method": method,
                    "quantity": name,
                    **numbers(sample(ran, number, scale)),
                }
