"""Scores against what stands beside them: the record's right answers, and `predictions.npz` in the
cell's folder. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair.data.arrays import read_arrays
from airepair.errors import UsageError
from airepair.records import Record
from airepair.records.right_answers import indices, unpack

CLOSE = 1e-9
ARRAYS = ("label", "before", "after", "index", "confusion_before", "confusion_after")  # of predictions.npz
Right = NDArray[np.bool_]


def contradictions(record: Record, folder: Path) -> Iterator[str]:
    """Yields what the record and its files contradict in each other, a sentence each."""
    answers = {name: unpack(text) for name, text in record.right.items() if name != "tested"}
    yield from _scores(record, answers.get("before"), answers.get("after"), "its right answers")
    n = record.provenance.get("n", {}).get("test")
    if (
        answers
        and n is not None
        and len(next(iter(answers.values()))) != n
        and record.provenance.get("examined", "test") == "test"
    ):
        yield f"it says {n} test images and answers for {len(next(iter(answers.values())))}"
    path = folder / "cells" / record.key / "predictions.npz"
    if path.exists():
        yield from _against_file(record, answers, path)


def _against_file(record: Record, answers: Mapping[str, Right], path: Path) -> Iterator[str]:
    try:
        arrays, _ = read_arrays(path, ARRAYS)
        label = arrays["label"]
        right = {name: arrays[name] == label for name in ("before", "after") if name in arrays}
        index = arrays.get("index", np.arange(len(label)))
        if any(r.shape != label.shape for r in (*right.values(), index)):
            raise ValueError("its arrays have different lengths")
    except (UsageError, KeyError, ValueError) as error:
        yield f"predictions.npz cannot be read ({error})"
        return
    yield from _scores(record, right.get("before"), right.get("after"), "predictions.npz")
    order = np.argsort(index, kind="stable")
    if answers and not np.array_equal(np.sort(index), indices(record.right["tested"])):
        yield "predictions.npz is of other images than its right answers"
        return
    for name, own in answers.items():
        if name in right and not np.array_equal(right[name][order], own):
            yield (
                f"predictions.npz and its right answers {name} the repair differ on "
                f"{int((right[name][order] != own).sum())} images"
            )
    yield from _confusions(arrays)


def _scores(record: Record, before: Right | None, after: Right | None, source: str) -> Iterator[str]:
    """The scores that follow from which test images are right."""
    expected: list[tuple[str, float | None, float]] = []
    if before is not None and len(before):
        expected.append(("accuracy before", record.before.get("accuracy"), float(before.mean())))
    if after is not None and len(after):
        expected.append(("accuracy", record.after.get("accuracy"), float(after.mean())))
    if before is not None and after is not None and len(before) == len(after) > 0:
        expected.append(("net_change", record.after.get("net_change"), float(after.mean() - before.mean())))
        if before.any():
            expected.append(("break_rate", record.after.get("break_rate"), float((~after[before]).mean())))
        if not before.all():
            expected.append(
                ("generalisation", record.after.get("generalisation"), float(after[~before].mean()))
            )
    for name, said, found in expected:
        if said is not None and abs(said - found) > CLOSE:
            yield f"{name} is {said:.6g}, and {source} give {found:.6g}"


def _confusions(arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """The confusion matrices that are not of the predictions beside them."""
    label = arrays["label"].astype(int)
    for name in ("before", "after"):
        matrix, answers = arrays.get(f"confusion_{name}"), arrays.get(name)
        if matrix is None or answers is None or matrix.ndim != 2:
            continue
        counted = np.zeros_like(matrix)
        try:
            np.add.at(counted, (label, answers.astype(int)), 1)
        except IndexError:
            yield f"predictions.npz has a class in `{name}` that its confusion matrix lacks"
            continue
        if not np.array_equal(counted, matrix):
            yield f"confusion_{name} in predictions.npz is not of the predictions beside it"
