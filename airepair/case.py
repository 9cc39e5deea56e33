"""A case: one cell of the grid, and its name. Free of torch, so that selection and reports load fast."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from airepair.errors import UsageError

_ID = re.compile(r"(?P<dataset>[a-z0-9_+]+)-(?P<model>[^-]+)-(?P<method>[^-]+)-s(?P<seed>\d+)")


@dataclass(frozen=True, order=True)
class Case:
    """A data set, a model, a method and a seed.

    `str(case)` is the test's id and the record's key, for example `cifar10-resnet18-apricot-s0`. A part never holds a hyphen:
    `dataset` may carry an environment (`digits+fog3`), `model` a fault with its severity (`cnn+imbalanced0.05`), `method` what differs
    from the defaults (`dl2@lr=0.01`).
    """

    dataset: str
    model: str
    method: str
    seed: int

    def __post_init__(self) -> None:
        for part in (self.dataset, self.model, self.method):
            if not part or "-" in part or not part.isascii() or any(c.isspace() for c in part):
                raise UsageError(f"a part of a case's name may hold no hyphen, space or non-ASCII letter: {part!r}")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative; accepted: 0, 1, 2, ...")

    def __str__(self) -> str:
        return f"{self.dataset}-{self.model}-{self.method}-s{self.seed}"

    @property
    def base_method(self) -> str:
        """The method's name without the options that a sweep put behind it."""
        return self.method.partition("@")[0]

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case of an id; UsageError if it is none."""
        found = _ID.fullmatch(text)
        if not found:
            raise UsageError(f"{text!r} is no case; accepted: DATASET-MODEL-METHOD-sSEED, for example digits-cnn-apricot-s0")
        return cls(found["dataset"], found["model"], found["method"], int(found["seed"]))


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds of `--seeds 0,1,2`; UsageError where the text is no list of different whole numbers."""
    words = [w.strip() for w in text.split(",") if w.strip()]
    if not words or not all(w.isascii() and w.isdigit() for w in words) or len(set(map(int, words))) < len(words):
        raise UsageError(f"--seeds {text!r} is no list of different seeds; accepted: 0,1,2 or a single one")
    return tuple(map(int, words))


def name_of(path: Path) -> str:
    """A user's file or folder of data as a part of a case's name: lower-case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", path.resolve().stem.lower()).strip("_") or "own"
