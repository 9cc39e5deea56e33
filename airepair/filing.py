"""What a run keeps: the record's line and, beside it, `cells/<key>/` (docs/protocol.md, "What a run keeps"). Free of torch.

A record is filed by the process that ran its cell, at once and before anything is asserted: one locked append of a whole line, then fsync.
The repaired weights stay by `keep`: "none", "best" (the best validation accuracy of a data set and model) or "all".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from airepair.case import Case
from airepair.records import append
from airepair.runner.result import CellResult

Keep = Literal["none", "best", "all"]
RECORDS = "records.jsonl"
WEIGHTS = "repaired.safetensors"


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def file_before(folder: Path, case: Case, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
    """Keeps the scores before the repair, so that a cell whose process dies still has them."""
    content = {"before": dict(scores), "missing": dict(missing)}
    write_atomically(folder / "cells" / str(case) / "before.json", json.dumps(content).encode())


def file_result(folder: Path, result: CellResult, keep: Keep = "best") -> Path:
    """Writes the cell's folder, then appends its record; the folder. OSError where the disk is full or read-only."""
    record = result.record
    cell = folder / "cells" / record.key
    for name, content in result.files.items():
        if name != WEIGHTS:
            write_atomically(cell / name, content)
    if WEIGHTS in result.files:
        validation = float(record.subject.get("repaired_validation_accuracy") or 0.0)
        if keep == "all" or (keep == "best" and _is_best(folder, record.case.dataset, record.case.model, record.key, validation)):
            write_atomically(cell / WEIGHTS, result.files[WEIGHTS])
    append(folder / RECORDS, record)
    return cell


def _is_best(folder: Path, dataset: str, model: str, key: str, accuracy: float) -> bool:
    """Whether this is the best repaired model of its subject so far; the one that was loses its weights. Ties go to the lower key."""
    place = folder / "cells" / "best.json"
    with FileLock(f"{place}.lock"):
        best: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
        subject = f"{dataset}-{model}"
        old = best.get(subject)
        if old and old["key"] != key and (-old["accuracy"], old["key"]) <= (-accuracy, key):
            return False
        best[subject] = {"key": key, "accuracy": accuracy}
        write_atomically(place, json.dumps(best, indent=1, sort_keys=True).encode())
        if old and old["key"] != key:
            (folder / "cells" / str(old["key"]) / "repaired.safetensors").unlink(missing_ok=True)
    return True
