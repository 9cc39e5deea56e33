"""What is mutated: the methods, what they share, metrics and corruptions."""

from __future__ import annotations

import random
from pathlib import Path

from airepair.errors import UsageError

from .mutate import Mutant, mutants

SCOPE = (
    "airepair/methods",
    "airepair/linear",
    "airepair/search",
    "airepair/constraints",
    "airepair/metrics",
    "airepair/corruptions",
    "airepair/training/best_state.py",
    "airepair/training/fine_tuning.py",
    "airepair/training/loop.py",
    "airepair/training/step.py",
    "airepair/runner/column_budget.py",
    "airepair/host/arithmetic/exact.py",
    "airepair/evaluation/exam.py",
    "airepair/evaluation/work.py",
)


def files(root: Path) -> list[str]:
    """The files of the scope, relative to `root`, each once.

    UsageError for a place of the scope that is not there: what has moved would be left out unseen.
    """
    if gone := [name for name in SCOPE if not (root / name).exists()]:
        raise UsageError(f"{', '.join(gone)} is in the scope of benchmarks/mutants/scope.py and not found")
    found = [
        p
        for name in SCOPE
        for p in (sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name])
    ]
    return list(dict.fromkeys(str(p.relative_to(root)) for p in found))


def everything(root: Path) -> list[Mutant]:
    """Every mutant of the scope."""
    return [m for name in files(root) for m in mutants(name, (root / name).read_text(encoding="utf-8"))]


def drawn(root: Path, count: int, seed: int) -> list[Mutant]:
    """`count` of them, each as likely, in an order of the draw's own."""
    return random.Random(seed).sample(everything(root), count)
