"""A cell that is ready to run, how a model of it is examined, and what its record says of the subject, the options and the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from airepair.case import Case
from airepair.examiner import Examiner
from airepair.metrics.exams import Exams, Pairs
from airepair.metrics.fault_exams import sit_fault
from airepair.metrics.kept import KEPT
from airepair.metrics.pgd import attack
from airepair.provenance import digest
from airepair.types import Limit, Method, Split, Subject


@dataclass(frozen=True, eq=False)
class Prepared:
    """A cell that is ready to run: what the method will see, the scores before, and what the exams after need."""

    case: Case
    subject: Subject
    method: Method
    origins: Mapping[str, str]
    profile: str
    limit: Limit
    failing: Split
    passing: Split
    before: Exams
    scores: Mapping[str, float]
    missing: Mapping[str, str]
    pgd: bool = False
    keep: Split | None = None
    examiner: Examiner | None = None


def examine(
    subject: Subject,
    examiner: Examiner,
    module: nn.Module,
    failing: Split,
    pair: tuple[int, int] | None,
    pairs: Pairs,
    pgd: bool = False,
    keep: Split | None = None,
) -> Exams:
    data = subject.dataset
    extra = {"pgd_right": attack(module, data.test)} if pgd else {}
    extra |= {KEPT: examiner.sit(module, keep).right} if keep is not None else {}
    test = examiner.sit(module, data.test)
    fault = sit_fault(subject, module, test)
    seen = examiner.sit(module, failing), examiner.sit(module, data.validation)
    return Exams(test, *seen, data.groups, pair, pairs, extra, data.classes, fault)


def examined(ready: Prepared, module: nn.Module, *, pgd: bool = False) -> Exams:
    """The exams of a repaired or intermediate model of the cell."""
    examiner = ready.examiner or Examiner(ready.subject.module)
    return examine(ready.subject, examiner, module, ready.failing, ready.before.pair, ready.before.pairs, pgd, ready.keep)


def options_with_origins(ready: Prepared) -> dict[str, dict[str, Any]]:
    origins = ready.origins
    return {k: {"value": v, "given": k in origins, "origin": origins.get(k, "default")} for k, v in options_of(ready.method).items()}


def options_of(method: Method) -> dict[str, Any]:
    """The method's options with their values (JSON values only)."""
    return {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}  # type: ignore[arg-type]


def counts(ready: Prepared) -> dict[str, int]:
    d = ready.subject.dataset
    return {
        "train": len(d.train),
        "repair": len(d.repair),
        "validation": len(d.validation),
        "test": len(d.test),
        "failing": len(ready.failing),
    }


def subject_facts(ready: Prepared, module: nn.Module | None, after: Exams | None) -> dict[str, Any]:
    s = ready.subject
    found = {
        "name": s.name,
        "origin": dict(s.origin),
        "trained_on": s.trained_on,
        "recipe": dataclasses.asdict(s.recipe),
        "data": dict(s.dataset.digests),
        "split": {"seed": s.dataset.seed, "over": s.dataset.scope},
        "weights": digest(s.module),
        "pair": list(ready.before.pair) if ready.before.pair else None,
        "groups": [list(g) for g in s.dataset.groups],
        "robustness": dataclasses.asdict(s.dataset.robustness),
        "validation_accuracy": ready.before.validation.accuracy,
    }
    if s.fault is not None and s.fault.facts:
        found["fault"] = dict(s.fault.facts)
    if module is not None and after is not None:
        found |= {"repaired_weights": digest(module), "repaired_validation_accuracy": after.validation.accuracy}
    return found


def notes_before(ready: Prepared) -> list[str]:
    notes = list(ready.subject.dataset.notes)
    if not len(ready.failing):
        notes.append("the subject has no failing inputs on the repair split")
    return notes
