"""What a repair used while it ran, drawn from the samples beside its record
(airepair/runner/cost.py): cores, memory, and of a GPU its time, memory and power.

Geometry only: one small panel per quantity, all over the same seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

FILE = "cost.jsonl"
WIDTH, HEIGHT = 200, 48  # of a panel
POINTS = 80  # of a line, at most
FEWEST = 3  # samples that make a line
GIB = 2**30

Row = Mapping[str, float]


@dataclass(frozen=True)
class Panel:
    """It shows one quantity over time; `most` is its highest value with the unit."""

    title: str
    most: str
    path: str


@dataclass(frozen=True)
class Usage:
    """It holds the panels of one cell, and what they are of."""

    about: str
    panels: tuple[Panel, ...]


def usage(folders: Iterable[Path], key: str) -> Usage | None:
    """Returns the usage of the cell of that key; None if no folder has enough samples of it."""
    for folder in folders:
        rows = _rows(folder / "cells" / key / FILE)
        if len(rows) >= FEWEST:
            return _drawn(rows)
    return None


def _rows(file: Path) -> list[Row]:
    """The samples in their order; none of a file that is missing or damaged."""
    try:
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [{str(k): float(v) for k, v in row.items()} for row in found if "seconds" in row]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


QUANTITIES: tuple[tuple[str, str, Callable[[Row], float | None]], ...] = (
    ("Memory", "GiB", lambda row: _scaled(row, "resident_bytes", GIB)),
    ("GPU", "% of its time", lambda row: row.get("gpu_percent")),
    ("GPU memory", "GiB", lambda row: _scaled(row, "gpu_bytes", GIB)),
    ("GPU power", "W", lambda row: row.get("watts")),
)


def _scaled(row: Row, name: str, unit: float) -> float | None:
    return row[name] / unit if name in row else None


def _drawn(rows: Sequence[Row]) -> Usage | None:
    panels = [_panel("CPU", "cores", _cores(rows))]
    for title, unit, value in QUANTITIES:
        panels.append(_panel(title, unit, [(r["seconds"], v) for r in rows if (v := value(r)) is not None]))
    known = tuple(p for p in panels if p is not None)
    last = rows[-1]
    energy = f", {last['joules']:,.0f} J by the GPU's counter" if "joules" in last else ""
    return Usage(f"{len(rows)} samples in {last['seconds']:,.1f} s{energy}", known) if known else None


def _cores(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """CPU seconds per second between two samples."""
    known = [(r["seconds"], r["cpu_seconds"]) for r in rows if "cpu_seconds" in r]
    return [(t, max(0.0, (b - a) / (t - s))) for (s, a), (t, b) in pairwise(known) if t > s]


def _panel(title: str, unit: str, points: Sequence[tuple[float, float]]) -> Panel | None:
    """The line of the points, from 0 up; of many every so many, with the highest of them."""
    if len(points) < FEWEST - 1:
        return None
    step = -(-len(points) // POINTS)
    parts = [points[i : i + step] for i in range(0, len(points), step)]
    shown = [(part[0][0], max(v for _, v in part)) for part in parts]
    most, end = max(v for _, v in points), points[-1][0] or 1.0
    high = most or 1.0
    path = " ".join(f"{WIDTH * t / end:.1f},{HEIGHT - (HEIGHT - 4) * v / high:.1f}" for t, v in shown)
    return Panel(title, f"{most:,.2f} {unit}" if most < 100 else f"{most:,.0f} {unit}", path)
