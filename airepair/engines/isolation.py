"""Which cells run in a process of their own (--isolate), and with which limits. Free of torch."""

from __future__ import annotations

from airepair.engines.limits import GIB, MIB, Limits, bytes_of
from airepair.runner.variants import is_foreign


def isolates(given: bool | None, method: str) -> bool:
    """Returns whether cells of the method run in processes of their own: what the user says, else
    those of plug-ins and external tools.
    """
    return is_foreign(method) if given is None else given


def limits_of(memory: float | None, gpu_memory: float | None, output: float | None) -> Limits:
    """Returns the limits that the user gives, in GiB, the output in MiB. UsageError for a number
    that is no size.
    """
    return Limits(
        memory=bytes_of(memory, GIB, "--isolate-memory"),
        gpu_memory=bytes_of(gpu_memory, GIB, "--isolate-gpu-memory"),
        output=MIB if output is None else bytes_of(output, MIB, "--isolate-output") or 1,
    )
