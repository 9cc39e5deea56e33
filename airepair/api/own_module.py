"""One repair of a module that the caller holds, through the stages of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from airepair import data as datasets
from airepair.case import Case
from airepair.data.images import robustness_of
from airepair.data.partition import divide_for
from airepair.errors import UsageError
from airepair.records import Record
from airepair.runner.loading import Loaded
from airepair.runner.outcome import outcome
from airepair.runner.prepared import prepare
from airepair.runner.repair import repair as run_repair
from airepair.runner.specify import Shared, cell_spec, chosen_options
from airepair.runner.variants import check
from airepair.subjects.recipes import training_of
from airepair.types import Dataset, Split, Subject

PARTS = ("train", "repair", "validation", "test")
Arrays = Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Repair:
    """A finished repair: the module (None unless `record.status` is "repaired") and the record, as
    the benchmark files it.
    """

    module: nn.Module | None
    record: Record

    @property
    def before(self) -> Mapping[str, float]:
        """Scores of the module that was given."""
        return self.record.before

    @property
    def after(self) -> Mapping[str, float]:
        """Scores of the repaired one."""
        return self.record.after


def repair(
    module: nn.Module,
    data: str | Dataset | Arrays,
    method: str = "finetune",
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    trained_on: str = "official train",
) -> Repair:
    """Repairs a copy of a classifier; the module that was given stays as it is.

    module      takes float images in [0, 1], N x C x H x W, and returns logits, N x K; on any
                device
    data        the name of a data set (`mnist`, `npz:PATH`, `folder:PATH`; `trained_on` says what
                the module has seen of it), a Dataset, or arrays: {"repair": (x, y), "validation":
                ..., "test": ...} and, if a method is to learn from it, "train"; x is N x C x H x W,
                uint8 or float in [0, 1], y is N class ids
    method      a name of `airepair list methods`, with a variant in brackets if need be
                (`apricot[random_sets]`), or `package.module:Class`
    options     of the method; the rest are its defaults and the reviewed settings

    UsageError for anything that cannot be meant. Whatever the method does is in the record of what
    is returned.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    divided = _dataset(data, seed, trained_on)
    moved: dict[str, Any] = {name: getattr(divided, name).to(device) for name in PARTS}
    subject = Subject(
        "own",
        module,
        replace(divided, **moved),
        training_of(divided.name, "").recipe,
        trained_on,
        {"kind": "module"},
    )
    shared = Shared(device=str(device))
    case = Case(divided.name, "own", check(method), seed)
    chosen = chosen_options(case, "own", shared.profile_of(divided.name), options or {})
    ready = prepare(cell_spec(shared, case, chosen), Loaded(subject))
    found = outcome(ready, run_repair(ready))
    return Repair(found.module, found.record)


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
