"""The recipe that a model file states of its training; the data set's where it states none that can
be followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec

from airepair.errors import UsageError
from airepair.host.validation import LARGEST, NotNegative, Positive, Share, checked
from airepair.subjects.recipes import training_of
from airepair.types import Recipe

AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=LARGEST)]


@dataclass(frozen=True)
class Stated(Recipe):
    """It is a recipe from outside: its numbers are in their ranges."""

    lr: Positive = Recipe.lr
    momentum: Share = Recipe.momentum
    weight_decay: NotNegative = Recipe.weight_decay
    batch_size: AtLeastOne = Recipe.batch_size
    epochs: AtLeastOne = Recipe.epochs
    label_smoothing: Share = Recipe.label_smoothing
    early: Share = Recipe.early


def recipe_of(dataset: str, facts: Mapping[str, Any]) -> tuple[Recipe, str]:
    """Returns the recipe of a file with these facts, and what a note says of one that is not
    followed ("" if there is none).
    """
    told, usual = facts.get("recipe"), training_of(dataset, "").recipe
    if told is None:
        return usual, ""
    try:
        return Recipe(**asdict(checked(told, Stated, "the file's recipe"))), ""
    except UsageError as error:
        return usual, f"{error}; the data set's stands in"
