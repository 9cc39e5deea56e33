"""A cell of a method and a subject that are held in memory: what tests and the conformance kit run,
through the stages of `run_cell`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airepair.case import Case
from airepair.runner.cell import CellSpec, Deaf, Listener
from airepair.runner.loading import Loaded
from airepair.runner.outcome import Outcome, outcome
from airepair.runner.prepared import PreparedCell, prepared
from airepair.runner.repair import Caller, repair
from airepair.types import Limit, Method, Split, Subject


def prepare(
    case: Case,
    subject: Subject | Loaded,
    method: Method,
    *,
    limit: Limit = Limit(),  # noqa: B008 (frozen)
    failing: Split | None = None,
    keep: Split | None = None,
    **spec: Any,
) -> PreparedCell:
    """Returns the cell, ready to run; `spec` holds further fields of its CellSpec (profile, pgd,
    origins).
    """
    loaded = subject if isinstance(subject, Loaded) else Loaded(subject)
    stated: Mapping[str, Any] = {
        "profile": "none",
        "keep_weights": True,
        "images": limit.images,
        "seconds": limit.seconds,
    } | spec
    return prepared(CellSpec(case=case, **stated), loaded, method, (failing, keep))


def run(ready: PreparedCell, call: Caller = lambda f: f(), listener: Listener = Deaf()) -> Outcome:  # noqa: B008 (without state)
    """Returns the repair, and the exams after it."""
    return outcome(ready, repair(ready, call, listener))
