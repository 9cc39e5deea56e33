"""The last stage: the exams of the repaired model and the cell's record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import Exam
from airepair.evaluation.exams import Exams
from airepair.evaluation.memory import noting
from airepair.host.arithmetic.precision import arithmetic_of
from airepair.host.tensor_cache import digest_of_module
from airepair.metrics import score
from airepair.records import SAME_NORM, Phase, Record
from airepair.records.right_answers import right, tested
from airepair.runner.cost import Cost
from airepair.runner.global_state import lost_context
from airepair.runner.prepared import (
    PreparedCell,
    counts,
    examined,
    notes_before,
    options_with_origins,
    subject_facts,
    without_attack,
)
from airepair.runner.provenance import fingerprint, provenance
from airepair.runner.random_control import same_norm
from airepair.runner.repair import Ending, Repaired, recorded
from airepair.training.best_state import chooses

UNCHANGED = "the model came back as it was"  # how the note begins, by which a reader tells such a cell


@dataclass(eq=False)
class Outcome:
    """What a cell leaves in this process: the record, the repaired module (None if there is
    none), exams on test, the curve, the log, the cost.
    """

    record: Record
    module: nn.Module | None
    before: Exam
    after: Exam | None
    curve: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    cost: Cost | None = None
    logs: Mapping[str, bytes] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


def outcome(ready: PreparedCell, repaired: Repaired) -> Outcome:
    """Examines what was repaired.

    Only a model whose logits are finite and of the right shape on every image of every exam is
    "repaired".
    """
    with noting(repaired.events.note):
        return _outcome(ready, repaired)


def _outcome(ready: PreparedCell, repaired: Repaired) -> Outcome:
    events, module = repaired.events, repaired.module
    status, reason, found = repaired.status, repaired.reason, Examined()
    if module is not None:
        end = Ending()
        with recorded(end):
            found = _examined(ready, module)
        if end.status != "repaired" or found.problem:
            module, status = None, "out of memory" if end.status == "out of memory" else "failed"
            reason = f"the repaired module {found.problem or f'raises when it is examined: {end.reason}'}"
            found = Examined()
    phases = tuple(_phases(ready, repaired, module)) if module is not None else ()
    if dead := lost_context(ready.failing.x.device):
        events.note(f"no other cell can run in this process, which has lost its {dead[0]}")
    if dead and module is not None:
        module, status, reason = None, "failed", f"an exam of a state ended the {dead[0]}"
        found, phases = Examined(), ()
    if unchanged := _unchanged(ready, found):
        events.note(unchanged)
    record = Record(
        case=ready.case,
        status=status,
        reason=reason,
        category=str(ready.method.category),
        options=options_with_origins(ready),
        before=ready.scores,
        after=found.scores,
        missing=found.missing or ready.missing,
        budget=events.spent(),
        sources=events.sources,
        cost=repaired.cost.as_record() if repaired.cost else {},
        phases=phases,
        subject=subject_facts(ready) | found.facts,
        right={} if dead else _right_answers(ready, found.exams),
        provenance=_provenance(ready),
        notes=(*notes_before(ready), *events.notes),
        fingerprint={}
        if dead  # the images that it is about cannot be read any more
        else fingerprint(ready.spec, ready.loaded, ready.method, events.column, ready.source),
    )
    log = _log(record, events.curve)
    after = found.exams.test if found.exams else None
    return Outcome(
        record,
        module,
        ready.before.test,
        after,
        events.curve,
        log,
        repaired.cost,
        repaired.logs,
        repaired.lost or dead,
    )


def _provenance(ready: PreparedCell) -> dict[str, Any]:
    facts = provenance(ready.failing.x.device, ready.spec.profile, counts(ready))
    return facts | arithmetic_of(ready.subject.module) | _examined_on(ready)


def untouched(ready: PreparedCell) -> Outcome:
    """Returns the outcome of a cell in which nothing is repaired: the exams of the subject as it is."""
    record = Record(
        case=ready.case,
        status="skipped",
        reason="no repair was asked for",
        before=ready.scores,
        missing=ready.missing,
        subject=subject_facts(ready),
        provenance=_provenance(ready),
        notes=tuple(notes_before(ready)),
    )
    return Outcome(record, None, ready.before.test, None)


@dataclass
class Examined:
    """It holds what the exams of a repaired model say; `problem`: why it is no drop-in replacement
    of the subject.
    """

    exams: Exams | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def _examined(ready: PreparedCell, module: nn.Module) -> Examined:
    exams, problem = examined(ready, module)
    if problem:
        return Examined(problem=f"gives {problem}")
    scores, missing = score(ready.before, exams)
    facts = {
        "repaired_weights": digest_of_module(module),
        "repaired_validation_accuracy": exams.validation.accuracy,
    }
    return Examined(exams, scores, missing, facts)


def test_index(ready: PreparedCell) -> Tensor:
    """Where each examined image stands in its source data set (on the CPU); its place in the split if
    it comes from none, or if images share one: an image and its copy with a trigger.
    """
    split = ready.subject.dataset.test
    if split.index is None or len(split.index.unique()) < len(split):
        return torch.arange(len(split))
    return split.index.cpu()


def _right_answers(ready: PreparedCell, after: Exams | None) -> dict[str, str]:
    """Which images are examined, and which of them are right before and, if it was repaired, after."""
    found = {"tested": tested(test_index(ready).numpy()), "before": _right(ready, ready.before)}
    return found | ({"after": _right(ready, after)} if after is not None else {})


def _right(ready: PreparedCell, exams: Exams) -> str:
    """Which examined images are right, as a record holds it (airepair/records/right_answers.py)."""
    return right(exams.test.right.numpy(), test_index(ready).numpy())


def _examined_on(ready: PreparedCell) -> dict[str, str]:
    return {"examined": ready.spec.splits, "failing": "given" if ready.given else "repair split"}


def _unchanged(ready: PreparedCell, found: Examined) -> str:
    """What a reader must know of a repair that gives the model back as it was ("" if it does not):
    often the start won.
    """
    same = found.facts.get("repaired_weights") == ready.loaded.digests["the subject"]
    if not same or not len(ready.failing) or ready.method.name == "noop":
        return ""
    by = (
        "validation accuracy"
        if ready.held_out is None
        else "validation accuracy and held-out repair rate, averaged"
    )
    return (
        f"{UNCHANGED}: no state was better than the start by {by}"
        if chooses(ready.method)
        else f"{UNCHANGED}: the method changed nothing"
    )


def _phases(ready: PreparedCell, repaired: Repaired, module: nn.Module) -> Iterator[Phase]:
    """The states that the method handed in, and beside a direct weight modification the random change
    of its own norm.

    A state that cannot be examined is left out with a note; the repair stands.
    """
    for name, images, seconds, kept in repaired.events.kept:
        end = Ending()
        with recorded(end):
            phase = _phase(ready, name, images, seconds, kept)
        if end.status == "repaired":
            yield phase
        else:
            repaired.events.note(f"the state {name!r} could not be examined: {end.reason}")
    if ready.method.category == "direct weight modification":
        moved = same_norm(ready.subject.module, module, ready.case.seed)
        if moved is not None:
            yield _phase(ready, SAME_NORM, 0, 0.0, moved)


def _phase(ready: PreparedCell, name: str, images: int, seconds: float, module: nn.Module) -> Phase:
    exams, problem = examined(without_attack(ready), module)
    if problem:
        raise ValueError(f"it gives {problem}")
    scores, _ = score(ready.before, exams)
    return Phase(
        name,
        images,
        round(seconds, 3),
        dict(scores) | {"validation_accuracy": exams.validation.accuracy},
        _right(ready, exams),
    )


def _log(record: Record, curve: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{p['seconds']:9.3f} s  {p['phase']}  {p['step']}/{p['steps']}  loss {_number(p['loss'])}"
        for p in curve
    ]
    return [
        f"{record.case}",
        *lines,
        *[f"note: {n}" for n in record.notes],
        f"{record.status} {record.reason}".strip(),
    ]


def _number(loss: float | None) -> str:
    return "not given" if loss is None else f"{loss:.6g}"
