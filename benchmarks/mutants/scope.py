"""What is mutated: the methods, what they share, metrics and corruptions."""

from __future__ import annotations

import random
from pathlib import Path

from .mutate import Mutant, mutants

SCOPE = (
    "airepair/methods",
    "airepair/submodels",
    "airepair/weighting",
    "airepair/style",
    "airepair/linear",
    "airepair/search",
    "airepair/logic",
    "airepair/metrics",
    "airepair/corruptions",
    "airepair/augment.py",
    "airepair/chain.py",
    "airepair/columns.py",
    "airepair/exact.py",
    "airepair/exam.py",
    "airepair/fine_tuning.py",
    "airepair/information.py",
    "airepair/loop.py",
    "airepair/oracle.py",
    "airepair/stepping.py",
    "airepair/training.py",
    "airepair/work.py",
)


def files(root: Path) -> list[str]:
    """The files of the scope, relative to `root`."""
    found = [p for name in SCOPE for p in (sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name])]
    return [str(p.relative_to(root)) for p in found if p.exists()]


def everything(root: Path) -> list[Mutant]:
    """Every mutant of the scope."""
    return [m for name in files(root) for m in mutants(name, (root / name).read_text(encoding="utf-8"))]


def drawn(root: Path, count: int, seed: int) -> list[Mutant]:
    """`count` of them, each as likely, in an order of the draw's own."""
    return random.Random(seed).sample(everything(root), count)
