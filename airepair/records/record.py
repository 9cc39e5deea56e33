"""What a record says, and its line."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from airepair import BENCHMARK_VERSION
from airepair.case import Case
from airepair.errors import UsageError
from airepair.host.validation import json_value, shown
from airepair.records.schema import SCHEMA, Status, fits, problems_of

SAME_NORM = (
    "random change of the same norm"  # the phase that the harness adds to a direct weight modification
)
STATUSES: tuple[str, ...] = get_args(Status)
FINISHED = (
    "repaired",
    "unsupported",
)  # a cell that ended so need not run again; the others may end otherwise another time
_OUTSIDE = re.compile(r"(^|[/\\])\.\.([/\\]|$)")


@dataclass(frozen=True)
class Phase:
    """Describes an intermediate model that a method handed in: training images and seconds so far, scores on
    validation and test, right answers.

    SAME_NORM is the harness's own: the control of a direct weight modification, without images and seconds.
    """

    name: str
    images: int
    seconds: float
    scores: Mapping[str, float]
    right: str = ""


@dataclass(frozen=True)
class Record:
    """Describes one finished cell. The fields are those of a line: airepair/records/schema.py says
    what each means.
    """

    case: Case
    status: Status
    reason: str = ""
    category: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    cost: Mapping[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"benchmark_version": BENCHMARK_VERSION})
    right: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Returns the case's id."""
        return str(self.case)

    @property
    def wrecked(self) -> bool:
        """Returns whether the repair left less than half of the accuracy that there was."""
        known = self.status == "repaired" and "accuracy" in self.before and "accuracy" in self.after
        return known and self.after["accuracy"] < self.before["accuracy"] / 2

    def to_json(self) -> str:
        """Returns the record as one line.

        ValueError for a number that is not finite; a lone surrogate in a text becomes a question
        mark.
        """
        content = {"schema": SCHEMA, "key": self.key, **dataclasses.asdict(self)}
        text = json.dumps(content, allow_nan=False, ensure_ascii=False)
        if not text.isascii():
            content = json.loads(text.encode("utf-8", "replace"))
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> Record:
        """Returns the record of a line; UsageError says in one sentence what is wrong with it."""
        raw, strict = json_value(line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line)
        wrong = [] if strict and fits(raw) else list(problems_of(raw))
        if wrong:
            more = [f"and {len(wrong) - 2} more"] if wrong[2:] else []
            raise UsageError("; ".join(wrong[:2] + more))
        try:
            case = Case(**raw["case"])
        except UsageError as error:
            raise UsageError(f"case is {shown(raw['case'])}: {error}") from None
        if raw["key"] != str(case) or _OUTSIDE.search(raw["key"]):
            raise UsageError(
                f"key is {shown(raw['key'])}; accepted: the id of its case, {str(case)!r}, "
                f"without a step to another folder"
            )
        values = {k: v for k, v in raw.items() if k not in ("schema", "key")}
        values.setdefault("provenance", {})
        values |= {
            "case": case,
            "phases": tuple(Phase(**p) for p in raw.get("phases", ())),
            "notes": tuple(raw.get("notes", ())),
        }
        values["sources"] = tuple(raw.get("sources", ()))
        return cls(**values)


def version(record: Record) -> int:
    """Returns the benchmark version of the record's numbers; records from before it was named are
    of version 1.
    """
    return int(record.provenance.get("benchmark_version", 1))
