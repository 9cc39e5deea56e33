"""What a line of a record file may hold, and what each field means (the docs site shows it).

`problems_of` is the door: behind it reports trust every type. Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from airepair.case import Source
from airepair.errors import UsageError
from airepair.host.validation import Count, Finite, NotNegative, Share, Word, between, problems
from airepair.metrics import entries
from airepair.records.packed_bits import length, ones

Schema = Literal[1]
(SCHEMA,) = get_args(Schema)
Status = Literal["repaired", "unsupported", "failed", "crashed", "timeout", "out of memory", "skipped"]


class Closed(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """It is a table with these fields and no others."""


class CaseFields(Closed, frozen=True):
    """A cell's id has these parts."""

    dataset: Annotated[Word, Meta(description="data set, with an environment behind a plus (`digits+fog3`)")]
    model: Annotated[
        Word,
        Meta(
            description="architecture, with a fault behind a plus (`fc+missing`), or the name of a model file"
        ),
    ]
    method: Annotated[Word, Meta(description="method, with its variant in brackets (`apricot[random_sets]`)")]
    seed: Annotated[Count, Meta(description="seed of the cell")]


class PhaseFields(Closed, frozen=True):
    """It is an intermediate model that a method handed in."""

    name: Annotated[str, Meta(description="the method's name for this state")]
    images: Annotated[Count, Meta(description="training images so far")]
    seconds: Annotated[NotNegative, Meta(description="seconds so far")]
    scores: Annotated[dict[str, Finite], Meta(description="scores on validation and test")]
    right: Annotated[str, Meta(description="which test images are right, as in `right` of the line")] = ""


class OptionFields(Closed, frozen=True):
    """It is one option of a method."""

    value: Annotated[Any, Meta(description="its value")]
    given: Annotated[bool, Meta(description="whether a user or a table of settings gave it")] = False
    origin: Annotated[
        str, Meta(description="who gave it: `default`, the line of a table, the command line, a tuning run")
    ] = "default"


class Twin(msgspec.Struct, frozen=True):
    """It is the clean twin of a faulty subject. A score is null if there are no such inputs."""

    images: Annotated[
        Count | None,
        Meta(description="training images of the twin's own training; null if it stopped at an accuracy"),
    ]
    spoiled: Annotated[Share | None, Meta(description="its accuracy on the spoiled test inputs")]
    others: Annotated[Share | None, Meta(description="its accuracy on the other test inputs")] = None


class Spoiled(msgspec.Struct, frozen=True):
    """It holds scores of the faulty subject. A score is null if there are no such inputs."""

    spoiled: Annotated[Share | None, Meta(description="accuracy on the spoiled test inputs")]
    others: Annotated[Share | None, Meta(description="accuracy on the other test inputs")] = None


class SpoiledCount(msgspec.Struct, frozen=True):
    """It holds the number of spoiled test inputs."""

    spoiled: Annotated[Count, Meta(description="number of spoiled test inputs")]


class Fault(msgspec.Struct, frozen=True):
    """It is a fault with a known cause. Table II compares the scores, if the subject has a twin: then
    `n` and `before` are there, too.
    """

    name: Annotated[str, Meta(description="the fault's name")] = ""
    severity: Annotated[Any, Meta(description="its severity")] = None
    corruption: Annotated[str | None, Meta(description="the corruption, for an environment")] = None
    n: Annotated[SpoiledCount | None, Meta(description="numbers of inputs")] = None
    before: Annotated[Spoiled | None, Meta(description="scores of the faulty subject")] = None
    twin: Annotated[Twin | None, Meta(description="scores and cost of the clean twin")] = None


class Division(msgspec.Struct, frozen=True):
    """How the data set was divided."""

    seed: Annotated[Count, Meta(description="the seed that drew the splits")]
    over: Annotated[
        str, Meta(description="what a claim over seeds holds over, such as `splits of these 1,797 images`")
    ]


class Subject(msgspec.Struct, frozen=True):
    """It is the model before the repair: the fields that reports read."""

    name: Annotated[str, Meta(description="name of the subject")] = ""
    origin: Annotated[
        dict[str, Any],
        Meta(description="trained here, or a user's file with the fidelity of its conversion"),
    ] = {}
    trained_on: Annotated[str, Meta(description="what it was trained on (docs/protocol.md)")] = ""
    recipe: Annotated[dict[str, Any], Meta(description="how it was trained")] = {}
    data: Annotated[dict[str, str], Meta(description="SHA-256 digests of the splits")] = {}
    weights: Annotated[str | None, Meta(description="digest of its weights")] = None
    repaired_weights: Annotated[str | None, Meta(description="digest of the repaired weights")] = None
    pair: Annotated[tuple[Count, Count] | None, Meta(description="class pair of the confusion metrics")] = (
        None
    )
    validation_accuracy: Annotated[
        Share | None, Meta(description="accuracy on validation before the repair")
    ] = None
    repaired_validation_accuracy: Annotated[
        Share | None, Meta(description="accuracy on validation after the repair")
    ] = None
    fault: Annotated[Fault | None, Meta(description="its known fault")] = None
    split: Annotated[Division | None, Meta(description="who drew the splits")] = None


class Provenance(msgspec.Struct, frozen=True):
    """It says where and with what the cell ran: the fields that reports read."""

    commit: Annotated[str | None, Meta(description="commit of the checkout")] = None
    dirty: Annotated[
        bool | None, Meta(description="whether the checkout had changes that were not committed")
    ] = None
    versions: Annotated[
        dict[str, str], Meta(description="versions of airepair, Python and the libraries")
    ] = {}
    device: Annotated[str | None, Meta(description="name of the processor or GPU")] = None
    device_kind: Annotated[str | None, Meta(description="`cpu` or `cuda`")] = None
    threads: Annotated[Count | None, Meta(description="threads of torch")] = None
    profile: Annotated[str | None, Meta(description="the profile: data and seed budget")] = None
    time: Annotated[str | None, Meta(description="when the cell ended, in UTC")] = None
    benchmark_version: Annotated[
        Count | None, Meta(description="version of the benchmark; numbers of two versions are never mixed")
    ] = None
    arithmetic: Annotated[
        str | None, Meta(description="`portable`, `native`, or the precision of the training, such as `bf16`")
    ] = None
    n: Annotated[dict[str, Count], Meta(description="images per split, and number of failing inputs")] = {}


class Cost(msgspec.Struct, frozen=True):
    """It is the cost of the repair alone: the fields that reports read."""

    seconds: Annotated[NotNegative | None, Meta(description="wall time")] = None
    cpu_seconds: Annotated[NotNegative | None, Meta(description="CPU time")] = None
    peak_bytes: Annotated[
        NotNegative | None, Meta(description="peak memory beyond what the process held before")
    ] = None
    joules: Annotated[NotNegative | None, Meta(description="energy of the GPU")] = None
    gpu_percent: Annotated[
        NotNegative | None, Meta(description="share of its time in which the GPU ran a kernel, mean, in %")
    ] = None
    watts: Annotated[NotNegative | None, Meta(description="power of the GPU, mean")] = None
    memory_source: Annotated[str | None, Meta(description="how the peak was measured")] = None


class Line(Closed, frozen=True):
    """It is one finished cell. A method or a later version may add fields to cost, subject and provenance."""

    schema: Annotated[Schema, Meta(description="version of this schema")]
    key: Annotated[Word, Meta(description="id of the cell: `DATASET-MODEL-METHOD-sSEED`")]
    case: Annotated[CaseFields, Meta(description="the four parts of the id")]
    status: Annotated[Status, Meta(description="how the cell ended")]
    reason: Annotated[str, Meta(description="why, if it is not `repaired`")] = ""
    category: Annotated[str, Meta(description="category of the method")] = ""
    options: Annotated[
        dict[str, OptionFields], Meta(description="name of each option of the method -> its value")
    ] = {}
    before: Annotated[dict[str, Finite], Meta(description="metric -> score of the subject")] = {}
    after: Annotated[dict[str, Finite], Meta(description="metric -> score of the repaired model")] = {}
    missing: Annotated[dict[str, str], Meta(description="metric -> why it has no score")] = {}
    budget: Annotated[
        dict[str, Count],
        Meta(
            description="`backward`: images through forward and backward; `forward`: through forward only; "
            "`declared`: the most of the first kind, declared before the repair; "
            "`selection`: training images with which a control chose its own options"
        ),
    ] = {}
    sources: Annotated[tuple[Source, ...], Meta(description="what the method learned from")] = ()
    cost: Annotated[Cost, Meta(description="cost of the repair alone")] = Cost()
    phases: Annotated[
        tuple[PhaseFields, ...],
        Meta(
            description="intermediate models that the method handed in, and the harness's own control "
            "`random change of the same norm`"
        ),
    ] = ()
    subject: Annotated[Subject, Meta(description="the model before the repair")] = Subject()
    provenance: Annotated[Provenance, Meta(description="where and with what the cell ran")] = Provenance()
    right: Annotated[
        dict[str, str],
        Meta(
            description="`tested`: the test images, by their index in the data set; "
            "`before` and `after`: which of them are right (packed bits)"
        ),
    ] = {}
    notes: Annotated[
        tuple[str, ...], Meta(description="what a reader must know, such as `failures seen in training`")
    ] = ()
    fingerprint: Annotated[
        dict[str, Any],
        Meta(description="what two records of one experiment have in common; empty in older records"),
    ] = {}


def fits(raw: Any) -> bool:
    """Whether a line's value can be a record: the quick answer, for files of many thousand lines."""
    try:
        line = msgspec.convert(raw, Line)
    except (msgspec.ValidationError, OverflowError):
        return False
    return next(_contradictions(line), None) is None


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
        found = list(_contradictions(line))
    yield from found


def _contradictions(line: Line) -> Iterator[str]:
    """What is wrong with a line whose fields each have their type."""
    return chain(_out_of_range(line), _unreadable(line), _incomplete(line))


def _incomplete(line: Line) -> Iterator[str]:
    """What a twin cannot be compared without."""
    fault = line.subject.fault
    for name in ("n", "before") if fault and fault.twin else ():
        if getattr(fault, name) is None:
            yield f"subject.fault.{name} is missing; accepted: a table, since there is a twin"


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
