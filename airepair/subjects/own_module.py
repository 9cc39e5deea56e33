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
from airepair.errors import UsageError, one_line
from airepair.models.layouts import written
from airepair.subjects.recipes import training_of
from airepair.subjects.user_model.class_order import check_answers, finite_logits
from airepair.types import Dataset, Split, Subject

PARTS = ("train", "repair", "validation", "test")
WHAT = "the module"
Arrays = Mapping[str, tuple[Any, Any]]


def subject_of(module: nn.Module, data: str | Dataset | Arrays, seed: int, trained_on: str) -> Subject:
    """Returns the module with its data divided and on its device. UsageError for data that cannot
    be meant, or that the module does not answer.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    divided = _dataset(data, seed, trained_on)
    for name in PARTS[1:]:
        if not len(getattr(divided, name)):
            raise UsageError(f"{name} of {divided.name} holds no images; accepted: one or more")
    moved: dict[str, Any] = {name: getattr(divided, name).to(device) for name in PARTS}
    found = replace(divided, **moved)
    images = found.test.images(slice(0, 2))
    if not isinstance(data, str | Dataset):
        found = _of_outputs(found, finite_logits(module, images, found.name, WHAT).shape[1])
    check_answers(module, images, found, WHAT)
    return Subject("own", module, found, training_of(found.name, "").recipe, trained_on, {"kind": "module"})


def _of_outputs(data: Dataset, outputs: int) -> Dataset:
    """The data set with a class for each output, whether it has images or not."""
    if outputs < max(2, len(data.classes)):
        raise UsageError(
            f"{WHAT} returns {outputs} logits per image, the labels go up to {len(data.classes) - 1}; "
            f"accepted: a logit for each class, two or more"
        )
    classes = range(outputs)
    return replace(data, classes=tuple(map(str, classes)), groups=tuple((k,) for k in classes))


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
    splits = {name: _split(name, data[name]) for name in data}
    shapes = {name: tuple(split.x.shape[1:]) for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {written(shape)}" for name, shape in shapes.items())
        raise UsageError(f"images of {listed}; accepted: one shape for all")
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


def _split(name: str, pair: Any) -> Split:
    try:
        x, y = pair
        images, given = torch.as_tensor(x), torch.as_tensor(y).double()
    except Exception as error:  # whatever torch raises on what is no array
        raise UsageError(f"{name}: {one_line(error, 160)}; accepted: two arrays, x and y") from error
    fits = images.ndim == 4 and given.shape == images.shape[:1] and images.numel()
    if not fits or not (images.dtype == torch.uint8 or _in_unit(images)):
        raise UsageError(
            f"{name}: images {images.dtype} {tuple(images.shape)} and labels {tuple(given.shape)}; "
            "accepted: N x C x H x W, uint8 or float in [0, 1], and N class ids"
        )
    labels = given.to(torch.int64)
    strange = given[(labels != given) | (labels < 0)].tolist()
    if strange:
        raise UsageError(f"{name}: label {strange[0]:g}; accepted: class ids, whole numbers from 0")
    return Split(images if images.dtype == torch.uint8 else images.float(), labels)


def _in_unit(images: Tensor) -> bool:
    return images.is_floating_point() and float(images.min()) >= 0 and float(images.max()) <= 1
