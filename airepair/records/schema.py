"""What a line of a record file may hold.

`problems_of` is the door: behind it reports trust every type. Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any, Literal, get_args

import msgspec

from airepair.case import Source
from airepair.errors import UsageError
from airepair.host.validation import Count, Finite, NotNegative, Share, Word, between, problems
from airepair.metrics import entries
from airepair.records.packed_bits import length, ones

Schema = Literal[1]
(SCHEMA,) = get_args(Schema)
Status = Literal["repaired", "unsupported", "failed", "crashed", "timeout", "out of memory", "skipped"]


class Closed(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A table with these fields and no others."""


class CaseFields(Closed, frozen=True):
    """Of airepair.case.Case, which checks the words themselves."""

    dataset: Word
    model: Word
    method: Word
    seed: Count


class PhaseFields(Closed, frozen=True):
    """Of Phase."""

    name: str
    images: Count
    seconds: NotNegative
    scores: dict[str, Finite]
    right: str = ""


class OptionFields(Closed, frozen=True):
    """One option of a method: its value, whether a user or a table gave it, and who."""

    value: Any
    given: bool = False
    origin: str = "default"


class Twin(msgspec.Struct, frozen=True):
    """The clean twin of a faulty subject: training images and accuracy on the inputs that the fault
    spoils.
    """

    images: Count
    spoiled: Share


class Spoiled(msgspec.Struct, frozen=True):
    """Accuracy of the faulty subject on those inputs."""

    spoiled: Share


class SpoiledCount(msgspec.Struct, frozen=True):
    """How many those inputs are."""

    spoiled: Count


class Fault(msgspec.Struct, frozen=True):
    """A fault with a known cause; one with a twin has the scores that Table II compares."""

    name: str = ""
    severity: Any = None
    corruption: str | None = None
    n: SpoiledCount | None = None
    before: Spoiled | None = None
    twin: Twin | None = None


class Division(msgspec.Struct, frozen=True):
    """The seed that drew the splits, and what a claim over seeds holds over."""

    seed: Count
    over: str


class Subject(msgspec.Struct, frozen=True):
    """What reports read of `subject`."""

    name: str = ""
    origin: dict[str, Any] = {}
    trained_on: str = ""
    recipe: dict[str, Any] = {}
    data: dict[str, str] = {}
    weights: str | None = None
    repaired_weights: str | None = None
    pair: tuple[Count, Count] | None = None
    validation_accuracy: Share | None = None
    repaired_validation_accuracy: Share | None = None
    fault: Fault | None = None
    split: Division | None = None


class Provenance(msgspec.Struct, frozen=True):
    """What reports read of `provenance`."""

    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str] = {}
    device: str | None = None
    device_kind: str | None = None
    threads: Count | None = None
    profile: str | None = None
    time: str | None = None
    benchmark_version: Count | None = None
    arithmetic: str | None = None
    n: dict[str, Count] = {}


class Cost(msgspec.Struct, frozen=True):
    """What reports read of `cost`."""

    seconds: NotNegative | None = None
    cpu_seconds: NotNegative | None = None
    peak_bytes: NotNegative | None = None
    joules: NotNegative | None = None
    memory_source: str | None = None


class Line(Closed, frozen=True):
    """A whole line; Record says what the fields mean. What a method or a later version adds to
    cost, subject and provenance may stand there too.
    """

    schema: Schema
    key: Word
    case: CaseFields
    status: Status
    reason: str = ""
    category: str = ""
    options: dict[str, OptionFields] = {}
    before: dict[str, Finite] = {}
    after: dict[str, Finite] = {}
    missing: dict[str, str] = {}
    budget: dict[str, Count] = {}
    sources: tuple[Source, ...] = ()
    cost: Cost = Cost()
    phases: tuple[PhaseFields, ...] = ()
    subject: Subject = Subject()
    provenance: Provenance = Provenance()
    right: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    fingerprint: dict[str, Any] = {}


def fits(raw: Any) -> bool:
    """Whether a line's value can be a record: the quick answer, for files of many thousand lines."""
    try:
        line = msgspec.convert(raw, Line)
    except (msgspec.ValidationError, OverflowError):
        return False
    return next(chain(_out_of_range(line), _unreadable(line)), None) is None


def problems_of(raw: Any) -> Iterator[str]:
    """What is wrong with a line's value, one sentence per field: the types first, then the ranges
    of the metrics.
    """
    if (
        isinstance(raw, Mapping) and "schema" in raw
    ):  # a line of another schema has other fields: their names would only confuse
        found = list(problems(raw["schema"], Schema, "schema"))
        if found:
            yield from found
            return
    found = list(problems(raw, Line))
    if not found:
        line = msgspec.convert(raw, Line)
        found = [*_out_of_range(line), *_unreadable(line)]
    yield from found


def _out_of_range(line: Line) -> Iterator[str]:
    """The scores that lie outside the range that their metric declares."""
    tables = {"before": line.before, "after": line.after}
    for i, phase in enumerate(line.phases):
        tables[f"phases[{i}].scores"] = phase.scores
    ranges = _ranges()
    for field, scores in tables.items():
        for name, value in scores.items():
            low, high = ranges.get(name, UNKNOWN)
            if not low <= value <= high:
                yield f"{field}.{name} is {value}; accepted: {between(low, high)}"


def _unreadable(line: Line) -> Iterator[str]:
    """The right answers that are none, or more or fewer than the tested images."""
    texts = {f"right.{name}": text for name, text in line.right.items() if name != "tested"}
    texts |= {f"phases[{i}].right": phase.right for i, phase in enumerate(line.phases) if phase.right}
    try:
        images = ones(line.right["tested"]) if "tested" in line.right else 0
    except UsageError as error:
        yield f"right.tested: {error}"
        return
    for field, text in texts.items():
        try:
            found = length(text)
        except UsageError as error:
            yield f"{field}: {error}"
            continue
        if found != images:
            yield f"{field} answers for {found} images; accepted: {images}, those of right.tested"


UNKNOWN = (-math.inf, math.inf)  # of a metric that is not installed here: any finite number


@cache
def _ranges() -> dict[str, tuple[float, float]]:
    return {name: entry.range for name, entry in entries().items()} | {"validation_accuracy": (0.0, 1.0)}
