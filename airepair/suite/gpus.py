"""The GPUs of a run: which it may use, and what else runs on them.

NVML is asked, so that torch stays unloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from airepair.errors import UsageError

BUSY_SHARE, BUSY_PERCENT = 0.05, 10  # of a card's memory and of its time, from which on it counts as busy
GIB = 2**30


def visible() -> list[str]:
    """Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: those before the
    first entry that names none, such as -1. Without that variable all that NVML counts.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        parts = (part.strip() for part in given.split(","))
        return list(takewhile(lambda part: part and not part.startswith("-"), parts))
    nvml = _nvml()
    return [str(i) for i in range(nvml.nvmlDeviceGetCount())] if nvml else []


def chosen(words: str, found: Sequence[str]) -> list[str]:
    """Returns those of `found` that `--gpus` names: "auto" all, "none" none, "0,2" the first and
    the third. UsageError for another word.
    """
    if words in ("auto", "none"):
        return list(found) if words == "auto" else []
    numbers = [part.strip() for part in words.split(",")]
    known = [str(i) for i in range(len(found))]
    if wrong := [n for n in numbers if n not in known]:
        names = ", ".join([*known, "auto", "none"])
        raise UsageError(
            f"--gpus {words}: {wrong[0] or 'nothing'} is none of the {len(found)} GPUs that are visible; "
            f"accepted: {names}"
        )
    return [found[int(n)] for n in dict.fromkeys(numbers)]


def busy(names: Sequence[str]) -> Iterator[str]:
    """Yields one line per GPU that others use at the moment: cells on it are slower than they need
    be, and may find too little memory.
    """
    nvml = _nvml()
    for name in names if nvml else ():
        try:
            handle = (
                nvml.nvmlDeviceGetHandleByUUID(name)
                if not name.isdigit()
                else nvml.nvmlDeviceGetHandleByIndex(int(name))
            )
            memory, percent = (
                nvml.nvmlDeviceGetMemoryInfo(handle),
                nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            )
        except nvml.NVMLError:  # a MIG slice, say, has no utilisation of its own
            continue
        if memory.used > BUSY_SHARE * memory.total or percent > BUSY_PERCENT:
            used = f"{memory.used / GIB:.1f} of {memory.total / GIB:.1f} GiB used, {percent} % utilised"
            yield f"GPU {name} is busy ({used}): seconds and memory of cells on it are no measure"


def _nvml() -> Any:
    """NVML, ready to be asked; None without a driver or the library."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml
