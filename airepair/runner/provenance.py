"""Where a number comes from: versions, device, threads, commit; and the fingerprint of a cell, which
can be asked before the repair, and which its record holds.
"""

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
from airepair.host.arithmetic.canary import arithmetic
from airepair.host.arithmetic.precision import arithmetic_of
from airepair.records.fingerprint import CONDITIONS, of_cell, reading
from airepair.runner.cell import CellSpec
from airepair.runner.events import Events
from airepair.runner.loading import Loaded
from airepair.runner.prepared import unexamined
from airepair.runner.repair import task_of
from airepair.subjects.user_model.load import user_inputs
from airepair.types import Limit, Method

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
    """Returns the commit of the checkout that this package lies in and whether it has changes;
    (None, None) outside a checkout.

    It is read once a process: call it when the code is loaded, not when a cell has ended.
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
    """Returns the versions of this package, Python and what the numbers depend on."""
    found = {"airepair": airepair.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def processor() -> str:
    """Returns the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Returns the device as a claim line names it."""
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


def fingerprint_now(spec: CellSpec, loaded: Loaded | None, method: Method) -> dict[str, Any]:
    """Returns the fingerprint that the cell's record would have if it ran now.

    The largest budget of its column is asked for if the method trains to it.
    """
    if loaded is None or not getattr(method, "matches_column", False):
        return fingerprint(spec, loaded, method, None)
    events = Events(Limit(), lambda *_: None)
    task_of(unexamined(spec, loaded, method), events)
    return fingerprint(spec, loaded, method, events.column)


def fingerprint(
    spec: CellSpec, loaded: Loaded | None, method: Method, column: int | None, source: str | None = None
) -> dict[str, Any]:
    """What must be equal for two runs of the cell to be one experiment. Images that the user named
    (`failing`, `keep`) are data too.

    `column`: the budget to which a control trained, None for other methods; `source`: the digest of the
    method's source when it was loaded, None: as it is now. Without the subject (it
    would have to be trained) its data and weights are unknown, and so is the budget of its column.
    """
    facts = provenance(torch.device(spec.device), spec.profile, {})
    conditions = {name: facts[name] for name in CONDITIONS if name in facts} | {
        "image_limit": spec.images or "none",
        "device_kind": facts["device_kind"],
        "pgd": spec.pgd,
        "audit": spec.audit,
    }
    conditions |= {"column_budget": column} if column is not None else {}
    if loaded is None:
        conditions.pop("arithmetic", None)  # its network may have one of its own
        return of_cell(method, given=spec.options, conditions=conditions, source=source)
    conditions |= arithmetic_of(loaded.subject.module)
    file = reading(loaded.subject.origin)
    conditions |= {"file": file} if file is not None else {}
    named = (
        user_inputs(loaded.subject, spec.failing, spec.keep) if spec.failing or spec.keep else (None, None)
    )
    given = {
        name: split.digest()
        for name, split in zip(("failing", "keep"), named, strict=True)
        if split is not None
    }
    data = {**loaded.subject.dataset.digests, **given}
    return of_cell(
        method,
        given=spec.options,
        conditions=conditions,
        data=data,
        weights=loaded.digests["the subject"],
        source=source,
    )
