"""One model's exams on what a known fault spoils and on what it leaves alone: the part of Exams
that the fault's scores are computed from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import Exam, sit
from airepair.types import KnownFault, Split, Subject


@dataclass(frozen=True, eq=False)
class Overlap:
    """Weights of the subject, counted: changed by the repair, damaged by the fault, both."""

    changed: int
    damaged: int
    both: int


@dataclass(frozen=True, eq=False)
class FaultExams:
    """Exams on the spoiled test inputs and on the others; the clean twin's accuracy on the spoiled
    ones; a trigger's target class.

    `clean`: the exam on clean test inputs where the subject works in a corrupted environment.
    `overlap`: where weights were damaged; None too where the model no longer has the subject's
    weights.
    """

    spoiled: Exam
    others: Exam
    twin: float | None
    target: int | None
    clean: Exam | None
    overlap: Overlap | None


def sit_fault(subject: Subject, module: nn.Module, test: Exam) -> FaultExams | None:
    """The module's exams about the subject's fault (`test` is its exam on the test split); None
    where no fault is known.
    """
    known = subject.fault
    if known is None:
        return None
    spoiled, others = (_exam(module, part, test) for part in (known.spoiled, known.others))
    clean = others if subject.environment is not None else None
    return FaultExams(
        spoiled, others, known.twin, known.target, clean, _overlap(known, subject.module, module)
    )


def _exam(module: nn.Module, part: Tensor | Split, test: Exam) -> Exam:
    return sit(module, part) if isinstance(part, Split) else test.select(part)


def _overlap(known: KnownFault, subject: nn.Module, module: nn.Module) -> Overlap | None:
    old: Mapping[str, Tensor] = dict(subject.named_parameters())
    new: Mapping[str, Tensor] = dict(module.named_parameters())
    if not known.damaged or any(k not in new or new[k].shape != v.shape for k, v in old.items()):
        return None
    changed = damaged = both = 0
    for name, weight in old.items():
        differs = (weight.detach() != new[name].detach().to(weight.device)).cpu()
        where = known.damaged.get(name, torch.zeros_like(differs))
        changed, damaged, both = (
            changed + int(differs.sum()),
            damaged + int(where.sum()),
            both + int((differs & where).sum()),
        )
    return Overlap(changed, damaged, both)
