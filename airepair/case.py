"""A case: one cell of the grid, and its name. Free of torch, so that selection and reports load fast."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from airepair.errors import UsageError

_ID = re.compile(r"(?P<dataset>[a-z0-9_+]+)-(?P<model>[^-]+)-(?P<method>[^-]+)-s(?P<seed>\d+)")
_METHOD = re.compile(r"(?P<base>[^\[\]@]+)(?:\[(?P<variant>[^\[\]]+)\]|@(?P<old>.+))?")
# What a method may learn from (airepair/methods/information.py); a control's name holds them:
# `finetune[failing+passing]`.
Source = Literal["train", "failing", "passing", "unlabelled", "pool", "environment"]
SOURCES: tuple[str, ...] = get_args(Source)
CONTROL = "finetune"
USUAL = frozenset(("train", "failing"))  # what the control without a variant learns from
TUNED = "tuned"  # the variant with the options that `airepair tune` found


@dataclass(frozen=True, order=True)
class Case:
    """Names a cell: a data set, a model, a method and a seed.

    `str(case)` is the test's id and the record's key, for example `cifar10-resnet18-apricot-s0`. A
    part never holds a hyphen: `dataset` may carry an environment (`digits+fog3`), `model` a fault
    with its severity (`cnn+imbalanced0.05`), `method` its variant (`apricot[random_sets]`,
    `dl2[lr:0.01]`): square brackets, since pytest's -k takes them. Up to version 1 a variant stood
    behind an `@` (`dl2@lr=0.01`), which -k refuses; such names are still read.
    """

    dataset: str
    model: str
    method: str
    seed: int

    def __post_init__(self) -> None:
        for part in (self.dataset, self.model, self.method):
            if not part or "-" in part or not part.isascii() or any(c.isspace() for c in part):
                raise UsageError(
                    f"a part of a case's name may hold no hyphen, space or non-ASCII letter: {part!r}"
                )
        if not _METHOD.fullmatch(self.method):
            raise UsageError(
                f"{self.method!r} is not a method; accepted: METHOD or METHOD[VARIANT], "
                f"for example apricot[random_sets]"
            )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative; accepted: 0, 1, 2, ...")

    def __str__(self) -> str:
        return f"{self.dataset}-{self.model}-{self.method}-s{self.seed}"

    @property
    def base_method(self) -> str:
        """Returns the method's name without its variant."""
        return split_variant(self.method)[0]

    @property
    def variant(self) -> str:
        """What stands in the brackets behind the method: an ablation, `tuned`, the values of a
        sweep; "" for the method as it is.
        """
        return split_variant(self.method)[1]

    @classmethod
    def parse(cls, text: str) -> Case:
        """Returns the case of an id; UsageError if it is none."""
        found = _ID.fullmatch(text)
        if not found:
            raise UsageError(
                f"{text!r} is not a case; accepted: DATASET-MODEL-METHOD-sSEED, "
                f"for example digits-cnn-apricot-s0"
            )
        return cls(found["dataset"], found["model"], found["method"], int(found["seed"]))


def split_variant(method: str) -> tuple[str, str]:
    """Splits `apricot[random_sets]` into `apricot` and `random_sets`; the second is "" if there are
    no brackets.
    """
    found = _METHOD.fullmatch(method)
    return (found["base"], found["variant"] or found["old"] or "") if found else (method, "")


def with_variant(method: str, variant: str) -> str:
    """Returns `method[variant]`; the method alone for ""."""
    return f"{method}[{variant}]" if variant else method


def control_on(sources: Collection[str]) -> str:
    """Returns the method name of the control that learns from these sources: `finetune`, or
    `finetune[failing+passing]`.
    """
    return with_variant(CONTROL, "" if set(sources) <= USUAL else "+".join(sorted(sources)))


def label(option: str, value: str) -> str:
    """Returns an option's value as a variant names it (`lr:0.01`): letters, digits and what else
    pytest's -k takes; a minus sign becomes an m.
    """
    return re.sub(r"[^\w.:+]+", "_", f"{option}:{value}".replace("-", "m"), flags=re.ASCII).rstrip("_")


def seeds_of(text: str) -> tuple[int, ...]:
    """Returns the seeds of `--seeds 0,1,2`; UsageError if the text is no list of different whole
    numbers.
    """
    words = [w.strip() for w in text.split(",") if w.strip()]
    if (
        not words
        or not all(w.isascii() and w.isdigit() for w in words)
        or len(set(map(int, words))) < len(words)
    ):
        raise UsageError(
            f"--seeds {text!r} is not a list of different seeds; accepted: 0,1,2 or a single one"
        )
    return tuple(map(int, words))
