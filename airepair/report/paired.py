"""Paired tests over test images, from the predictions that each cell keeps (`cells/<key>/predictions.npz`). Needs numpy only.

With few seeds a test over seeds cannot decide (the smallest two-sided p of a Wilcoxon test is .25 at n = 3). So: McNemar's exact test for
each seed, and for all seeds a bootstrap that draws seeds with replacement and, within, the test images that they share.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair.report.claims import claims
from airepair.report.grid import Grid
from airepair.report.layout import Entry, Heading, Row, Table, Tidy, fixed
from airepair.report.order import Column, dataset_title, method_title, model_title

DRAWS = 2000
SEED = 20_241_124  # fixed: same predictions, same bytes


@dataclass(frozen=True)
class Paired:
    """One model against another on the same test images: images only it gets right (`gained`) and only the other (`lost`), one number a seed."""

    gained: tuple[int, ...]
    lost: tuple[int, ...]
    mcnemar: tuple[float, ...]
    difference: float
    low: float
    high: float
    p: float


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: a fair coin on the images on which the two differ."""
    n = gained + lost
    term = tail = 1
    for k in range(min(gained, lost)):
        term = term * (n - k) // (k + 1)  # the next binomial coefficient, in exact integers
        tail += term
    return min(1.0, (2 * tail) / (1 << n))


def compare(first: NDArray[Any], second: NDArray[Any], draws: int = DRAWS) -> Paired:
    """`first` and `second`: right or not (bool, seeds x images). Interval and p are of the mean difference, by the two-level bootstrap."""
    change = first.astype(np.float64) - second  # floats: the product below then runs in BLAS
    seeds, images = change.shape
    gained, lost = (change > 0).sum(1), (change < 0).sum(1)
    generator = np.random.default_rng(SEED)
    means = np.empty(draws)
    for i in range(draws):
        weights = np.bincount(generator.integers(images, size=images), minlength=images).astype(np.float64)
        means[i] = (change @ weights)[generator.integers(seeds, size=seeds)].mean() / images
    low, high = np.quantile(means, [0.025, 0.975])
    p = min(1.0, 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (draws + 1))
    exact = tuple(mcnemar(int(g), int(b)) for g, b in zip(gained, lost, strict=True))
    return Paired(tuple(map(int, gained)), tuple(map(int, lost)), exact, float(change.mean()), float(low), float(high), float(p))


def right(folder: Path, key: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Labels, and which test images are right before and after; None where the cell kept no readable predictions."""
    try:
        with np.load(folder / "cells" / key / "predictions.npz") as found:
            label = found["label"]
            return label, found["before"] == label, found["after"] == label
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
        f"Difference in percentage points of accuracy; interval and p by a bootstrap over seeds and test images ({DRAWS} draws), not corrected"
        " for the number of rows.",
        "finetune is its final state here, whatever its budget; the state of equal budget stands in the extended report.",
    )
    title = "Paired tests over test images"
    stub = ("Subject", "Method", "Against")
    return Table("paired", title, stub, headings, tuple(rows), notes, claims(cells, ()), tuple(tidy)) if rows else None


def _of(cells: Grid, place: Column, method: str, against: str, folder: Path) -> Paired | None:
    first, second = [], []
    for record in cells.cell(place, method):
        own = right(folder, record.key) if record.status == "repaired" else None
        other = own and (own if against == "the subject" else right(folder, str(_control(record.key, method, against))))
        if own and other and np.array_equal(own[0], other[0]):
            first.append(own[2])
            second.append(other[1] if against == "the subject" else other[2])
    same = len({len(f) for f in first}) == 1
    return compare(np.stack(first), np.stack(second)) if same else None


def _control(key: str, method: str, control: str) -> str:
    start, _, seed = key.rpartition("-")
    return f"{start.removesuffix(method)}{control}-{seed}"


def _texts(found: Paired) -> list[str]:
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


def _line(place: Column, method: str, against: str, found: Paired) -> Tidy:
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
