"""Records: one JSON line for each finished cell, appended at once by the process that ran it. Free of torch."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock

from airepair import BENCHMARK_VERSION
from airepair.case import Case
from airepair.errors import UsageError

SCHEMA = 1
Status = Literal["repaired", "unsupported", "failed", "crashed", "timeout", "out of memory", "skipped"]
SAME_NORM = "random change of the same norm"  # the phase that the harness adds to a direct weight modification
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class Phase:
    """An intermediate model that a method handed in: training images and seconds so far, and its scores on validation and test.

    SAME_NORM is the harness's own: the control of a direct weight modification, without images and seconds.
    """

    name: str
    images: int
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Record:
    """One finished cell.

    options     name -> {"value": ..., "given": whether the user or a settings table gave it}
    before      scores of the subject; `after` those of the repaired model; `missing` says why a metric is absent
    budget      {"backward": images through forward and backward, "forward": images through forward only}
    cost        of the repair alone: seconds, peak bytes (see cost.py)
    subject     origin (a brought file: with the fidelity of its conversion), trained_on, digests of weights and data, notes; of a file that
                was brought and repaired `written_back`: the file and its fidelity, or the reason why its format cannot hold the repair
    provenance  benchmark version, versions, device, threads, commit, dirty, profile, time, n of each split
    notes       what a reader must know ("failures seen in training")
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
    cost: Mapping[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    subject: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=lambda: {"benchmark_version": BENCHMARK_VERSION})
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The case's id."""
        return str(self.case)

    def to_json(self) -> str:
        """The record as one line."""
        return json.dumps({"schema": SCHEMA, "key": self.key, **dataclasses.asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """The record of a line; UsageError says what is wrong with it."""
        try:
            raw = json.loads(line)
        except ValueError as error:
            raise UsageError(f"not JSON: {line[:60]!r} ({error})") from error
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
            raise UsageError(f"schema {found!r} is not one that this version reads; accepted: {SCHEMA}")
        try:
            names = {f.name for f in dataclasses.fields(cls)}
            values = {k: v for k, v in raw.items() if k in names}
            values["case"] = Case(**raw["case"])
            values["phases"] = tuple(Phase(**p) for p in raw.get("phases", ()))
            values["notes"] = tuple(raw.get("notes", ()))
            values.setdefault("provenance", {})
            record = cls(**values)
        except (KeyError, TypeError, UsageError) as error:
            raise UsageError(f"a record lacks or mistypes a field: {error}") from error
        if record.status not in STATUSES:
            raise UsageError(f"status {record.status!r} is unknown; accepted: {', '.join(STATUSES)}")
        return record


def version(record: Record) -> int:
    """The benchmark version of the record's numbers; records from before it was named are of version 1."""
    return int(record.provenance.get("benchmark_version", 1))


def append(path: Path, record: Record) -> None:
    """Appends the record: one whole line under a lock, then fsync. OSError where the disk is full or read-only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (record.to_json() + "\n").encode()
    with FileLock(f"{path}.lock"), path.open("ab") as file:
        end = file.tell()
        if end and _last_byte(path) != b"\n":
            data = b"\n" + data
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def read(paths: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The records of files or folders (`*.jsonl`), last of each key and benchmark version, and remarks about what was dropped.

    UsageError names the file and line that cannot be read; a last line that was cut off by a crash is dropped with a remark.
    """
    records: dict[tuple[str, int], Record] = {}
    remarks = []
    for file in _files(paths):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is not a readable record file (JSON lines): {error}") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = Record.from_json(line)
            except UsageError as error:
                if number == len(lines) and not line.endswith("}"):
                    remarks.append(f"{file}:{number}: an unfinished last line was dropped")
                    continue
                raise UsageError(f"{file}:{number}: {error}") from error
            place = record.key, version(record)
            if place in records:
                remarks.append(f"{record.key} occurs more than once; the last record counts")
                del records[place]
            records[place] = record
    return list(records.values()), list(dict.fromkeys(remarks))


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(path.glob("*.jsonl")) or sorted(path.glob("*/*.jsonl"))
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path} does not exist; accepted: a record file (.jsonl) or a folder of them")
    if not files:
        raise UsageError(f"no record file (.jsonl) in {', '.join(map(str, paths))}")
    return files
