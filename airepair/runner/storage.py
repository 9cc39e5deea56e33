"""What a run keeps: the record's line and, beside it, `cells/<key>/` (docs/repairing-a-model.md,
"What a run leaves"). Free of torch.

A record is filed by the process that ran its cell, at once and before anything is asserted: one
locked append of a whole line, then fsync. The repaired weights stay by `keep`: "none", "best" (the
best validation accuracy of a data set and model) or "all".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from filelock import FileLock

from airepair.case import Case
from airepair.host.atomic import write_atomically
from airepair.host.signals import finishing
from airepair.records import Record, append
from airepair.records.files import CELLS
from airepair.records.lookup import Lookup
from airepair.runner.cell import CellResult

Keep = Literal["none", "best", "all"]
RECORDS = "records.jsonl"
WEIGHTS = "repaired.safetensors"
BEFORE = "before.json"


def file_before(folder: Path, case: Case, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
    """Keeps the scores before the repair, so that a cell whose process dies still has them."""
    content = {"before": dict(scores), "missing": dict(missing)}
    write_atomically(folder / CELLS / str(case) / BEFORE, json.dumps(content).encode())


def forget_before(folder: Path, case: Case) -> None:
    """Removes what an earlier run kept of a cell that starts: this run's process may die before it
    has scores of its own.
    """
    with suppress(OSError):
        (folder / CELLS / str(case) / BEFORE).unlink()


def scores_before(folder: Path, case: Case) -> dict[str, float]:
    """Returns what `file_before` kept; nothing if it is not there or damaged."""
    try:
        found = json.loads((folder / CELLS / str(case) / BEFORE).read_bytes())
        return msgspec.convert(found["before"], dict[str, float])
    except (OSError, ValueError, KeyError, TypeError):  # msgspec.ValidationError is a ValueError
        return {}


def file_result(folder: Path, result: CellResult, keep: Keep = "best") -> Path:
    """Writes the cell's folder, then appends its record; the folder.

    OSError if the disk is full or read-only.
    """
    record = result.record
    cell = folder / CELLS / record.key
    with finishing():
        for name, content in result.files.items():
            if name != WEIGHTS:
                write_atomically(cell / name, content)
        if WEIGHTS in result.files and keep == "all":
            write_atomically(cell / WEIGHTS, result.files[WEIGHTS])
        elif WEIGHTS in result.files and keep == "best":
            _keep_if_best(folder, record, result.files[WEIGHTS])
        append(folder / RECORDS, record)
    return cell


class Best(msgspec.Struct):
    """It is the cell with the best repaired model of a subject so far, by validation accuracy."""

    key: str
    accuracy: float


def _keep_if_best(folder: Path, record: Record, weights: bytes) -> None:
    """Keeps the weights if no repaired model of their subject was better so far; the one that was
    loses its own. Ties go to the lower key.

    A kill in between leaves the weights of both.
    """
    place = folder / CELLS / "best.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        best, subject, accuracy = _best(place), _subject(record), _accuracy(record)
        old = best.get(subject)
        if old and old.key != record.key and (-old.accuracy, old.key) <= (-accuracy, record.key):
            return
        write_atomically(folder / CELLS / record.key / WEIGHTS, weights)
        best[subject] = Best(record.key, accuracy)
        write_atomically(place, msgspec.json.format(msgspec.json.encode(best, order="sorted"), indent=1))
        if old and old.key != record.key:
            (folder / CELLS / old.key / WEIGHTS).unlink(missing_ok=True)


def _subject(record: Record) -> str:
    return f"{record.case.dataset}-{record.case.model}"


def _accuracy(record: Record) -> float:
    return float(record.subject.get("repaired_validation_accuracy") or 0.0)


def _best(place: Path) -> dict[str, Best]:
    """What best.json says; if it is missing or damaged, what the records of the cells that have
    weights say.
    """
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(place.read_bytes(), type=dict[str, Best])
    found: dict[str, Best] = {}
    records = Lookup(place.parents[1] / RECORDS)
    for weights in sorted(place.parent.glob(f"*/{WEIGHTS}")):
        for record in records.of(weights.parent.name):
            subject = _subject(record)
            if subject not in found or _accuracy(record) > found[subject].accuracy:
                found[subject] = Best(record.key, _accuracy(record))
    return found
