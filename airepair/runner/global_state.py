"""What a method may change for every later cell of its process, put back after it.

Scalars of torch, Python and the process; functions and classes that were replaced (a patched loss
changes the numbers of all that follow).
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from airepair.errors import one_line

HOOKS = [name for name in vars(torch.nn.modules.module) if name.startswith("_global_") and "hooks" in name]
WATCHED = (
    "torch",
    "torch.nn",
    "torch.nn.functional",
    "torch.nn.init",
    "torch.autograd",
    "torch.func",
    "torch.linalg",
    "numpy",
    "random",
    "math",
)
CLASSES = ("torch.nn.modules", "torch.optim", "airepair")


@dataclass(frozen=True)
class Setting:
    """It is one piece of state: how it is read and how it is put back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _flushes() -> bool:
    """Whether denormal numbers become 0: torch has no getter."""
    return float(torch.full((16,), 1e-40).mul(1.0)[0]) == 0.0


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _signals() -> dict[int, Any]:
    return {s: signal.getsignal(s) for s in signal.valid_signals() if signal.getsignal(s) is not None}


def _handle(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _surroundings(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _stay(mode: bool) -> None:
    torch._C._set_grad_enabled(mode)


SETTINGS = (
    Setting("inference mode", torch.is_inference_mode_enabled, lambda _: None),
    Setting("gradient mode", torch.is_grad_enabled, _stay),
    Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("default device", torch.get_default_device, torch.set_default_device),
    Setting("flushing of denormal numbers", _flushes, torch.set_flush_denormal),
    Setting("number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting(
        "deterministic algorithms",
        _deterministic,
        lambda v: torch.use_deterministic_algorithms(v[0], warn_only=v[1]),
    ),
    Setting(
        "precision of float32 products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    Setting("oneDNN", lambda: torch.backends.mkldnn.enabled, lambda v: torch._C._set_mkldnn_enabled(v)),
    Setting(
        "cuDNN", lambda: torch.backends.cudnn.enabled, lambda v: setattr(torch.backends.cudnn, "enabled", v)
    ),
    Setting(
        "cuDNN benchmark",
        lambda: torch.backends.cudnn.benchmark,
        lambda v: setattr(torch.backends.cudnn, "benchmark", v),
    ),
    Setting(
        "cuDNN determinism",
        lambda: torch.backends.cudnn.deterministic,
        lambda v: setattr(torch.backends.cudnn, "deterministic", v),
    ),
    Setting(
        "autocast on the CPU",
        lambda: torch.is_autocast_enabled("cpu"),
        lambda v: torch.set_autocast_enabled("cpu", v),
    ),
    Setting(
        "autocast on CUDA",
        lambda: torch.is_autocast_enabled("cuda"),
        lambda v: torch.set_autocast_enabled("cuda", v),
    ),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.anomaly_mode.set_detect_anomaly),
    Setting("working directory", _folder, os.chdir),
    Setting("environment variables", lambda: dict(os.environ), _surroundings),
    Setting("signal handlers", _signals, _handle),
    Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("module search path", lambda: list(sys.path), lambda v: sys.path.__setitem__(slice(None), v)),
    Setting("standard output", lambda: (sys.stdout, sys.stderr), lambda v: _streams(*v)),
    Setting("garbage collection", gc.isenabled, lambda v: gc.enable() if v else gc.disable()),
    Setting(
        "warning filters",
        lambda: list(warnings.filters),
        lambda v: warnings.filters.__setitem__(slice(None), v),  # type: ignore[index]
    ),
    Setting(
        "hooks on all modules",
        lambda: {name: dict(getattr(torch.nn.modules.module, name)) for name in HOOKS},
        lambda v: _refill_hooks(v),
    ),
)
# Drawing from these is no offence (torch's own generator is put back by fork_rng): they are put
# back without a word.
GENERATORS = (
    Setting("random", random.getstate, random.setstate),
    Setting("numpy.random", np.random.get_state, np.random.set_state),
)
QUIET = ("warning filters", "module search path")  # what importing a library may add to


def _refill_hooks(before: dict[str, dict[Any, Any]]) -> None:
    for name, hooks in before.items():
        found = getattr(torch.nn.modules.module, name)
        found.clear()
        found.update(hooks)


def _streams(out: Any, error: Any) -> None:
    sys.stdout, sys.stderr = out, error


class GlobalState:
    """It holds a snapshot of this process's state, taken before a cell."""

    def __init__(self) -> None:
        self.values = [(s, s.read()) for s in SETTINGS]
        self.generators = [(s, s.read()) for s in GENERATORS]
        self.names = [(place, dict(vars(place))) for place in _places()]

    def put_back(self) -> tuple[list[str], list[str]]:
        """Puts everything back: the names of what had been changed, and of what could not be put back."""
        found, lost = [], []
        for setting, value in self.values:
            if _equal(setting.read(), value):
                continue
            with contextlib.suppress(Exception):  # judged by what is read afterwards
                setting.write(value)
            if setting.name not in QUIET:
                found.append(setting.name)
            if not _equal(setting.read(), value):
                lost.append(setting.name)
        for setting, value in self.generators:
            setting.write(value)
        for place, names in self.names:
            found += _unpatched(place, names)
        return found, lost


def lost_context(device: torch.device) -> tuple[str, ...]:
    """Returns what of this process is lost on CUDA: after some errors in a kernel (an assertion, an
    illegal address) every later call for the device raises them again. Nothing on a device that answers.
    """
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError as error:
        return (f"CUDA context ({one_line(error)})",)
    return ()


def _equal(now: Any, before: Any) -> bool:
    return bool(now == before)


def _places() -> Iterator[Any]:
    """The modules and classes whose functions decide later numbers."""
    for name, module in list(sys.modules.items()):
        if name in WATCHED or name.partition(".")[0] == "airepair":
            yield module
        if name.startswith(CLASSES):
            yield from (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == name)
    yield torch.Tensor


def _unpatched(place: Any, names: dict[str, Any]) -> Iterator[str]:
    """Gives a module or class the functions back that it had; the names of those that were others."""
    now = vars(place)
    label = place.__name__ if isinstance(place, ModuleType) else f"{place.__module__}.{place.__qualname__}"
    for name in [
        k for k, old in names.items() if now.get(k) is not old and (callable(old) or callable(now.get(k)))
    ]:
        setattr(place, name, names[name])
        yield f"{label}.{name}"
    if isinstance(place, type):
        for name in [k for k, new in now.items() if k not in names and isinstance(new, FunctionType)]:
            delattr(place, name)
            yield f"{label}.{name}"
