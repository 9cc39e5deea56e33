"""What a method reports while it runs: progress, intermediate models, notes; and the limits that
act there.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from airepair.errors import OutOfBudget, OutOfTime
from airepair.types import Limit, Meter, without_meter

# progress(phase, step, steps, loss), shown to the person who waits.
Progress = Callable[[str, int, int, float], None]

QUIET = 10.0  # seconds without a word from the method, after which its training images are shown
IMAGES = "repair, training images"  # the phase that they are shown as, of those that it declared


class Budget(Meter):
    """Counts as a Meter does, and refuses the batch that would pass `most` training images; `spent`
    hears it once. `counted` is called after each batch of training.
    """

    def __init__(
        self, most: int | None, spent: Callable[[str], None], counted: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__()
        self.most, self.spent, self.counted, self.refused = most, spent, counted, False

    def add(self, images: int, *, training: bool) -> None:
        """Counts `images` more; OutOfBudget, and nothing counted, where they do not fit."""
        if not training or self.most is None or self.backward + images <= self.most:
            super().add(images, training=training)
            if training:
                self.counted()
            return
        reason = f"the budget of {self.most:,} training images was used up ({self.backward:,} counted)"
        if not self.refused:
            self.refused = True
            self.spent(reason)
        raise OutOfBudget(reason)


class Events:
    """What a method reports while it runs, and the limits that act there."""

    def __init__(self, limit: Limit, show: Progress, hear: Callable[[str], None] = lambda _: None) -> None:
        self.limit, self.show, self.hear = limit, show, hear
        self.curve: list[dict[str, Any]] = []
        self.kept: list[tuple[str, int, float, nn.Module]] = []
        self.notes: list[str] = []
        self.meter: Meter = Budget(limit.images, self.note, self._counted)
        self.start = time.perf_counter()
        self.heard = time.monotonic()  # when whoever waits last saw something of the method
        self.sources: tuple[str, ...] = ()  # what the method learns from here
        self.column: int | None = None  # the largest budget of the column, for a control that trains to it
        self.declared: int | None = (
            None  # training images that it declared before; None if it refused the task
        )

    def spent(self) -> dict[str, int]:
        """Returns the images for the record; a method that used more than it declared is noted."""
        spent = {"backward": self.meter.backward, "forward": self.meter.forward}
        spent |= {"selection": self.meter.selection} if self.meter.selection else {}
        spent |= {"taken_back": self.meter.taken_back} if self.meter.taken_back else {}
        if self.declared is None:
            return spent
        if self.meter.backward > self.declared:
            self.note(
                f"it used {self.meter.backward:,} training images and had declared {self.declared:,} at most"
            )
        return spent | {"declared": self.declared}

    def note(self, text: object) -> None:
        """Adds what a method says to the notes, as text that a file can hold."""
        self.notes.append(text_of(text))
        self.hear(self.notes[-1])

    def progress(self, phase: str, step: int, steps: int, loss: float | None) -> None:
        """Files the point of the curve and shows it; OutOfTime past the limit. A loss that is no
        finite number is filed as none.
        """
        seconds = time.perf_counter() - self.start
        phase, step, steps, value = text_of(phase), _whole(step), _whole(steps), _finite(loss)
        point = {
            "phase": phase,
            "step": step,
            "steps": steps,
            "loss": value,
            "images": self.meter.backward,
            "seconds": round(seconds, 3),
        }
        self.curve.append(point)
        self.heard = time.monotonic()
        self.show(phase, step, steps, math.nan if value is None else value)
        if self.limit.seconds is not None and seconds > self.limit.seconds:
            raise OutOfTime(
                f"the limit of {self.limit.seconds:g} s passed in {phase}, step {step} of {steps}"
            )

    def _counted(self) -> None:
        """Shows how far the method is, if it reports nothing for a while: an epoch may take an hour.
        That is no point of its curve, since it depends on the clock.
        """
        if self.declared and time.monotonic() - self.heard > QUIET:
            self.heard = time.monotonic()
            self.show(IMAGES, min(self.meter.backward, self.declared), self.declared, math.nan)

    def keep(self, phase: str, module: nn.Module) -> None:
        """Copies an intermediate model; it is examined after the clock has stopped."""
        self.kept.append(
            (
                text_of(phase),
                self.meter.backward,
                time.perf_counter() - self.start,
                without_meter(copy.deepcopy(module)),
            )
        )


def text_of(value: object) -> str:
    """Returns a method's words: any value, and no half of a surrogate pair, which no file can hold."""
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def _finite(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _whole(value: Any) -> int:
    number = _finite(value)
    return 0 if number is None else int(number)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """OutOfTime inside the block once `seconds` have passed, also in code that reports nothing
    (main thread of a POSIX process only).
    """
    if (
        seconds is None
        or threading.current_thread() is not threading.main_thread()
        or not hasattr(signal, "setitimer")
    ):
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
