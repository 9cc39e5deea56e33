"""Where the names of points stand in the picture: close to the point, over no other name and no point.

A name without room is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SIZE, LETTER = 11.0, 6.0  # height of a line and mean width of a letter, in units of the SVG
ANGLES = (0, 180, 315, 45, 225, 135, 270, 90)  # degrees, clockwise from the right
RADII = (8, 18, 30, 44)
NEAR = 8


@dataclass(frozen=True)
class Box:
    """It is a rectangle from its upper left corner to its lower right one."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Returns whether the two overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies wholly inside the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Wanted:
    """It is a point that wants its name beside it; the important ones are placed first."""

    x: float
    y: float
    text: str
    important: bool


@dataclass(frozen=True)
class Label:
    """It is a placed name; `leader` is the line from a point that is further away ("" for one beside it)."""

    x: float
    y: float
    anchor: str
    text: str
    leader: str


def place_labels(
    wanted: Sequence[Wanted], points: Sequence[tuple[float, float]], bars: Sequence[Box], frame: Box
) -> Iterator[Label]:
    """Yields the names that find room: off the bars if that is possible, else over them."""
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for one in sorted(wanted, key=lambda w: (not w.important, w.y)):
        for obstacles in ([*taken, *bars], taken):
            found = next(
                (f for f in _around(one) if f[1].within(frame) and not any(map(f[1].meets, obstacles))), None
            )
            if found:
                taken.append(found[1])
                yield found[0]
                break


def _around(one: Wanted) -> Iterator[tuple[Label, Box]]:
    """The places for a name, the nearest first."""
    width = LETTER * len(one.text)
    for radius in RADII:
        for angle in ANGLES:
            across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x, y = one.x + radius * across, one.y + radius * down
            anchor = "start" if across > 0.1 else "end" if across < -0.1 else "middle"
            left = x - {"start": 0.0, "end": width, "middle": width / 2}[anchor]
            leader = f"{one.x:.1f},{one.y:.1f} {x:.1f},{y:.1f}" if radius > NEAR else ""
            box = Box(left, y - SIZE / 2, left + width, y + SIZE / 2)
            yield Label(round(x, 1), round(y + 0.35 * SIZE, 1), anchor, one.text, leader), box
