"""The process of one cell: it reads what it is to do from its channel, runs the cell as it runs
anywhere, and sends what comes of it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from airepair.engines.channel import Channel
from airepair.engines.local import failure_of
from airepair.host.orphans import end_with_parent
from airepair.runner.cell import CellResult, CellSpec
from airepair.runner.cost import warm_up
from airepair.runner.device import device_of
from airepair.runner.run import run_cell

EVERY = 0.2  # seconds between two reports of progress


def load() -> None:
    """Does in the fork server what every cell would do first. On one thread, since threads do not
    survive a fork; nothing on a machine with CUDA, where a backward pass starts some.
    """
    torch.set_num_threads(1)
    if not torch.cuda.is_available():
        warm_up()


def main(server: int, handle: int, output: int) -> NoReturn:
    """Runs the cell and ends this process."""
    os.setsid()  # a process group of its own, so that all of it can be ended
    end_with_parent(server)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _print_to(output)
    channel = Channel(socket.socket(fileno=handle))
    (job,) = channel.receive()
    channel.send(*_ended(job, channel))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that a method left behind would hold the interpreter


def _ended(job: Mapping[str, Any], channel: Channel) -> tuple[str, Any]:
    """The cell's result or failure as a message."""

    def call(repair: Callable[[], None]) -> None:
        channel.send("repair", True)
        try:
            repair()
        finally:
            channel.send("repair", False)

    try:
        spec = CellSpec.from_json(job["spec"])
        device = device_of(spec.device)
        if job["gpu_memory"] is not None and device.type == "cuda":
            _limit_gpu(device, job["gpu_memory"])
        result = run_cell(spec, cache=Path(job["cache"]), call=call, events=_Told(channel))
    except Exception as error:
        failure = failure_of(error)
        return "failure", [failure.status, failure.reason]
    return "result", _packed(result)


def _packed(result: CellResult) -> dict[str, Any]:
    return {
        "record": result.record.to_json(),
        "files": dict(result.files),
        "models": dict(result.models),
        "lines": list(result.lines),
    }


def _limit_gpu(device: torch.device, most: int) -> None:
    """The allocator refuses more: the cell ends as out of memory, whatever else is free."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), device)


def _print_to(output: int) -> None:
    """Standard output and error, of native code too; a fault's traceback goes there as well."""
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)


class _Told:
    """Reports the scores before, notes, and the progress a few times per second."""

    def __init__(self, channel: Channel) -> None:
        self.channel, self.last = channel, 0.0

    def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
        """At most one report per EVERY seconds."""
        if time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            self.channel.send("progress", [phase, step, steps, loss])

    def log(self, text: str) -> None:
        """Notes are in the record too; whoever watches hears them at once."""
        self.channel.send("log", text)

    def before(self, scores: Mapping[str, float], missing: Mapping[str, str]) -> None:
        """All there is of a cell whose process dies."""
        self.channel.send("before", [dict(scores), dict(missing)])
