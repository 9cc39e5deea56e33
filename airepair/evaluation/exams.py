"""What every metric is computed from: the exams of one model, and the choices that belong to the
benchmark, not to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from airepair.evaluation.exam import Exam
from airepair.evaluation.fault_exams import FaultExams
from airepair.types import Robustness, Split

PAIRS = 10_000  # pairs of test images for the pairwise metric
PAIR_SEED = 20_241_124  # fixed: the pairs belong to the benchmark's version, never to a cell


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs (i, j) of test images and whether ||x_i - x_j||_2 < eps1."""

    i: Tensor
    j: Tensor
    close: Tensor
    constants: Robustness


@dataclass(frozen=True, eq=False)
class Exams:
    """One model's exams on test, on the failing inputs given to the method and on validation; the
    groups, the class pair, the image pairs.

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
    """`count` pairs of different images, the same for every model and seed (PAIR_SEED); none where
    there are no two images.
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
