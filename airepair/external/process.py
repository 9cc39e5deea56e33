"""A child process with limits: seconds, address space, one thread; its output goes to a log line by line.

Free of torch.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from airepair.errors import OutOfTime
from airepair.host.orphans import killed_with_parent


def run(
    words: Sequence[str],
    log: Path,
    *,
    seconds: float,
    memory_gb: float | None = None,
    cwd: Path,
    heard: Callable[[str], None],
) -> None:
    """Runs the command; `heard` gets every line of its output, which is in `log` by then.

    OutOfTime past `seconds`; MemoryError or RuntimeError with the last line for an exit code that
    is not 0. Whatever happens, also an error from `heard` (the harness's own limit), no process of
    the child's group stays behind.
    """
    end = time.monotonic() + seconds
    child = subprocess.Popen(
        list(words),
        cwd=cwd,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_limits(memory_gb),
    )
    last = ""
    try:
        lines = _lines(child)
        while (line := _next(lines, child, end, seconds)) is not None:
            _append(log, line)
            last = line.strip() or last
            heard(line)
        code = child.wait(timeout=max(0.1, end - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise OutOfTime(f"{Path(words[0]).name} did not end within its limit of {seconds:g} s") from error
    finally:
        _end(child)
    if code:
        kind = MemoryError if "MemoryError" in last or "can't allocate memory" in last else RuntimeError
        raise kind(
            f"the tool ended with {'signal' if code < 0 else 'exit code'} {abs(code)}: "
            f"{last or 'no output'}; log: {log.name}"
        )


def _next(
    lines: queue.Queue[str | None], child: subprocess.Popen[str], end: float, seconds: float
) -> str | None:
    """The next line, or None at the end: that of the output, or of a child whose own children keep
    the pipe open.
    """
    while True:
        ended, left = child.poll() is not None, end - time.monotonic()
        try:
            return lines.get(timeout=max(0.0, min(1.0, left)))
        except queue.Empty:
            if ended:
                return None
            if left <= 0:
                raise OutOfTime(f"the tool's limit of {seconds:g} s passed") from None


def _lines(child: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """The child's lines as they come, then None; read by a thread, so that a silent child cannot
    hold up the limit.
    """
    found: queue.Queue[str | None] = queue.Queue()

    def read(stream: IO[str]) -> None:
        for line in stream:
            found.put(line)
        found.put(None)

    assert child.stdout is not None
    threading.Thread(target=read, args=(child.stdout,), daemon=True).start()
    return found


def _append(log: Path, line: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(line)


def _environment() -> dict[str, str]:
    """The caller's environment without what would leak its packages into the child; one thread."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST")
    }
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1"
    )
    return (
        kept
        | threads
        | {
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",
        }
    )


def _limits(gigabytes: float | None) -> Callable[[], None]:
    """What the child does before the command begins: it ends with this process, and has that much
    address space.
    """
    orphan_no_more = killed_with_parent()

    def begin() -> None:
        orphan_no_more()
        if gigabytes:
            limit = int(gigabytes * 2**30)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return begin


def _end(child: subprocess.Popen[str]) -> None:
    """Ends the child and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
