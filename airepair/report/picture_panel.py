"""The geometry of one panel of the picture: a strip of slots for methods without training images, a
logarithmic axis for the others.

Units are those of the SVG; x grows to the right, y downwards. What lies below the axis is drawn at
its lower edge, with its number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airepair.report.picture_labels import Box, Label, Wanted, place_labels
from airepair.report.table import fixed

WIDTH, HEIGHT = 440, 370
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 36, 96
SLOT = 15
State = tuple[float, float]  # mean training images, mean net change
ROLES = {
    "retraining": "retraining",
    "direct weight modification": "direct",
    "architecture extension": "extension",
    "control": "control",
}


@dataclass(frozen=True)
class Point:
    """It is a method in one column: mean training images and mean net change over `n` seeds, in
    points of test accuracy; its 95 % interval.
    """

    method: str
    title: str
    category: str
    images: float
    change: float
    low: float | None
    high: float | None
    n: int
    wrecks: bool = False
    front: bool = False

    @property
    def text(self) -> str:
        """Returns the point in words."""
        bounds = (
            "no interval"
            if self.low is None or self.high is None
            else f"{fixed(self.low, 2, True)} to {fixed(self.high, 2, True)}"
        )
        return (
            f"{self.title}: {fixed(self.change, 2, True)} points ({bounds}), "
            f"{self.images:,.0f} training images, n = {self.n}"
        )


@dataclass(frozen=True)
class Mark:
    """It is a drawn point: its place, the ends of its interval (None without one), what it is;
    `below`: it lies below the axis.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    role: str
    front: bool
    below: bool
    text: str


@dataclass(frozen=True)
class Panel:
    """It holds everything that the template draws.

    Ticks are (position, text); `slots` (position, text) stand below the strip, which ends at
    `strip`.
    """

    title: str
    summary: str
    marks: tuple[Mark, ...]
    labels: tuple[Label, ...]
    slots: tuple[tuple[float, str], ...]
    strip: float
    xticks: tuple[tuple[float, str], ...]
    yticks: tuple[tuple[float, str], ...]
    track: str
    front: str
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def panel(title: str, points: Sequence[Point], track: Sequence[State], best: Sequence[State]) -> Panel:
    """The panel of these points (at least one) and of finetune's states, `best` those of them that
    are on the front.
    """
    free = [p for p in points if p.images == 0]
    strip = LEFT + SLOT * len(free) + 8 * bool(free)
    trained = [p.images for p in points if p.images > 0]
    ends, ticks = _log_axis(trained or [1.0])
    low, high = _range(points)
    y_of = _linear(low, high, HEIGHT - BOTTOM, TOP)
    x_of = _linear(math.log10(ends[0]), math.log10(ends[1]), strip + 10, WIDTH - RIGHT - 6)

    def x(point: Point) -> float:
        return (
            LEFT + SLOT * (free.index(point) + 0.5) + 4
            if point.images == 0
            else x_of(math.log10(point.images))
        )

    marks = tuple(_mark(p, x(p), y_of, low) for p in points)
    kept = [(x_of(math.log10(i)), y_of(max(c, low))) for i, c in track if i >= ends[0]]
    front = sorted(
        [(m.x, m.y) for m in marks if m.front]
        + [(x_of(math.log10(i)), y_of(c)) for i, c in best if i >= ends[0]]
    )
    wanted = [
        Wanted(m.x, m.y, _name(p, m), p.front) for p, m in zip(points, marks, strict=True) if p.images > 0
    ]
    bars = [Box(m.x - 1, m.high, m.x + 1, m.low) for m in marks if m.low is not None and m.high is not None]
    frame = Box(strip if free else LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    return Panel(
        title,
        f"{title}: " + "; ".join(p.text for p in points),
        marks,
        tuple(place_labels(wanted, [(m.x, m.y) for m in marks], bars, frame)),
        tuple((m.x, _name(p, m)) for p, m in zip(points, marks, strict=True) if p.images == 0),
        strip if trained else WIDTH - RIGHT,
        tuple((round(x_of(math.log10(t)), 1), f"{t:,}") for t in ticks) if trained else (),
        tuple((round(y_of(t), 1), f"{t:+g}" if t else "0") for t in _steps(low, high)),
        " ".join(f"{a:.1f},{b:.1f}" for a, b in kept),
        _stairs(front, WIDTH - RIGHT),
    )


def _stairs(front: Sequence[tuple[float, float]], right: float) -> str:
    """The front as a path: what is reached stays reached until more images reach more."""
    if not front:
        return ""
    return (
        f"M{front[0][0]:.1f} {front[0][1]:.1f}"
        + "".join(f"H{x:.1f}V{y:.1f}" for x, y in front[1:])
        + f"H{right}"
    )


def _name(point: Point, mark: Mark) -> str:
    """The title, with the number if the axis does not show it."""
    return f"{point.title} {fixed(point.change, 1, True)}" if mark.below else point.title


def _mark(point: Point, x: float, y_of: Callable[[float], float], low: float) -> Mark:
    below = point.change < low
    ends = [None if b is None or below else round(y_of(max(b, low)), 1) for b in (point.low, point.high)]
    role = ROLES.get(point.category, "other")
    return Mark(
        round(x, 1),
        round(y_of(max(point.change, low)), 1),
        ends[0],
        ends[1],
        role,
        point.front,
        below,
        point.text,
    )


def _range(points: Sequence[Point]) -> tuple[float, float]:
    """From the lowest interval to the highest, but no further below zero than above it: one wrecked
    model must not flatten the others.
    """
    highest = max(0.1, *(p.change if p.high is None else p.high for p in points))
    lowest = min(p.change if p.low is None else p.low for p in points)
    return max(min(lowest, -0.1 * highest), -highest) * 1.04, highest * 1.06


def _log_axis(images: Sequence[float]) -> tuple[tuple[float, float], list[int]]:
    """The ends of the axis, a little beyond the smallest and the largest number, and two to five
    round numbers in it.
    """
    low, high = min(images) / 1.5, max(images) * 1.5
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10**k for k in decades if k >= 0 for d in digits if low <= d * 10**k <= high]
        if len(ticks) <= 4:
            break
    return (low, high), ticks


def _steps(low: float, high: float) -> list[float]:
    """Round numbers within low..high, zero among them."""
    raw = (high - low) / 6
    step = 10 ** math.floor(math.log10(raw))
    step *= next(k for k in (1, 2, 5, 10) if raw <= step * k)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _linear(first: float, last: float, start: float, stop: float) -> Callable[[float], float]:
    """The line that takes first..last to start..stop."""
    return lambda value: start + (stop - start) * (value - first) / (last - first)
