"""What the records of one cell say besides their scores: category, where the options come from,
whether a gain is only confidence, whether the model is wrecked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from airepair.records import Record
from airepair.report.cells import Grid, gain, sample

FLAG = "‡"
FLAGGED = (
    f"{FLAG} The gain vanishes under temperature scaling fitted on validation: "
    f"rescaling the logits alone would produce it."
)
UNKNOWN = "‡?"
UNKNOWN_NOTE = (
    f"{UNKNOWN} The constraint accuracy under temperature scaling is missing for at least one seed: "
    f"rescaling the logits alone might produce the gain."
)

TRIALS = ("tuned", "airepair tune")  # how the origin of an option that was chosen by trials begins

WRECK = "✗"
WRECKED = (
    f"{WRECK} The repair wrecked the model: for at least one seed, less than half of its accuracy is left."
)


def wrecked(records: Iterable[Record]) -> bool:
    """Returns whether a repair of these left less than half of the accuracy that there was."""
    return any(r.wrecked for r in records)


def marked(title: str, records: Iterable[Record]) -> str:
    """Returns a title or number, marked where a repair of these records wrecked the model."""
    return f"{title} {WRECK}" if wrecked(records) else title


def wreck_note(cells: Grid) -> tuple[str, ...]:
    """What the mark says, if it stands anywhere."""
    return (WRECKED,) if wrecked(cells.records) else ()


def temperature_alone(records: Iterable[Record]) -> bool | None:
    """Returns whether the constraint gained on average but not at the best temperature:
    over-confidence, not repair. None if it gained and the tempered gain of some seed is missing.
    """
    ran = list(records)
    plain = sample(ran, partial(gain, metric="constraint"))
    if plain is None or plain.mean <= 0:
        return False
    having = [r for r in ran if gain(r, "constraint") is not None]
    tempered = sample(having, partial(gain, metric="constraint_tempered"))
    if tempered is None or tempered.n < plain.n:
        return None
    return tempered.mean <= 0


def flag(records: Iterable[Record]) -> str:
    """Returns the mark of a cell's constraint gain: a temperature alone would give it, or that is
    unknown.
    """
    return {True: FLAG, None: UNKNOWN, False: ""}[temperature_alone(records)]


def flag_notes(of: Iterable[Iterable[Record]]) -> list[str]:
    """Returns what the marks of these cells say."""
    marks = {flag(records) for records in of}
    return [note for mark, note in ((FLAG, FLAGGED), (UNKNOWN, UNKNOWN_NOTE)) if mark in marks]


def settings(records: Iterable[Record]) -> str:
    """Returns where a row's options come from: "default", "tuned", "given" or the settings table."""
    origins = {
        str(o.get("origin") or ("given" if o.get("given") else "default"))
        for r in records
        for o in r.options.values()
    }
    words = {
        "tuned" if o.startswith(TRIALS) else o if o in ("default", "given") else "settings table"
        for o in origins
    } - {"default"}
    return " + ".join(sorted(words)) or "default"


def by_trials(record: Record) -> bool:
    """Returns whether `airepair tune` chose an option of the record, on validation."""
    return any(str(o.get("origin", "")).startswith(TRIALS) for o in record.options.values())


def category(cells: Grid, method: str) -> str:
    """Returns the method's category as its records have it (a crashed cell has none)."""
    return next(
        (r.category for r in cells.records if r.case.method == method and r.category), "category unknown"
    )


def conditions(records: Iterable[Record]) -> str:
    """What the heading of a column says that a footnote would hide: "CPU, bf16, quarter width", of
    ResNets on a CPU also "CPU, float32, full width"; "" if all is float32 otherwise.
    """
    found = list(records)
    bf16 = any(r.provenance.get("arithmetic") == "bf16" for r in found)
    devices = sorted({str(r.provenance.get("device_kind", "")).upper() for r in found} - {""})
    resnet = re.search(r"resnet\d+(?:w(\d+))?", found[0].case.model) if found else None
    if not bf16 and not (resnet and (resnet[1] or devices == ["CPU"])):
        return ""
    words = {"16": "quarter width", "32": "half width", None: "full width"}
    width = [words.get(resnet[1], f"{resnet[1]} of 64 channels")] if resnet else []
    return ", ".join([*devices, "bf16" if bf16 else "float32", *width])
