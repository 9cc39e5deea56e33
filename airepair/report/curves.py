"""The curve of a cell: accuracy on test against training images, through the states that the method
handed in; finetune's beside it.

Geometry only (a fixed drawing area of WIDTH x HEIGHT units); the page draws it as inline SVG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from airepair.case import split_variant
from airepair.report.cells import Grid, baseline
from airepair.report.ordering import Column, method_title
from airepair.report.states import states
from airepair.report.table import fixed

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40


@dataclass(frozen=True)
class Point:
    """Where a state is drawn, and what it is."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Line:
    """One method's states by training images; `role` is "method" or "control"."""

    label: str
    role: str
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """Returns the points as an SVG polyline takes them."""
        return " ".join(f"{p.x:.1f},{p.y:.1f}" for p in self.points)


@dataclass(frozen=True)
class Curve:
    """It holds lines, and tick marks (position, text) of both axes."""

    lines: tuple[Line, ...]
    xticks: tuple[tuple[float, str], ...]
    yticks: tuple[tuple[float, str], ...]


State = tuple[float, float, str]  # images, accuracy in percent, name


def curve(cells: Grid, place: Column, method: str) -> Curve | None:
    """Returns the curve of a cell; None if the method handed in no states."""
    own = _track(cells, place, method)
    if len(own) < 3:  # the subject and the result alone are no curve
        return None
    tracks = [(method_title(method), "method", own)]
    control = _track(cells, place, "finetune") if split_variant(method)[0] != "finetune" else []
    if len(control) > 1:
        tracks.append(("finetune", "control", control))
    every = [state for _, _, track in tracks for state in track]
    scores = [score for _, score, _ in every]
    xs, ys = _ticks(0.0, max(images for images, _, _ in every)), _ticks(min(scores), max(scores))
    lines = tuple(Line(label, role, tuple(_point(s, xs, ys) for s in track)) for label, role, track in tracks)
    xticks = tuple((_x(t, xs), f"{t:,.0f}") for t in xs)
    yticks = tuple((_y(t, ys), f"{t:g}") for t in ys)
    return Curve(lines, xticks, yticks)


def _track(cells: Grid, place: Column, method: str) -> list[State]:
    """The subject at 0 images, the kept states, the returned one; means over seeds, by images."""
    start = baseline(cells.cell(place, method), "accuracy")
    found: list[State] = [(0.0, start.mean, "the subject")] if start else []
    for state in states(cells, place, method):
        value, images = state.sample("accuracy", 100), state.images
        if state.kind != "beside" and value and images:
            found.append((images.mean, value.mean, state.label or "returned"))
    return sorted(found, key=lambda s: (s[0], s[2] == "returned"))


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that span low..high."""
    span = (high - low) or max(abs(high), 1.0)
    step = 10 ** math.floor(math.log10(span / 3))
    step *= next(k for k in (1, 2, 5, 10) if span / (step * k) <= 4)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _x(images: float, ticks: Sequence[float]) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (images - ticks[0]) / (ticks[-1] - ticks[0]), 2)


def _y(score: float, ticks: Sequence[float]) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (score - ticks[0]) / (ticks[-1] - ticks[0]), 2)


def _point(state: State, xs: Sequence[float], ys: Sequence[float]) -> Point:
    return Point(
        _x(state[0], xs),
        _y(state[1], ys),
        f"{state[2]}: {fixed(state[1])} % after {state[0]:,.0f} training images",
    )
