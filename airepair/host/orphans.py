"""No process outlives the one that started it: what a killed run leaves behind would go on writing
into its folder.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl({option}, {signal}, 0, 0, 0); "
    "os.getppid() == {parent} or os._exit(1); os.execvp(sys.argv[1], sys.argv[1:])"
)
EVERY = 0.5  # seconds between two looks at the parent, where the kernel does not tell


def end_with_parent(parent: int) -> None:
    """From now on this process ends when `parent`, its process id, ends, however that happens.

    Linux sends SIGKILL, which native code and a stopped process obey too. Elsewhere a thread looks
    every half second.
    """
    if sys.platform == "linux":
        killed_with_parent()()
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def killed_with_parent() -> Callable[[], None]:
    """What a process calls to get SIGKILL when its parent ends; made before a fork, to be called
    between fork and exec.

    Does nothing outside Linux.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ending_with_parent(command: Sequence[str]) -> list[str]:
    """Returns the command, so that its process ends when this one ends, even before it has loaded
    anything: a short Python without packages asks the kernel, then becomes the command, which keeps
    that.

    The command itself outside Linux.
    """
    if sys.platform != "linux":
        return list(command)
    start = START.format(option=PR_SET_PDEATHSIG, signal=int(signal.SIGKILL), parent=os.getpid())
    return [sys.executable, "-I", "-S", "-c", start, *command]


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY)
    os._exit(1)
