"""The whole story: split -> repair -> evaluate -> record. Every door (pytest, the command line, an engine) goes through `prepare` and `run`.

prepare   examines the subject (its own step, so that a crash still has a "before") and builds the Task
run       calls method.repair, the only timed call, then examines the result on test and returns the Record with what a cell keeps
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from airepair.case import Case
from airepair.cost import Cost, measure, warm_up
from airepair.errors import OutOfTime, Unavailable, Unsupported, one_line
from airepair.events import Events, Progress, time_limit, without_meter
from airepair.exam import Exam, logits_of, most_confused
from airepair.examiner import Examiner
from airepair.fallback import noting, out_of_memory
from airepair.metrics import score
from airepair.metrics.exams import Exams, draw_pairs
from airepair.prepared import Prepared, counts, examine, examined, notes_before, options_with_origins, subject_facts
from airepair.provenance import provenance
from airepair.records import SAME_NORM, Phase, Record, Status
from airepair.same_norm import same_norm
from airepair.types import Limit, Method, Split, Subject, Task

# call(f) runs f() once; pytest-benchmark's pedantic call is put here by the fixture.
Caller = Callable[[Callable[[], None]], object]


@dataclass(eq=False)
class Outcome:
    """What a run leaves: the record, the repaired module (None where there is none), exams on test, the loss curve, the log, the cost.

    `index`: where each test image stands in its source data set (its place in the split, if it comes from none); on the CPU.
    """

    record: Record
    module: nn.Module | None
    before: Exam
    after: Exam | None
    curve: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    cost: Cost | None = None
    index: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


def prepare(
    case: Case,
    subject: Subject,
    method: Method,
    *,
    origins: Mapping[str, str] | None = None,
    profile: str = "none",
    limit: Limit = Limit(),  # noqa: B008 (frozen)
    failing: Split | None = None,
    pair: tuple[int, int] | None = None,
    pgd: bool = False,
    keep: Split | None = None,
    examiner: Examiner | None = None,
) -> Prepared:
    """Examines the subject and divides its repair split into failing and passing; `failing` replaces what is found there.

    `pair`: the class pair of the confusion metrics, else the column's (`subject.pair`), else the most confused one on validation.
    `pgd`: the subject and the repaired model are attacked as well (metrics/pgd.py), which costs twenty gradient steps on 512 images each.
    `keep`: images whose answers must not change: they join the passing inputs with the subject's own answers as labels.
    `examiner`: of this subject, where several cells repair it: what it has examined is not examined again.
    """
    data, examiner = subject.dataset, examiner or Examiner(subject.module)
    keep = replace(keep, y=logits_of(subject.module, keep.x).argmax(1)) if keep is not None else None
    repair = examiner.sit(subject.module, data.repair)
    right = repair.right.to(data.repair.x.device)
    failing = data.repair.select(~right) if failing is None else failing
    validation = examiner.sit(subject.module, data.validation)
    own = most_confused(validation, len(data.classes)) if subject.pair is None else subject.pair or None
    before = examine(subject, examiner, subject.module, failing, pair or own, draw_pairs(data.test, data.robustness), pgd, keep)
    scores, missing = score(before, before)
    passing = data.repair.select(right) if keep is None else data.repair.select(right) + keep
    return Prepared(case, subject, method, origins or {}, profile, limit, failing, passing, before, scores, missing, pgd, keep, examiner)


def task_of(ready: Prepared, events: Events) -> Task:
    """What the method gets: its own copy of the module with the meter on it, and no test split."""
    subject, data = ready.subject, ready.subject.dataset
    module = copy.deepcopy(subject.module)
    module.register_forward_pre_hook(events.meter)
    return Task(
        module=module,
        train=data.train,
        failing=ready.failing,
        passing=ready.passing,
        unlabelled=data.repair.images(),
        validation=data.validation,
        classes=data.classes,
        groups=data.groups,
        robustness=data.robustness,
        recipe=subject.recipe,
        seed=ready.case.seed,
        pool=subject.pool,
        environment=subject.environment,
        checkpoints=_metered(subject.checkpoints, events),
        limit=ready.limit,
        meter=events.meter,
        progress=events.progress,
        keep=events.keep,
        note=events.notes.append,
    )


def _metered(checkpoints: Mapping[str, nn.Module], events: Events) -> dict[str, nn.Module]:
    copies = {name: copy.deepcopy(module) for name, module in checkpoints.items()}
    for module in copies.values():
        module.register_forward_pre_hook(events.meter)
    return copies


def run(ready: Prepared, call: Caller = lambda f: f(), show: Progress = lambda *_: None) -> Outcome:
    """Repairs and examines. A method's error becomes a status with a reason; KeyboardInterrupt passes through."""
    warm_up()
    events = Events(ready.limit, show)
    with noting(events.notes.append):
        return _outcome(ready, events, *_repaired(ready, events, call))


def _repaired(ready: Prepared, events: Events, call: Caller) -> tuple[nn.Module | None, Status, str, Cost | None]:
    """The repaired module (None where there is none), how it ended and why, what it cost."""
    task = task_of(ready, events)
    repaired: list[nn.Module] = []
    costs: list[Cost] = []
    status: Status = "repaired"
    reason = ""

    def repair() -> None:
        costs.append(measure(lambda: repaired.append(ready.method.repair(task)), task.device))

    try:
        with torch.random.fork_rng(devices=[task.device] if task.device.type == "cuda" else []), time_limit(ready.limit.seconds):
            torch.manual_seed(ready.case.seed)
            events.start = time.perf_counter()
            call(repair)
    except Unsupported as error:
        status, reason = "unsupported", one_line(error)
    except Unavailable as error:
        status, reason = "skipped", one_line(error)
    except OutOfTime as error:
        status, reason = "timeout", one_line(error)
    except Exception as error:
        status, reason = ("out of memory" if out_of_memory(error) else "failed"), one_line(error)
    module = without_meter(repaired[0]).eval() if repaired and status == "repaired" else None
    return module, status, reason, costs[0] if costs else None


def _outcome(ready: Prepared, events: Events, module: nn.Module | None, status: Status, reason: str, cost: Cost | None) -> Outcome:
    after: Exams | None = None
    scores: Mapping[str, float] = {}
    missing: Mapping[str, str] = {}
    if module is not None:
        problem = interface_problem(module, ready)
        if problem:
            module, status, reason = None, "failed", problem
        else:
            after = examined(ready, module, pgd=ready.pgd)
            scores, missing = score(ready.before, after)
    record = Record(
        case=ready.case,
        status=status,
        reason=reason,
        category=str(ready.method.category),
        options=options_with_origins(ready),
        before=ready.scores,
        after=scores,
        missing=missing or ready.missing,
        budget={"backward": events.meter.backward, "forward": events.meter.forward},
        cost=cost.as_record() if cost else {},
        phases=(*(_phase(ready, *kept) for kept in events.kept), *_beside(ready, module)) if module is not None else (),
        subject=subject_facts(ready, module, after),
        provenance=provenance(ready.failing.x.device, ready.profile, counts(ready)),
        notes=(*notes_before(ready), *events.notes),
    )
    return Outcome(
        record,
        module,
        ready.before.test,
        after.test if after else None,
        events.curve,
        _log(record, events),
        cost,
        _index(ready.subject.dataset.test),
    )


def _index(split: Split) -> Tensor:
    return torch.arange(len(split)) if split.index is None else split.index.cpu()


def interface_problem(module: nn.Module, ready: Prepared) -> str:
    """Why the module is no drop-in replacement of the subject's ("" if it is one): shape, type and finiteness of its logits."""
    x: Tensor = ready.subject.dataset.validation.images(slice(0, 8))
    try:
        with torch.no_grad():
            logits = module(x)
    except Exception as error:
        return f"the repaired module raises on a batch of images: {one_line(error)}"
    if not isinstance(logits, Tensor) or logits.shape != (len(x), len(ready.subject.dataset.classes)):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return f"the repaired module returns {found}; accepted: ({len(x)}, {len(ready.subject.dataset.classes)})"
    return "" if bool(torch.isfinite(logits).all()) else "the repaired module returns logits that are not finite"


def _phase(ready: Prepared, name: str, images: int, seconds: float, module: nn.Module) -> Phase:
    exams = examined(ready, module)
    scores, _ = score(ready.before, exams)
    return Phase(name, images, round(seconds, 3), dict(scores) | {"validation_accuracy": exams.validation.accuracy})


def _beside(ready: Prepared, module: nn.Module) -> Iterator[Phase]:
    """Of a direct weight modification, the random change of its own norm."""
    if ready.method.category == "direct weight modification":
        moved = same_norm(ready.subject.module, module, ready.case.seed)
        if moved is not None:
            yield _phase(ready, SAME_NORM, 0, 0.0, moved)


def _log(record: Record, events: Events) -> list[str]:
    lines = [f"{p['seconds']:9.3f} s  {p['phase']}  {p['step']}/{p['steps']}  loss {p['loss']:.6g}" for p in events.curve]
    return [f"{record.key}", *lines, *[f"note: {n}" for n in record.notes], f"{record.status} {record.reason}".strip()]
