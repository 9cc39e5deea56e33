"""What one call costs: synchronised seconds, peak memory, energy. Sampled in a thread; measured around
the repair alone.

CPU: the process's resident memory; its peak mark (VmHWM) is reset before the call through
/proc/self/clear_refs, and sampled where the system refuses that (ru_maxrss would keep the previous
cell's peak). If the call starts processes (an external tool), theirs is added, sampled. CUDA:
the allocator's peak, and through NVML the change of the device's used memory (in containers NVML
reports the host's process ids, so the process's own share is not to be had) and the energy counter.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from airepair.host.arithmetic.canary import arithmetic
from airepair.runner.nvml import Nvml

# Seconds between two samples: so many at the first interval, then the other.
FIRST, INTERVAL, THEN = 100, 0.1, 1.0
SAMPLED = "sampled resident memory", "sampled resident memory with the processes that it started"


@dataclass(frozen=True)
class Sample:
    """It is a sample at `seconds` after the start. CPU seconds and joules count from there on; what
    is not known is None.

    `gpu_bytes` and `gpu_percent` (of its time) are of the whole device.
    """

    seconds: float
    resident_bytes: int
    cpu_seconds: float
    gpu_bytes: int | None = None
    gpu_percent: int | None = None
    watts: float | None = None
    joules: float | None = None

    def as_row(self) -> dict[str, float]:
        """Returns a line of cost.jsonl: what is known."""
        return {k: v for k, v in self.__dict__.items() if v is not None}


class Sampler(threading.Thread):
    """Samples until `done` is set."""

    def __init__(self, nvml: Nvml | None) -> None:
        super().__init__(daemon=True)
        self.process, self.nvml, self.done = psutil.Process(), nvml, threading.Event()
        self.started, self.worked = time.perf_counter(), cpu_seconds()
        self.joules = nvml.joules() if nvml else None
        self.samples: list[Sample] = []
        self.resting, self.children = set(descendants(self.process.pid)), False

    def run(self) -> None:
        """Runs in the thread."""
        while not self.done.is_set():
            self.sample()
            self.done.wait(INTERVAL if len(self.samples) < FIRST else THEN)

    def sample(self) -> None:
        """Takes one now."""
        below = [pid for pid in descendants(self.process.pid) if pid not in self.resting]
        self.children = self.children or bool(below)
        found = Sample(
            seconds=round(time.perf_counter() - self.started, 3),
            resident_bytes=self.process.memory_info().rss + sum(map(resident, below)),
            cpu_seconds=round(cpu_seconds() - self.worked + sum(map(_worked, below)), 2),
            **self._gpu(),
        )
        self.samples.append(found)

    def _gpu(self) -> dict[str, Any]:
        if self.nvml is None:
            return {}
        now = self.nvml.joules()
        return {
            "gpu_bytes": self.nvml.used(),
            "gpu_percent": self.nvml.percent(),
            "watts": self.nvml.watts(),
            "joules": None if now is None or self.joules is None else round(now - self.joules, 3),
        }


@dataclass(frozen=True)
class Cost:
    """It is the cost of one call. `peak_bytes` is what the call added to the memory in use before
    it, by `memory_source`; `gpu_percent` and `watts` are means over the samples.

    `cpu_seconds` are of the process and the children that it waited for: beside other work on the
    same cores `seconds` grow, these hardly.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    memory_source: str
    device_peak_bytes: int | None = None
    nvml_peak_bytes: int | None = None
    joules: float | None = None
    gpu_percent: float | None = None
    watts: float | None = None
    samples: list[Sample] = field(default_factory=list)

    def as_record(self) -> dict[str, Any]:
        """Returns the numbers without the samples; what was not measured is left out."""
        return {k: v for k, v in self.__dict__.items() if k != "samples" and v is not None}


def mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean of those that are known; None if none is."""
    known = [v for v in values if v is not None]
    return round(sum(known) / len(known), 2) if known else None


def cpu_seconds() -> float:
    """Returns the CPU seconds, user and system, of this process and the children that it waited for."""
    return sum(os.times()[:4])


def descendants(pid: int) -> list[int]:
    """Returns the processes that `pid` started, and theirs; cheap if there are none.

    Empty if the kernel does not tell.
    """
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or process has ended since
            found += map(int, file.read_text().split())
    return found + [below for child in found for below in descendants(child)]


def resident(pid: int) -> int:
    """Returns resident bytes; 0 for one that has not yet become its own program, since all its
    memory is still its parent's.
    """
    try:
        process = psutil.Process(pid)
        parent = process.parent()
        if parent is not None and process.cmdline() == parent.cmdline():
            return 0
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _worked(pid: int) -> float:
    """CPU seconds of a process that still runs, and of those that it waited for."""
    with contextlib.suppress(psutil.Error):
        return float(sum(psutil.Process(pid).cpu_times()[:4]))
    return 0.0


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_mark() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


@cache
def warm_up() -> None:
    """Prepares the process once: its first optimiser makes torch import its compiler, which took
    longer than many a repair; the canary takes a second.

    The first of each class makes torch replace the class's `step` by a profiled one, for which no
    method is to blame.
    """
    arithmetic(torch.device("cpu"))
    for kind in _kinds_of(torch.optim.Optimizer):
        if not getattr(kind.step, "hooked", False):
            with contextlib.suppress(Exception):  # of another package, with arguments of its own
                kind([torch.nn.Parameter(torch.zeros(2, 2))], lr=0.1)


def _kinds_of(kind: Any) -> Iterator[Any]:
    for found in kind.__subclasses__():
        yield found
        yield from _kinds_of(found)


def measure(call: Callable[[], None], device: torch.device) -> Cost:
    """Runs `call` and says what it cost; an exception of the call passes through."""
    cuda = device.type == "cuda"
    nvml = Nvml.of(device) if cuda else None
    if cuda:
        torch.cuda.synchronize(device)
        gc.collect()  # what earlier cells held is given back: it is no memory of this call
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    used = nvml.used() if nvml else None
    energy = nvml.joules() if nvml else None
    marked, before = _reset_peak(), psutil.Process(os.getpid()).memory_info().rss
    allocated = torch.cuda.memory_allocated(device) if cuda else 0
    sampler = Sampler(nvml)
    sampler.start()
    start, worked = time.perf_counter(), cpu_seconds()
    try:
        call()
    finally:
        try:
            if cuda:
                torch.cuda.synchronize(device)
        finally:  # a device that has failed raises
            seconds, worked = time.perf_counter() - start, cpu_seconds() - worked
            sampler.done.set()
            sampler.join()
    sampler.sample()
    marked = marked and not sampler.children
    peak = _peak_mark() if marked else max(s.resident_bytes for s in sampler.samples)
    after = nvml.joules() if nvml else None
    return Cost(
        seconds=seconds,
        cpu_seconds=round(worked, 2),  # the clock's own resolution
        peak_bytes=torch.cuda.max_memory_allocated(device) - allocated if cuda else max(0, peak - before),
        memory_source="CUDA allocator" if cuda else "VmHWM" if marked else SAMPLED[sampler.children],
        device_peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
        nvml_peak_bytes=max(s.gpu_bytes or 0 for s in sampler.samples) - used if used is not None else None,
        joules=after - energy if after is not None and energy is not None else None,
        gpu_percent=mean([s.gpu_percent for s in sampler.samples]),
        watts=mean([s.watts for s in sampler.samples]),
        samples=sampler.samples,
    )
