"""What a cell keeps beside its record, as bytes by file name.

predictions.npz   label, before, after (class ids) and before_p, after_p (their probabilities) on
                  the examined split; index: each image's place in its source data set;
                  confusion_before, confusion_after
curve.jsonl       every progress report; cost.jsonl: samples of memory, CPU and GPU; log.txt;
tools/            logs of external tools
repaired.safetensors  the repaired weights, where the spec asks for them
classes.json      the names of the classes, if nothing was repaired (`--testonly` prints them)
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from airepair.evaluation.exam import Exam, confusion_matrix
from airepair.runner.outcome import Outcome, test_index
from airepair.runner.prepared import PreparedCell
from airepair.runner.storage import WEIGHTS

PREDICTIONS, CLASSES = "predictions.npz", "classes.json"


def files_of(ready: PreparedCell, outcome: Outcome) -> dict[str, bytes]:
    """Returns the files of a cell's folder."""
    found = {"log.txt": ("\n".join(outcome.log) + "\n").encode(), "curve.jsonl": _lines(outcome.curve)}
    if outcome.cost:
        found["cost.jsonl"] = _lines(sample.as_row() for sample in outcome.cost.samples)
    found |= {f"tools/{name}": content for name, content in outcome.logs.items()}
    if not ready.spec.repair:
        found |= {
            PREDICTIONS: predictions(ready, outcome.before, None),
            CLASSES: json.dumps(ready.subject.dataset.classes).encode(),
        }
    if outcome.after is not None and outcome.module is not None:
        found[PREDICTIONS] = predictions(ready, outcome.before, outcome.after)
        if ready.spec.keep_weights:
            found[WEIGHTS] = weights(outcome.module)
    return found


def weights(module: nn.Module) -> bytes:
    """Returns the module's parameters and buffers as safetensors."""
    return to_safetensors({k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()})


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def predictions(ready: PreparedCell, before: Exam, after: Exam | None) -> bytes:
    """The answers of the exams as a compressed npz."""
    classes, index = before.logits.shape[1], test_index(ready)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "label": before.y.numpy().astype(np.int16),
        "index": index.numpy().astype(np.int32),
    }
    for name, exam in (("before", before), ("after", after)):
        if exam is not None:
            arrays[name] = exam.predictions.numpy().astype(np.int16)
            arrays[f"{name}_p"] = exam.probabilities.max(1).values.numpy().astype(np.float32)
            arrays[f"confusion_{name}"] = confusion_matrix(exam, classes).to(torch.int32).numpy()
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
