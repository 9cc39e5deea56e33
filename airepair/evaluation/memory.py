"""If memory does not suffice: the same work in smaller parts, with a line in the record, instead of a
cell that dies.

`halving` runs a batched call, with half the size each time memory ran out. Whoever runs a cell
listens with `noting`, so that its record has the line; elsewhere it is a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from airepair.errors import one_line

T = TypeVar("T")
# By torch's allocator on the CPU; by the CUDA driver; by cuBLAS, whose handle needs memory of its own.
SAID = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_note: ContextVar[Callable[[str], None] | None] = ContextVar("airepair_fallback_note", default=None)


@contextmanager
def noting(note: Callable[[str], None]) -> Iterator[None]:
    """Sends messages within the block to `note`, each line once."""
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            note(text)

    token = _note.set(once)
    try:
        yield
    finally:
        _note.reset(token)


def say(text: str) -> None:
    """Tells whoever listens, else warns."""
    note = _note.get()
    if note is None:
        warnings.warn(text, ResourceWarning, stacklevel=2)
    else:
        note(text)


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an allocation failed: torch's CPU allocator, and what allocates on CUDA beside
    torch's own, report that as a RuntimeError of another class.
    """
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = one_line(error)
    return any(said in text for said in SAID)


def halving(call: Callable[[int], T], size: int, what: str) -> T:
    """Returns call(size), or with half the size as often as memory does not suffice; what even size
    1 raises passes through.

    `what` names the parts: "images at once in an evaluation".
    """
    while True:
        try:
            return call(size)
        except (RuntimeError, MemoryError) as error:  # torch.cuda.OutOfMemoryError is a RuntimeError
            if size <= 1 or not out_of_memory(error):
                raise
        # Outside the handler: the traceback holds the tensors of the failed call.
        tried, size = size, size // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"not enough memory for {tried:,} {what}; continued with {size:,}")
