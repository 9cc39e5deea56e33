"""Every operation of torch during a repair, with digests of what went in and what came out: where
two processors part, and by which operation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Call = Callable[[Callable[[], None]], None]
# They compute nothing: views, copies, and memory that holds nothing yet.
SILENT = (
    "empty",
    "detach",
    "view",
    "t.",
    "transpose",
    "alias",
    "_unsafe_view",
    "expand",
    "slice",
    "as_strided",
    "new_empty",
)


class Walk(TorchDispatchMode):
    """Writes a line per operation: name, type and shape of its first tensor, digest of its
    arguments, digest of its results.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.file = file

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func).removeprefix("aten.")
        if name.startswith(SILENT):
            return func(*args, **(kwargs or {}))
        first = next((v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)), None)
        about = (
            ""
            if first is None
            else f"{str(first.dtype).removeprefix('torch.')}{list(first.shape)}".replace(" ", "")
        )
        given = digest((args, kwargs))
        result = func(*args, **(kwargs or {}))
        # An operation in place may return nothing: then what it was given is what it made.
        self.file.write(f"{name} {about} {given} {digest(result if result is not None else args)}\n")
        return result


@contextmanager
def walking(path: Path) -> Iterator[Call]:
    """A caller for the repair of one cell that writes its operations to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:

        def call(work: Callable[[], None]) -> None:
            with Walk(file):
                work()

        yield call


def digest(values: Any) -> str:
    """Of all tensors and numbers in a nest of arguments."""
    sha = hashlib.blake2b(digest_size=8)
    for value in tree_leaves(values):
        if isinstance(value, Tensor) and value.layout == torch.strided and value.device.type != "meta":
            dense = value.detach().clone(memory_format=torch.contiguous_format)
            sha.update(dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b"")
        elif isinstance(value, int | float):
            sha.update(repr(value).encode())
    return sha.hexdigest()


def parted(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """The operations that made something else of equal arguments, each once; and where the two
    lists stop being of the same operations.
    """
    found: dict[str, None] = {}
    for line, twin in zip(one, other, strict=False):
        (what, given, made), (what2, given2, made2) = (text.rsplit(" ", 2) for text in (line, twin))
        if what.split()[0] != what2.split()[0]:
            return [*found, f"another operation: {what} / {what2}"]
        if given == given2 and made != made2:
            found[what.split()[0]] = None
    return list(found)
