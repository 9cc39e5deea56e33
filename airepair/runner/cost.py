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
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from airepair.arithmetic.canary import arithmetic

INTERVAL = 0.1  # seconds between two samples
SAMPLED = "sampled resident memory", "sampled resident memory with the processes that it started"


@dataclass(frozen=True)
class Cost:
    """Of one call. `peak_bytes` is what the call added to the memory in use before it, by
    `memory_source`; `samples` are (seconds, bytes).

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
    samples: list[tuple[float, int]] = field(default_factory=list)

    def as_record(self) -> dict[str, Any]:
        """The numbers without the samples; what was not measured is left out."""
        return {k: v for k, v in self.__dict__.items() if k != "samples" and v is not None}


class _Sampler(threading.Thread):
    """Samples resident memory (and NVML's used memory) until told to stop."""

    def __init__(self, nvml: Nvml | None) -> None:
        super().__init__(daemon=True)
        self.process, self.nvml, self.done = psutil.Process(), nvml, threading.Event()
        self.started = time.perf_counter()
        self.samples: list[tuple[float, int]] = []
        self.used: list[int] = []
        self.resting, self.children = set(_descendants(self.process.pid)), False

    def run(self) -> None:
        while not self.done.is_set():
            self.sample()
            self.done.wait(INTERVAL)

    def sample(self) -> None:
        below = [pid for pid in _descendants(self.process.pid) if pid not in self.resting]
        self.children = self.children or bool(below)
        resident = self.process.memory_info().rss + sum(map(_resident, below))
        self.samples.append((round(time.perf_counter() - self.started, 3), resident))
        if self.nvml:
            self.used.append(self.nvml.used())


class Nvml:
    """The NVML view of one CUDA device, found by its UUID (NVML counts in PCI order, CUDA need not)."""

    def __init__(self, device: torch.device) -> None:
        import pynvml

        pynvml.nvmlInit()
        self.nvml = pynvml
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        self.handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")

    @classmethod
    def of(cls, device: torch.device) -> Nvml | None:
        """The view, or None without CUDA or without NVML."""
        if device.type != "cuda":
            return None
        try:
            return cls(device)
        except Exception:
            return None

    def used(self) -> int:
        """Bytes in use on the whole device."""
        return int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used)

    def millijoules(self) -> int | None:
        """The energy counter, where the device has one."""
        try:
            return int(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))
        except self.nvml.NVMLError:
            return None


def _descendants(pid: int) -> list[int]:
    """The processes that `pid` started, and theirs; cheap if there are none.

    Empty where the kernel does not tell.
    """
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or process has ended since
            found += map(int, file.read_text().split())
    return found + [below for child in found for below in _descendants(child)]


def _resident(pid: int) -> int:
    """Resident bytes; 0 for one that has not yet become its own program, since all its memory is
    still its parent's.
    """
    try:
        process = psutil.Process(pid)
        parent = process.parent()
        if parent is not None and process.cmdline() == parent.cmdline():
            return 0
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


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


def _cpu_seconds() -> float:
    return sum(os.times()[:4])  # user and system, own and of children


@cache
def warm_up() -> None:
    """Once a process: its first optimiser makes torch import its compiler, which took longer than many
    a repair; the canary takes a second.

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
    nvml, cuda = Nvml.of(device), device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    used = nvml.used() if nvml else 0
    energy = nvml.millijoules() if nvml else None
    marked, resident = _reset_peak(), psutil.Process(os.getpid()).memory_info().rss
    allocated = torch.cuda.memory_allocated(device) if cuda else 0
    sampler = _Sampler(nvml)
    sampler.start()
    start, worked = time.perf_counter(), _cpu_seconds()
    try:
        call()
    finally:
        if cuda:
            torch.cuda.synchronize(device)
        seconds, worked = time.perf_counter() - start, _cpu_seconds() - worked
        sampler.done.set()
        sampler.join()
    sampler.sample()
    marked = marked and not sampler.children
    peak = _peak_mark() if marked else max(b for _, b in sampler.samples)
    after = nvml.millijoules() if nvml else None
    return Cost(
        seconds=seconds,
        cpu_seconds=round(worked, 2),  # the clock's own resolution
        peak_bytes=torch.cuda.max_memory_allocated(device) - allocated if cuda else max(0, peak - resident),
        memory_source="CUDA allocator" if cuda else "VmHWM" if marked else SAMPLED[sampler.children],
        device_peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
        nvml_peak_bytes=max(sampler.used) - used if nvml else None,
        joules=(after - energy) / 1000 if after is not None and energy is not None else None,
        samples=sampler.samples,
    )
