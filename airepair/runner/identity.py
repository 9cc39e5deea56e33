"""The fingerprint of a cell: it can be asked before the repair, and its record holds it."""

from __future__ import annotations

from typing import Any

import torch

from airepair.arithmetic.precision import arithmetic_of
from airepair.data.splits import digest
from airepair.records.fingerprint import CONDITIONS, of_cell
from airepair.runner.events import Events
from airepair.runner.loading import Loaded
from airepair.runner.prepared import unexamined
from airepair.runner.provenance import provenance
from airepair.runner.repair import task_of
from airepair.runner.spec import CellSpec
from airepair.subjects.user_model.load import asked
from airepair.types import Limit, Method


def wanted(spec: CellSpec, loaded: Loaded | None, method: Method) -> dict[str, Any]:
    """The fingerprint that the cell's record would have if it ran now.

    The largest budget of its column is asked for if the method trains to it.
    """
    if loaded is None or not getattr(method, "matches_column", False):
        return fingerprint(spec, loaded, method, None)
    events = Events(Limit(), lambda *_: None)
    task_of(unexamined(spec, loaded, method), events)
    return fingerprint(spec, loaded, method, events.column)


def fingerprint(spec: CellSpec, loaded: Loaded | None, method: Method, column: int | None) -> dict[str, Any]:
    """What must be equal for two runs of the cell to be one experiment. Images that the user named
    (`failing`, `keep`) are data too.

    `column`: the budget to which a control trained, None for other methods. Without the subject (it
    would have to be trained) its data and weights are unknown, and so is the budget of its column.
    """
    facts = provenance(torch.device(spec.device), spec.profile, {})
    conditions = {name: facts[name] for name in CONDITIONS if name in facts} | {
        "image_limit": spec.images or "none"
    }
    conditions |= {"column_budget": column} if column is not None else {}
    if loaded is None:
        conditions.pop("arithmetic", None)  # its network may have one of its own
        return of_cell(method, given=spec.options, conditions=conditions)
    conditions |= arithmetic_of(loaded.subject.module)
    named = asked(loaded.subject, spec.failing, spec.keep) if spec.failing or spec.keep else (None, None)
    given = {
        name: digest(split)
        for name, split in zip(("failing", "keep"), named, strict=True)
        if split is not None
    }
    data = {**loaded.subject.dataset.digests, **given}
    return of_cell(
        method, given=spec.options, conditions=conditions, data=data, weights=loaded.digests["the subject"]
    )
