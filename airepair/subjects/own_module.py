"""A module that the caller of `airepair.repair` holds as a subject, on the caller's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from airepair import data as datasets
from airepair.data.images import robustness_of
from airepair.data.partition import divide_for
from airepair.errors import UsageError
from airepair.subjects.recipes import training_of
from airepair.types import Dataset, Split, Subject

PARTS = ("train", "repair", "validation", "test")
Arrays = Mapping[str, tuple[Any, Any]]


def subject_of(module: nn.Module, data: str | Dataset | Arrays, seed: int, trained_on: str) -> Subject:
    """Returns the module with its data divided and on its device. UsageError for data that cannot
    be meant.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    divided = _dataset(data, seed, trained_on)
    moved: dict[str, Any] = {name: getattr(divided, name).to(device) for name in PARTS}
    return Subject(
        "own",
        module,
        replace(divided, **moved),
        training_of(divided.name, "").recipe,
        trained_on,
        {"kind": "module"},
    )


def _dataset(data: str | Dataset | Arrays, seed: int, trained_on: str) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str):
        return divide_for(datasets.whole(data), trained_on, seed)
    missing = [name for name in PARTS[1:] if name not in data]
    unknown = [name for name in data if name not in PARTS]
    if missing or unknown:
        raise UsageError(
            f"data has {', '.join(data) or 'nothing'}; accepted: repair, validation, test and, "
            f"if there is one, train"
        )
    splits = {name: _split(name, *data[name]) for name in data}
    none = splits["repair"].select(torch.zeros(0, dtype=torch.int64))
    splits.setdefault("train", none)
    classes = 1 + max(int(split.y.max()) for split in splits.values() if len(split))
    return Dataset(
        name="own",
        classes=tuple(map(str, range(classes))),
        groups=tuple((k,) for k in range(classes)),
        robustness=robustness_of(splits["train"] if len(splits["train"]) else splits["repair"]),
        digests={name: split.digest() for name, split in splits.items()},
        seed=seed,
        scope="the given images",
        train=splits["train"],
        repair=splits["repair"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _split(name: str, x: Any, y: Any) -> Split:
    images, labels = torch.as_tensor(x), torch.as_tensor(y).to(torch.int64)
    fits = images.ndim == 4 and labels.shape == images.shape[:1] and len(labels)
    if not fits or not (images.dtype == torch.uint8 or _in_unit(images)):
        raise UsageError(
            f"{name}: images {images.dtype} {tuple(images.shape)} and labels {tuple(labels.shape)}; "
            "accepted: N x C x H x W, uint8 or float in [0, 1], and N class ids"
        )
    return Split(images if images.dtype == torch.uint8 else images.float(), labels)


def _in_unit(images: Tensor) -> bool:
    return images.is_floating_point() and float(images.min()) >= 0 and float(images.max()) <= 1
