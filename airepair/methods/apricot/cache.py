"""Trained submodels by content: the key covers all that their weights depend on, so a second run
starts at the adjustment.

A folder that cannot be written costs the next run its head start, nothing else
(airepair/host/tensor_cache.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from airepair.host import tensor_cache
from airepair.host.arithmetic.canary import arithmetic
from airepair.host.arithmetic.precision import precision_of
from airepair.host.digest import of_json, of_parts
from airepair.host.source_code import classes_digest
from airepair.methods.apricot.stack import Stack
from airepair.types import Recipe, Split

VERSION = 3  # raise it where a change of the training would give other weights


def key_of(
    start: nn.Module, train: Split, parts: Sequence[slice], recipe: Recipe, seed: int, way: str
) -> str:
    """Returns the hexadecimal digest of what the submodels depend on."""
    facts = {
        "version": VERSION,
        "architecture": repr(start),
        "code": classes_digest(map(type, start.modules())),
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
    return of_json(facts)


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """Returns the digest of the tensors' types, shapes and bytes, in order."""
    return of_parts(
        part
        for tensor in tensors
        for part in (
            f"{tensor.dtype}{tuple(tensor.shape)}".encode(),
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data,
        )
    )


def cached(folder: Path, key: str, device: torch.device, make: Callable[[], Stack]) -> tuple[Stack, bool]:
    """Returns the submodels of that key and whether they were in the cache; made and filed
    otherwise.
    """
    found, was_there = tensor_cache.cached(
        folder / f"{key[:32]}.safetensors", key, lambda: dict(make()), lambda _: None
    )
    return {name: rows.to(device) for name, rows in found.items()}, was_there
