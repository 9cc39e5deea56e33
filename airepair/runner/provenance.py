"""Where a number comes from: versions, device, threads, commit."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import airepair
from airepair.arithmetic.canary import arithmetic

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pytest",
    "pytest-benchmark",
    "pytest-xdist",
)


@cache
def commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that this package lies in and whether it has changes; (None, None)
    outside a checkout.
    """
    root = Path(airepair.__file__).parents[1]
    if not (root / ".git").exists():
        return None, None
    try:
        head, status = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(status)


@cache
def versions() -> dict[str, str]:
    """Versions of this package, Python and what the numbers depend on."""
    found = {"airepair": airepair.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The device as a claim line names it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({processor()})"


def provenance(device: torch.device, profile: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """What every record carries."""
    head, dirty = commit()
    return {
        "benchmark_version": airepair.BENCHMARK_VERSION,
        "commit": head,
        "dirty": dirty,
        "versions": versions(),
        "device": device_name(device),
        "device_kind": device.type,
        "arithmetic": arithmetic(device),
        # the same processor name may stand for AVX2 and AVX512: other last bits
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "profile": profile,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "n": dict(counts),
    }
