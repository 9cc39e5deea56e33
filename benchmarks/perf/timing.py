"""Two arms that do the same work, run in turn; what is kept of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

SHORT = 0.05  # seconds


@dataclass(frozen=True)
class Measure:
    """`ratios`: seconds of `slow` over seconds of `fast`, a pair each; `wanted`: the smallest (or,
    with `most`, largest) median that is asked for.

    `amount`: images (or evaluations) that an arm goes through; `facts`: what else was found
    ("images_per_second", "share_of_peak").
    """

    group: str
    name: str
    slow: str
    fast: str
    ratios: tuple[float, ...]
    seconds: tuple[float, ...]
    amount: int
    wanted: float | None = None
    most: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """Whether the median is what is wanted; None if nothing is."""
        if self.wanted is None:
            return None
        return self.median <= self.wanted if self.most else self.median >= self.wanted

    def as_json(self) -> dict[str, Any]:
        """Plain values, ratios and seconds as minimum, median, maximum."""
        return {
            "group": self.group,
            "name": self.name,
            "ratio": f"seconds of {self.slow} / seconds of {self.fast}",
            "repeats": len(self.ratios),
            "min": round(min(self.ratios), 4),
            "median": round(self.median, 4),
            "max": round(max(self.ratios), 4),
            "wanted": None
            if self.wanted is None
            else f"{'at most' if self.most else 'at least'} {self.wanted:g}",
            "reached": self.reached,
            "seconds_of_fast": {
                "min": min(self.seconds),
                "median": statistics.median(self.seconds),
                "max": max(self.seconds),
            },
            "amount": self.amount,
            **self.facts,
        }


def compared(
    slow: Callable[[], object], fast: Callable[[], object], repeats: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Ratios slow / fast and the seconds of fast: each once to warm up, then `repeats` pairs, the
    order changing from pair to pair.

    An arm that is over in less than SHORT is called again and again for as long; its seconds are
    those of one call.
    """
    times = []
    for call in (slow, fast):
        seconds(call, device)
        times.append(max(1, min(1000, round(SHORT / seconds(call, device)))))
    ratios, taken = [], []
    for k in range(repeats):
        if k % 2:
            b, a = seconds(fast, device, times[1]), seconds(slow, device, times[0])
        else:
            a, b = seconds(slow, device, times[0]), seconds(fast, device, times[1])
        ratios.append(a / b)
        taken.append(round(b, 6))
    return ratios, taken


def seconds(call: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Of one call out of `times`, the device's queue empty before and after."""
    now = clock(device)
    wait(device)
    start = now()
    for _ in range(times):
        call()
    wait(device)
    return (now() - start) / times


def clock(device: torch.device) -> Callable[[], float]:
    """On one CPU thread the process's own CPU seconds, which other processes do not stretch; else
    those of the wall.
    """
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
