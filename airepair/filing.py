"""What a run keeps: the record's line and, beside it, `cells/<key>/` (protocol: "What a run keeps").

predictions.npz   label, before, after (class ids) and before_p, after_p (their probabilities) on test; index: each image's place in its
                  source data set; confusion_before, confusion_after
curve.jsonl       every progress report; cost.jsonl: sampled memory; log.txt; before.json: the scores before, written ahead of the repair
repaired.safetensors  the repaired weights, by `keep`: "none", "best" (the best validation accuracy of a data set and model) or "all"
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save as to_safetensors
from torch import nn

from airepair.exam import Exam, confusion_matrix
from airepair.pipeline import Outcome
from airepair.prepared import Prepared
from airepair.records import Record, append

Keep = Literal["none", "best", "all"]
RECORDS = "records.jsonl"


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def file_before(folder: Path, ready: Prepared) -> None:
    """Keeps the scores before the repair, so that a cell whose process dies still has them."""
    content = {"before": dict(ready.scores), "missing": dict(ready.missing)}
    write_atomically(folder / "cells" / str(ready.case) / "before.json", json.dumps(content).encode())


def file_outcome(folder: Path, outcome: Outcome, keep: Keep = "best") -> Path:
    """Writes the cell's folder, then appends its record; the folder. OSError where the disk is full or read-only."""
    record = outcome.record
    cell = folder / "cells" / record.key
    write_atomically(cell / "log.txt", ("\n".join(outcome.log) + "\n").encode())
    _lines(cell / "curve.jsonl", outcome.curve)
    if outcome.cost:
        _lines(cell / "cost.jsonl", ({"seconds": s, "resident_bytes": b} for s, b in outcome.cost.samples))
    if outcome.after is not None and outcome.module is not None:
        _predictions(cell / "predictions.npz", outcome.before, outcome.after, outcome.index)
        validation = float(record.subject.get("repaired_validation_accuracy") or 0.0)
        if keep == "all" or (keep == "best" and _is_best(folder, record.case.dataset, record.case.model, record.key, validation)):
            write_atomically(cell / "repaired.safetensors", weights(outcome.module))
    append(folder / RECORDS, record)
    return cell


def file_again(folder: Path, record: Record) -> None:
    """Puts the record in the place of its last line: what is known only after it was filed (the written file). OSError as file_outcome."""
    path = folder / RECORDS
    with FileLock(f"{path}.lock"):
        lines = path.read_text(encoding="utf-8").splitlines()
        last = max(i for i, line in enumerate(lines) if line.endswith("}") and json.loads(line)["key"] == record.key)
        lines[last] = record.to_json()
        write_atomically(path, ("\n".join(lines) + "\n").encode())


def weights(module: nn.Module) -> bytes:
    """The module's parameters and buffers as safetensors."""
    return to_safetensors({k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()})


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _predictions(path: Path, before: Exam, after: Exam, index: torch.Tensor) -> None:
    classes = before.logits.shape[1]
    arrays: dict[str, np.ndarray[Any, Any]] = {"label": before.y.numpy().astype(np.int16), "index": index.numpy().astype(np.int32)}
    for name, exam in (("before", before), ("after", after)):
        arrays[name] = exam.predictions.numpy().astype(np.int16)
        arrays[f"{name}_p"] = exam.probabilities.max(1).values.numpy().astype(np.float32)
        arrays[f"confusion_{name}"] = confusion_matrix(exam, classes).to(torch.int32).numpy()
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
    np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


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
