"""Signals that end a run: a line that is being written is finished first, SIGTERM and SIGHUP end a
run as Ctrl-C does.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)  # of a scheduler at its time limit, of a terminal that closes
AGAIN = b"\nairepair: ending: the tables are being written (Ctrl-C once more ends at once, and writes none)\n"


@contextmanager
def finishing() -> Iterator[None]:
    """Ctrl-C within the block takes effect at its end, so that a file and its record are both
    written or neither.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not _main_thread() or not callable(handler):
        yield
        return
    heard: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if heard:
            handler(signal.SIGINT, heard[0])


def end_in_order(*, patient: bool = False) -> None:
    """Makes SIGTERM and SIGHUP end this process as Ctrl-C does, by KeyboardInterrupt. In the main
    thread.

    What the caller ignores stays ignored: SIGHUP under nohup, Ctrl-C in a shell's background.
    `patient`: the second Ctrl-C is answered and waits for the end, the third ends at once.
    """
    before = signal.getsignal(signal.SIGINT)
    if not _main_thread() or before is None:
        return
    asked, count = False, 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal count
        if before is signal.SIG_IGN and not asked:
            return
        count += 1
        if patient and count == 2:
            os.write(2, AGAIN)
        else:
            signal.default_int_handler(number, frame)

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.raise_signal(signal.SIGINT)  # whoever listens to Ctrl-C while a method runs hears this too

    signal.signal(signal.SIGINT, interrupt)
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
