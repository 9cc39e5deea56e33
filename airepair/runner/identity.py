"""The fingerprint of a cell: it can be asked before the repair, and its record holds it."""

from __future__ import annotations

from typing import Any

import torch

from airepair.data.splits import digest
from airepair.fingerprint import CONDITIONS, of_cell
from airepair.precision import arithmetic_of
from airepair.provenance import provenance
from airepair.runner.loading import Loaded
from airepair.runner.spec import CellSpec
from airepair.subjects.brought import asked
from airepair.types import Method


def fingerprint(spec: CellSpec, loaded: Loaded | None, method: Method) -> dict[str, Any]:
    """What must be equal for two runs of the cell to be one experiment. Images that the user named (`failing`, `keep`) are data too.

    Without the subject (it would have to be trained) its data and weights are unknown.
    """
    facts = provenance(torch.device(spec.device), spec.profile, {})
    conditions = {name: facts[name] for name in CONDITIONS if name in facts}
    if loaded is None:
        conditions.pop("arithmetic", None)  # its network may have one of its own
        return of_cell(method, given=spec.options, conditions=conditions)
    conditions |= arithmetic_of(loaded.subject.module)
    named = asked(loaded.subject, spec.failing, spec.keep) if spec.failing or spec.keep else (None, None)
    given = {name: digest(split) for name, split in zip(("failing", "keep"), named, strict=True) if split is not None}
    data = {**loaded.subject.dataset.digests, **given}
    return of_cell(method, given=spec.options, conditions=conditions, data=data, weights=loaded.digests["the subject"])
