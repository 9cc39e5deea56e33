"""pytest in a child that is forked from this process, in which the heavy libraries are loaded
already: what a mutant costs is its own tests.

Nothing of the project itself may be loaded in the child before pytest runs, since the copy of the
checkout that holds the mutant has its own.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from airepair.host.arithmetic.setup import set_up

HEAVY = (
    "torch",
    "torch._dynamo",  # what the first optimiser imports
    "torch.func",
    "torch.utils.flop_counter",
    "scipy.linalg",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.signal",
    "scipy.stats",
    "sklearn.datasets",
    "mpmath",
    "hypothesis",
    "pytest_benchmark.plugin",
    "msgspec",
    "psutil",
    "jinja2",
    "rich.console",
    "safetensors.torch",
)
OWN = ("airepair", "benchmarks", "fixtures", "reports", "tests", "conftest")
WAIT = 10  # times the CPU seconds allowed: a child that sleeps longer hangs
QUIET = ("-q", "--no-header", "--tb=no", "-p", "no:xdist", "-p", "no:cacheprovider")


def preload() -> None:
    """Loads what every child would load: in portable arithmetic, as the tests do. No gradients are
    computed here, because autograd does not survive a fork after its first backward pass.
    """
    set_up(portable=True)
    for name in HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)


def tested(tree: Path, cache: Path, words: Sequence[str], seconds: int) -> tuple[int, str]:
    """pytest's exit code, or minus the signal that ended it, and what it printed.

    The child may use so many CPU seconds, and ten times as many of the clock.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    log = cache.with_suffix(".log")
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _child(tree, cache, log, words, seconds)
    deadline = time.monotonic() + WAIT * seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            break
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.02)
    with suppress(ProcessLookupError):  # what its tests have started
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8", errors="replace")


def _child(tree: Path, cache: Path, log: Path, words: Sequence[str], seconds: int) -> None:
    """Never returns."""
    code = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115 (until the process ends)
        os.chdir(tree)
        sys.dont_write_bytecode = False  # the next child reads what this one compiled
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ |= {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "AIREPAIR_CACHE": str(cache)}
        sys.path[:] = [str(tree), *(p for p in sys.path if p and Path(p) != _root())]
        for name in [n for n in sys.modules if n.partition(".")[0] in OWN]:
            del sys.modules[name]
        importlib.invalidate_caches()
        import pytest

        code = int(pytest.main([*QUIET, *words]))
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _root() -> Path:
    return Path(__file__).parents[2]
