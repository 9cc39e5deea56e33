"""A case: one cell of the grid, and its name. Free of torch, so that selection and reports load fast."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
