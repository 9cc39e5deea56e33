"""Trained submodels by content: the key covers all that their weights depend on, so a second run starts at the adjustment.

Written atomically, as safetensors, under a lock, so that parallel workers train once. A damaged file is made anew; a folder that cannot be
written means no cache, not an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from airepair.canary import arithmetic
from airepair.precision import precision_of
from airepair.submodels.stack import Stack
from airepair.types import Recipe, Split

VERSION = 3  # raise it where a change of the training would give other weights


def key_of(start: nn.Module, train: Split, parts: Sequence[slice], recipe: Recipe, seed: int, way: str) -> str:
    """Hexadecimal digest of what the submodels depend on."""
    facts = {
        "version": VERSION,
        "architecture": repr(start),
        "start": tensors_digest(start.state_dict().values()),
        "train": tensors_digest([train.x, train.y]),
        "windows": [[p.start, p.stop] for p in parts],
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "way": way,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": train.x.device.type,
        "precision": precision_of(start),
        "arithmetic": arithmetic(train.x.device),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """Digest of the tensors' types, shapes and bytes, in order."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def cached(folder: Path, key: str, device: torch.device, make: Callable[[], Stack]) -> tuple[Stack, bool]:
    """The submodels of that key and whether they were at hand; made and filed otherwise."""
    file = folder / f"{key[:32]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{file}.lock")
        lock.acquire()
    except OSError:
        return make(), False
    try:
        found = _read(file, device)
        if found is not None:
            return found, True
        made = make()
        _write(file, made)
        return made, False
    finally:
        lock.release()


def _read(file: Path, device: torch.device) -> Stack | None:
    try:
        return load_file(file, device=str(device)) if file.exists() else None
    except (SafetensorError, OSError):
        return None


def _write(file: Path, stack: Stack) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        save_file({name: rows.detach().cpu().contiguous() for name, rows in stack.items()}, part)
        os.replace(part, file)
    except OSError:
        return  # a full disk costs the next run its head start, nothing else
    finally:
        part.unlink(missing_ok=True)
