"""The training data as a brought file saw them: with the fault that it says it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airepair.data.partition import split_seed
from airepair.errors import UsageError
from airepair.subjects.grid import spoil
from airepair.subjects.recipes import training_of
from airepair.types import Dataset


def as_trained(divided: Dataset, trained_on: str, fault: str, facts: Mapping[str, Any]) -> Dataset:
    """Returns the data set with that fault in its training data; a note where it cannot be had:
    unknown here, or of another severity.

    The severity stands in the file's architecture (`fc+imbalanced0.05`); the digest of its training
    data, where it has one, must come out.
    """
    if not fault or not trained_on.startswith("split"):
        return divided
    seed = split_seed(trained_on)
    spoilt = _with(fault, str(facts.get("arch") or ""), divided, seed) if seed is not None else None
    expected = digests_of(facts).get("train")
    if spoilt is None or (expected and spoilt.digests["train"] != expected):
        note = f"the file was trained with the fault {fault}, which the training data here do not have"
        return replace(divided, notes=(*divided.notes, note))
    return spoilt


def digests_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what a file says of its data; none where it says it in another form than ours."""
    found = facts.get("digests")
    return found if isinstance(found, Mapping) else {}


def _with(fault: str, architecture: str, data: Dataset, seed: int) -> Dataset | None:
    """The data set's own fault, or the one of the architecture's name; None if there is no such
    fault of the training.
    """
    plain, _, text = architecture.partition("+")
    own = training_of(data.name, "")
    if not text and own.fault == fault:
        return spoil(data, own, seed)
    try:
        return spoil(data, training_of(data.name, f"{plain}+{text or fault}"), seed)
    except UsageError:
        return None
