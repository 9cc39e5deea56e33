"""The first stage with a loaded subject: its exams before the repair, and the division of its
repair split into failing and passing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from airepair.case import Case
from airepair.errors import UsageError
from airepair.evaluation.exam import NONE, Exam, most_confused
from airepair.evaluation.exams import Exams, Pairs, draw_pairs, sit_fault
from airepair.evaluation.memory import noting
from airepair.host.arithmetic.precision import in_float32
from airepair.host.source_code import source_digest
from airepair.methods import build
from airepair.methods.information import sources_of
from airepair.metrics import score
from airepair.metrics.flips import HELD_OUT
from airepair.metrics.kept import KEPT
from airepair.metrics.pgd import attack
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loaded, on_validation
from airepair.subjects.user_model.held_out import divided
from airepair.subjects.user_model.load import user_inputs
from airepair.training.best_state import chooses
from airepair.types import Limit, Method, Split, Subject

BY_BOTH = "states are chosen by the mean of validation accuracy and the repair rate of these"


@dataclass(frozen=True, eq=False)
class PreparedCell:
    """It is a cell that is ready to run: its subject as it is examined, what the method will see,
    the exams and scores before.

    `given`: the failing inputs are the user's; `held_out` are those of them that the method does
    not learn from.
    """

    spec: CellSpec
    loaded: Loaded
    subject: Subject
    method: Method
    failing: Split
    passing: Split
    held_out: Split | None
    given: bool
    keep: Split | None
    before: Exams
    scores: Mapping[str, float]
    missing: Mapping[str, str]
    source: str | None = None  # the digest of the method's source before the repair
    notes: tuple[str, ...] = ()  # of the exams before: smaller batches, if memory was short

    @property
    def case(self) -> Case:
        """Returns its name."""
        return self.spec.case

    @property
    def limit(self) -> Limit:
        """What the repair may use."""
        return Limit(images=self.spec.images, seconds=self.spec.seconds)


def prepare(
    spec: CellSpec, loaded: Loaded, given: tuple[Split | None, Split | None] | None = None
) -> PreparedCell:
    """Builds the method, then examines the subject. UsageError for options that cannot be, and for a
    subject whose logits are not finite.

    `given`: failing inputs and inputs to keep, where the caller holds them as tensors instead of
    naming them in the spec.
    """
    return prepared(
        spec, loaded, build(spec.case.base_method if spec.repair else "noop", spec.options), given
    )


def prepared(
    spec: CellSpec, loaded: Loaded, method: Method, given: tuple[Split | None, Split | None] | None = None
) -> PreparedCell:
    """Returns the same for a method that is built already. UsageError if it states no sources that
    can be meant.
    """
    sources_of(method)
    source = source_digest(method)  # now: its file may be edited while the cell runs
    notes: list[str] = []
    with noting(notes.append):
        ready = _prepared(spec, loaded, method, given)
    return dataclasses.replace(ready, source=source, notes=tuple(notes))


def unexamined(
    spec: CellSpec, loaded: Loaded, method: Method, given: tuple[Split | None, Split | None] | None = None
) -> PreparedCell:
    """Returns the cell with what its method will see, before any exam: of the subject only the
    answers to the repair split are asked for.
    """
    subject = loaded.subject if spec.splits == "test" else on_validation(loaded.subject)
    wanted, keep = _named(spec, loaded) if given is None else given
    data, examiner = subject.dataset, loaded.examiner
    if keep is not None:
        keep = dataclasses.replace(keep, y=examiner.sit(subject.module, keep).predictions.to(keep.x.device))
    repair = examiner.sit(subject.module, data.repair)
    right = repair.right.to(data.repair.x.device)
    failing, aside = (data.repair.select(~right), None) if wanted is None else (wanted, None)
    if wanted is not None and chooses(method):
        failing, aside = divided(wanted, spec.case.seed)
    passing = data.repair.select(right) if keep is None else data.repair.select(right) + keep
    none = _no_exams(data.groups, None, draw_pairs(data.test, data.robustness))
    return PreparedCell(
        spec, loaded, subject, method, failing, passing, aside, wanted is not None, keep, none, {}, {}
    )


def _prepared(
    spec: CellSpec, loaded: Loaded, method: Method, given: tuple[Split | None, Split | None] | None
) -> PreparedCell:
    blank = unexamined(spec, loaded, method, given)
    subject, data = blank.subject, blank.subject.dataset
    validation = loaded.examiner.sit(subject.module, data.validation)
    own = most_confused(validation, len(data.classes)) if subject.pair is None else subject.pair or None
    pair = _told_pair(spec, loaded) or own
    blank = dataclasses.replace(blank, before=_no_exams(data.groups, pair, blank.before.pairs))
    before, problem = examined(blank, subject.module)
    if problem:
        raise UsageError(
            f"{subject.name} cannot be repaired: it gives {problem}; accepted: "
            f"a model with finite logits on every image"
        )
    scores, missing = score(before, before)
    return dataclasses.replace(blank, before=before, scores=scores, missing=missing)


def _named(spec: CellSpec, loaded: Loaded) -> tuple[Split | None, Split | None]:
    """The images that the spec names."""
    if spec.failing is None and spec.keep is None:
        return None, None
    return user_inputs(loaded.subject, spec.failing, spec.keep)


def _told_pair(spec: CellSpec, loaded: Loaded) -> tuple[int, int] | None:
    """The class pair of the record of a file that a repair here wrote: where it is only examined,
    it is asked about the same one.
    """
    pair = loaded.opened.facts.get("pair") if loaded.opened and not spec.repair else None
    classes = range(len(loaded.subject.dataset.classes))
    ours = isinstance(pair, list) and len(pair) == 2 and all(n in classes for n in pair)
    return (int(pair[0]), int(pair[1])) if pair and ours else None


def _no_exams(groups: tuple[tuple[int, ...], ...], pair: tuple[int, int] | None, pairs: Pairs) -> Exams:
    """What exams have that belongs to the benchmark and not to a model."""
    return Exams(NONE, NONE, NONE, groups, pair, pairs)


def examined(ready: PreparedCell, module: nn.Module) -> tuple[Exams, str]:
    """Returns the exams of the subject or of a repaired model, attacked if the spec asks for it;
    and why the model cannot be used ("" if it can).
    """
    exams = _sit_all(ready, module)
    problem = _problem(exams, len(ready.subject.dataset.classes))
    if ready.spec.pgd and not problem:
        test = ready.subject.dataset.test
        with in_float32(test.x.device):
            extra = {**exams.extra, "pgd_right": attack(module, test)}
        exams = dataclasses.replace(exams, extra=extra)
    return exams, problem


def without_attack(ready: PreparedCell) -> PreparedCell:
    """Returns the cell whose intermediate models are examined and not attacked."""
    return dataclasses.replace(ready, spec=dataclasses.replace(ready.spec, pgd=False))


def _sit_all(ready: PreparedCell, module: nn.Module) -> Exams:
    subject, examiner = ready.subject, ready.loaded.examiner
    data = subject.dataset
    test = examiner.sit(module, data.test)
    extra = {KEPT: examiner.sit(module, ready.keep).right} if ready.keep is not None else {}
    extra |= {HELD_OUT: examiner.sit(module, ready.held_out).right} if ready.held_out is not None else {}
    fault = sit_fault(subject, module, test)
    seen = examiner.sit(module, ready.failing), examiner.sit(module, data.validation)
    return Exams(test, *seen, data.groups, ready.before.pair, ready.before.pairs, extra, data.classes, fault)


def _problem(exams: Exams, classes: int) -> str:
    """On which exam the logits are not finite or not `classes` per image; "" if all are."""
    for name, exam in _exams(exams):
        if not len(exam.y):
            continue
        if exam.logits.shape[1] != classes:
            return (
                f"logits of shape {tuple(exam.logits.shape)} on the {name} images; accepted: "
                f"({len(exam.y)}, {classes})"
            )
        bad = int((~exam.logits.isfinite()).any(1).sum())
        if bad:
            return f"logits that are not finite on {bad:,} of {len(exam.y):,} {name} images"
    return ""


def _exams(exams: Exams) -> Iterator[tuple[str, Exam]]:
    yield from (("test", exams.test), ("failing", exams.failing), ("validation", exams.validation))
    if exams.fault is not None:
        yield from (("spoiled", exams.fault.spoiled), ("other", exams.fault.others))


def options_with_origins(ready: PreparedCell) -> dict[str, dict[str, Any]]:
    """Returns every option of the method with its value and where that came from."""
    origins = ready.spec.origins
    return {
        k: {"value": v, "given": k in origins, "origin": origins.get(k, "default")}
        for k, v in options_of(ready.method).items()
    }


def options_of(method: Method) -> dict[str, Any]:
    """Returns the method's options with their values (JSON values only)."""
    values = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}  # type: ignore[arg-type]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def counts(ready: PreparedCell) -> dict[str, int]:
    """Returns the images of each split, and how many failing inputs the method got."""
    data = ready.subject.dataset
    held = {"held_out": len(ready.held_out)} if ready.held_out is not None else {}
    return (
        {n: len(getattr(data, n)) for n in ("train", "repair", "validation", "test")}
        | {"failing": len(ready.failing)}
        | held
    )


def subject_facts(ready: PreparedCell) -> dict[str, Any]:
    """What a record says of the subject."""
    s = ready.subject
    found = {
        "name": s.name,
        "origin": dict(s.origin),
        "trained_on": s.trained_on,
        "recipe": dataclasses.asdict(s.recipe),
        "data": dict(s.dataset.digests),
        "split": {"seed": s.dataset.seed, "over": s.dataset.scope},
        "weights": ready.loaded.digests["the subject"],
        "pair": list(ready.before.pair) if ready.before.pair else None,
        "groups": [list(g) for g in s.dataset.groups],
        "robustness": dataclasses.asdict(s.dataset.robustness),
        "validation_accuracy": ready.before.validation.accuracy,
    }
    return found | ({"fault": dict(s.fault.facts)} if s.fault is not None and s.fault.facts else {})


def notes_before(ready: PreparedCell) -> list[str]:
    """What a reader must know before the repair has begun."""
    none = [] if len(ready.failing) else ["the subject has no failing inputs on the repair split"]
    held = ready.held_out
    given = (
        [f"{len(held):,} of the {len(held) + len(ready.failing):,} given inputs are held out; {BY_BOTH}"]
        if held is not None
        else []
    )
    return [*ready.subject.dataset.notes, *ready.notes, *none, *given]
