"""What is mutated: the methods, what they share, metrics and corruptions."""

from __future__ import annotations

import random
from pathlib import Path

from .mutate import Mutant, mutants

SCOPE = (
    "airepair/methods",
    "airepair/methods/apricot",
    "airepair/methods/deeprepair",
    "airepair/methods/deeprepair_style",
    "airepair/linear",
    "airepair/search",
    "airepair/constraints",
    "airepair/metrics",
    "airepair/corruptions",
    "airepair/training/step.py",
    "airepair/methods/handover.py",
    "airepair/runner/column_budget.py",
    "airepair/arithmetic/exact.py",
    "airepair/evaluation/exam.py",
    "airepair/training/fine_tuning.py",
    "airepair/methods/information.py",
    "airepair/training/loop.py",
    "airepair/constraints/counterexamples.py",
    "airepair/training/step.py",
    "airepair/training/best_state.py",
    "airepair/evaluation/work.py",
)


def files(root: Path) -> list[str]:
    """The files of the scope, relative to `root`."""
    found = [
        p
        for name in SCOPE
        for p in (sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name])
    ]
    return [str(p.relative_to(root)) for p in found if p.exists()]


def everything(root: Path) -> list[Mutant]:
    """Every mutant of the scope."""
    return [m for name in files(root) for m in mutants(name, (root / name).read_text(encoding="utf-8"))]


def drawn(root: Path, count: int, seed: int) -> list[Mutant]:
    """`count` of them, each as likely, in an order of the draw's own."""
    return random.Random(seed).sample(everything(root), count)
