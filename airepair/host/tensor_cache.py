"""Tensors that can be made again, kept in a file under a key: what is not what was stored under that
key is made anew.

The file says its key and the digest of its tensors. It is written atomically, readers take no lock,
and a folder that cannot be written means no cache, not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from airepair.errors import UsageError, one_line
from airepair.host.atomic import replacing
from airepair.host.digest import of_parts

Tensors = dict[str, Tensor]


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 over the names, types, shapes and bytes of tensors."""

    def parts() -> Iterator[bytes]:
        for name, tensor in sorted(tensors.items()):
            value = tensor.detach().cpu().contiguous()
            yield f"{name}:{value.dtype}:{tuple(value.shape)};".encode()
            yield value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""

    return of_parts(parts())


def digest_of_module(module: nn.Module) -> str:
    """Returns the same over all parameters and buffers: equal exactly if they are."""
    return digest_of(module.state_dict())


def cached(
    file: Path, key: str, make: Callable[[], Tensors], remark: Callable[[str], None]
) -> tuple[Tensors, bool]:
    """Returns the tensors of that key, on the CPU if they were in the file, and whether they were;
    made and filed otherwise.

    Of several processes one makes them and the others wait; if it dies, the next one makes them.
    `remark` hears why they are not kept.
    """
    if (found := stored_tensors(file, key)) is not None:
        return found, True
    with _locked(file, remark):
        if (found := stored_tensors(file, key)) is not None:
            return found, True
        made = make()
        _keep(file, key, made, remark)
        return made, False


def stored_tensors(file: Path, key: str) -> Tensors | None:
    """Returns the file's tensors; None if there is none, or it is not what was stored under that
    key.
    """
    try:
        with safe_open(file, framework="pt") as stored:
            said = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError):
        return None
    return tensors if said == _about(key, tensors) else None


@contextmanager
def _locked(file: Path, remark: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(f"{file}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # the second: a file system without locks
        remark(f"{file.parent} keeps nothing: {one_line(error)}")
    try:
        yield
    finally:
        lock.release()


def _keep(file: Path, key: str, tensors: Mapping[str, Tensor], remark: Callable[[str], None]) -> None:
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        with replacing(file) as part:
            save_file(plain, part, _about(key, plain))
    except (OSError, SafetensorError, UsageError) as error:
        remark(f"{file.name} is not kept: {one_line(error)}")


def _about(key: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {"key": key, "tensors": digest_of(tensors)}
