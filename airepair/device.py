"""Where things run. One thread a cell on the CPU, always: scores are then the same serially and in parallel (docs/protocol.md)."""

from __future__ import annotations

import torch

from airepair.errors import UsageError


def device_of(text: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N"; on the CPU torch is limited to one thread. UsageError where it is not there."""
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(text)
    except RuntimeError:
        raise UsageError(f"--device {text!r} is not known; accepted: auto, cpu, cuda, cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {text}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; accepted: auto, cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    return device
