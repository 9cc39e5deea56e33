"""What a person sees while a baseline trains: a line an epoch with the time that is left, and on a
terminal one that moves.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airepair.training.loop import Epoch


class Epochs:
    """`epoch` and `inside` are what a Watcher calls; the time is at most, since training may stop
    at an accuracy.
    """

    def __init__(self, epochs: int):
        self.epochs, self.start, self.first = epochs, time.monotonic(), 0
        self.moving = sys.stdout.isatty()

    def _left(self, done: float) -> str:
        passed = done - self.first
        seconds = (time.monotonic() - self.start) * (self.epochs - done) / passed if passed > 0 else 0.0
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02}:{int(seconds % 60):02}"

    def epoch(self, epoch: Epoch) -> None:
        """Prints a line that stays."""
        self.first = self.first or epoch.number - 1
        accuracy = f"  validation {epoch.accuracy:.4f}" if epoch.accuracy is not None else ""
        text = (
            f"epoch {epoch.number}/{self.epochs}  loss {epoch.loss:.4f}{accuracy}  left at most "
            f"{self._left(epoch.number)}"
        )
        print(("\r\033[K" if self.moving else "") + text, flush=True)

    def inside(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Prints a line that is overwritten; nothing if the output is no terminal."""
        self.first = self.first or epoch - 1
        if self.moving:
            left = self._left(epoch - 1 + done / total)
            print(
                f"\r\033[Kepoch {epoch}/{self.epochs}  {done:,} of {total:,} images  loss {loss:.4f}  "
                f"left at most {left}",
                end="",
                flush=True,
            )
