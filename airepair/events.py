"""What a method reports while it runs: progress, intermediate models, notes; and the limits that act there."""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from airepair.errors import OutOfBudget, OutOfTime
from airepair.types import Limit, Meter

# progress(phase, step, steps, loss), shown to the person who waits.
Progress = Callable[[str, int, int, float], None]


class Budget(Meter):
    """Counts as a Meter does, and refuses the batch that would pass `most` training images; `spent` hears it once."""

    def __init__(self, most: int | None, spent: Callable[[str], None]) -> None:
        super().__init__()
        self.most, self.spent, self.refused = most, spent, False

    def add(self, images: int, *, training: bool) -> None:
        """Counts `images` more; OutOfBudget, and nothing counted, where they do not fit."""
        if not training or self.most is None or self.backward + images <= self.most:
            super().add(images, training=training)
            return
        reason = f"the budget of {self.most:,} training images was used up ({self.backward:,} counted)"
        if not self.refused:
            self.refused = True
            self.spent(reason)
        raise OutOfBudget(reason)


class Events:
    """What a method reports while it runs, and the limits that act there."""

    def __init__(self, limit: Limit, show: Progress) -> None:
        self.limit, self.show = limit, show
        self.curve: list[dict[str, Any]] = []
        self.kept: list[tuple[str, int, float, nn.Module]] = []
        self.notes: list[str] = []
        self.meter: Meter = Budget(limit.images, self.notes.append)
        self.start = time.perf_counter()

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """Files the point of the curve and shows it; OutOfTime past the limit."""
        seconds = time.perf_counter() - self.start
        point = {"phase": phase, "step": step, "steps": steps, "loss": loss, "images": self.meter.backward, "seconds": round(seconds, 3)}
        self.curve.append(point)
        self.show(phase, step, steps, loss)
        if self.limit.seconds is not None and seconds > self.limit.seconds:
            raise OutOfTime(f"the limit of {self.limit.seconds:g} s passed in {phase}, step {step} of {steps}")

    def keep(self, phase: str, module: nn.Module) -> None:
        """Copies an intermediate model; it is examined after the clock has stopped."""
        self.kept.append((phase, self.meter.backward, time.perf_counter() - self.start, without_meter(copy.deepcopy(module))))


def without_meter(module: nn.Module) -> nn.Module:
    """The module with the harness's counting hooks taken off (in place)."""
    for part in module.modules():
        for key in [k for k, hook in part._forward_pre_hooks.items() if isinstance(hook, Meter)]:
            del part._forward_pre_hooks[key]
    return module


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """OutOfTime inside the block once `seconds` have passed, also in code that reports nothing (main thread of a POSIX process only)."""
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise OutOfTime(f"the limit of {seconds:g} s passed")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
