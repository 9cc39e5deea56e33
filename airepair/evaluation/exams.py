"""What every metric is computed from: the exams of one model, also on what a known fault spoils and on
what it leaves alone, and the choices that belong to the benchmark, not to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import Exam, sit
from airepair.types import KnownFault, Robustness, Split, Subject

PAIRS = 10_000  # pairs of test images for the pairwise metric
PAIR_SEED = 20_241_124  # fixed: the pairs belong to the benchmark's version, never to a cell


@dataclass(frozen=True, eq=False)
class Pairs:
    """It holds pairs (i, j) of test images and whether ||x_i - x_j||_2 < eps1."""

    i: Tensor
    j: Tensor
    close: Tensor
    constants: Robustness


@dataclass(frozen=True, eq=False)
class Overlap:
    """It counts weights of the subject: changed by the repair, damaged by the fault, both."""

    changed: int
    damaged: int
    both: int


@dataclass(frozen=True, eq=False)
class FaultExams:
    """It holds the exams on the spoiled test inputs and on the others; the clean twin's accuracy on
    the spoiled ones; a trigger's target class.

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


@dataclass(frozen=True, eq=False)
class Exams:
    """It holds one model's exams on test, on the failing inputs given to the method and on
    validation; the groups, the class pair, the image pairs.

    `extra`: what no forward pass tells, by name, where it was asked for ("pgd_right": see
    airepair/metrics/pgd.py). `classes`: their names. `fault`: exams about the fault that the
    subject is known to carry, or None.
    """

    test: Exam
    failing: Exam
    validation: Exam
    groups: tuple[tuple[int, ...], ...]
    pair: tuple[int, int] | None
    pairs: Pairs
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    fault: FaultExams | None = None


def draw_pairs(split: Split, constants: Robustness, count: int = PAIRS, chunk: int = 1000) -> Pairs:
    """Returns `count` pairs of different images, the same for every model and seed (PAIR_SEED);
    none if there are no two images.
    """
    n, generator = len(split), torch.Generator().manual_seed(PAIR_SEED)
    count = count if n > 1 else 0
    n = max(n, 2)
    i = torch.randint(n, (count,), generator=generator)
    j = (i + torch.randint(1, n, (count,), generator=generator)) % n
    distances = [
        (split.images(a.to(split.x.device)) - split.images(b.to(split.x.device))).flatten(1).norm(dim=1).cpu()
        for a, b in zip(i.split(chunk), j.split(chunk), strict=True)
    ]
    return Pairs(i, j, torch.cat(distances) < constants.eps1, constants)


def sit_fault(subject: Subject, module: nn.Module, test: Exam) -> FaultExams | None:
    """The module's exams about the subject's fault (`test` is its exam on the test split); None
    if no fault is known.
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
