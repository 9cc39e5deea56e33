"""Where things run.

A cell on the CPU always has one thread: scores are then the same serially and in parallel
(docs/protocol.md). Free of torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airepair.errors import UsageError

if TYPE_CHECKING:
    import torch

WORDS = re.compile(r"auto|cpu|cuda(:\d+)?")


def check_device(text: str) -> None:
    """Raises UsageError for a word that names no device, with the one that was probably meant."""
    if not WORDS.fullmatch(text):
        hint = " (did you mean 'cuda'?)" if text.lower().startswith(("gpu", "nvidia", "cud")) else ""
        raise UsageError(f"--device {text!r} is not known{hint}; accepted: auto, cpu, cuda, cuda:N")


def device_of(text: str) -> torch.device:
    """Returns the device of "auto", "cpu", "cuda" or "cuda:N"; on the CPU torch is limited to one
    thread, and a card that is named becomes the current one, on which CUDA does what names none.

    UsageError if this machine does not have it.
    """
    check_device(text)
    import torch

    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(text)
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        names = "".join(f", cuda:{i}" for i in range(count))
        raise UsageError(
            f"--device {text}: torch {torch.__version__} sees {count} CUDA devices; "
            f"accepted: auto, cpu{names}"
        )
    if device.index is not None:
        torch.cuda.set_device(device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    return device
