"""Paired tests over seeds and test images, from the predictions that each cell keeps (`cells/<key>/predictions.npz`).

McNemar's exact test for each seed; for all seeds together an interval and a p-value (statistics.py) in which the images of the source data
set are the clusters, since a seed that draws its own test split shares some images with another one.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair.report.apart import filed
from airepair.report.claims import claims
from airepair.report.grid import Grid
from airepair.report.layout import Entry, Heading, Row, Table, Tidy, fixed
from airepair.report.order import Column, dataset_title, method_title, model_title
from airepair.report.statistics import DRAWS, Comparison, Pair, compare


@dataclass(frozen=True)
class Predictions:
    """Of one cell's test images: labels, which are right before and after the repair, and their indices in the source data set."""

    label: NDArray[Any]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    index: NDArray[Any]


def predictions(folder: Path, key: str) -> Predictions | None:
    """What the cell kept; None if it kept no readable predictions. Benchmark version 1 kept no index: its test images were the same everywhere."""
    try:
        with np.load(folder / "cells" / key / "predictions.npz") as found:
            label = found["label"]
            index = found["index"] if "index" in found.files else np.arange(len(label))
            return Predictions(label, found["before"] == label, found["after"] == label, index)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def paired(cells: Grid, folder: Path) -> Table | None:
    """Every method against the subject it repaired and against finetune; None where no cell kept its predictions."""
    rows: list[Row] = []
    tidy: list[Tidy] = []
    for place in cells.columns:
        for method in cells.methods:
            for against in ("the subject", "finetune"):
                found = None if method in (against, "noop") else _of(cells, place, method, against, folder)
                if found is None:
                    continue
                subject = f"{dataset_title(place[0])} {model_title(place[1])}"
                entries = tuple(map(Entry, _texts(found)))
                rows.append(Row((subject, method_title(method), against), entries, rule=not rows or rows[-1].labels[0] != subject))
                tidy.append(_line(place, method, against, found))
    headings = (
        Heading("Images a seed", "gained"),
        Heading("Images a seed", "lost"),
        Heading("All seeds", "difference"),
        Heading("All seeds", "95 % interval"),
        Heading("All seeds", "p"),
        Heading("Each seed", "McNemar's exact p"),
    )
    notes = (
        f"Difference in percentage points of accuracy; the interval is a bootstrap over seeds and images of the data set ({DRAWS:,} draws), p the"
        " larger one of that and of a permutation test over seeds; not corrected for the number of rows.",
        "finetune is its final state here, whatever its budget; the state of equal budget stands in the extended report.",
    )
    title = "Paired tests over seeds and test images"
    stub = ("Subject", "Method", "Against")
    return Table("paired", title, stub, headings, tuple(rows), notes, claims(cells, ()), tuple(tidy)) if rows else None


def _of(cells: Grid, place: Column, method: str, against: str, folder: Path) -> Comparison | None:
    pairs = []
    controls = {r.case.seed: r for r in cells.cell(place, against)}
    for record in cells.cell(place, method):
        own = predictions(folder, filed(record)) if record.status == "repaired" else None
        control = controls.get(record.case.seed)
        other = own if against == "the subject" else control and predictions(folder, filed(control))
        if own and other and np.array_equal(own.label, other.label) and np.array_equal(own.index, other.index):
            pairs.append(Pair(own.after, other.before if against == "the subject" else other.after, own.index))
    return compare(pairs) if pairs else None


def _texts(found: Comparison) -> list[str]:
    def p(value: float) -> str:
        return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"

    interval = f"{fixed(100 * found.low, sign=True)} to {fixed(100 * found.high, sign=True)}"
    return [
        ", ".join(map(str, found.gained)),
        ", ".join(map(str, found.lost)),
        fixed(100 * found.difference, sign=True),
        interval,
        p(found.p),
        ", ".join(map(p, found.mcnemar)),
    ]


def _line(place: Column, method: str, against: str, found: Comparison) -> Tidy:
    return {
        "dataset": place[0],
        "model": place[1],
        "method": method,
        "against": against,
        "n": len(found.gained),
        "difference": round(100 * found.difference, 6) + 0.0,
        "low": round(100 * found.low, 6) + 0.0,
        "high": round(100 * found.high, 6) + 0.0,
        "p": round(found.p, 6),
        "gained": " ".join(map(str, found.gained)),
        "lost": " ".join(map(str, found.lost)),
        "mcnemar": " ".join(f"{p:.6g}" for p in found.mcnemar),
    }
