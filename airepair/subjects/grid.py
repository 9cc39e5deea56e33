"""From a case's names to its Subject: data set, architecture, fault, baseline.

Every door gets its subject here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from airepair import data
from airepair.data.splits import divide, drawn, stratified, with_train
from airepair.errors import NotTrained
from airepair.evaluation.exam import most_confused, sit
from airepair.faults import FAULTS, of_case
from airepair.settings import profiles
from airepair.subjects.baseline import trained
from airepair.subjects.faulty import faulty
from airepair.subjects.recipes import Training, training_of
from airepair.types import Dataset, Split, Subject

Progress = Callable[[str, int, int, float], None]
OWN_PAIR = (
    "the class pair is this seed's own: the subject of seed 0, whose validation split chooses it, "
    "is not trained here"
)


def load(
    dataset: str,
    model: str,
    seed: int,
    *,
    profile: str,
    device: torch.device,
    cache: Path,
    progress: Progress = lambda *_: None,
) -> Subject:
    """Returns the grid's subject: trained by the data set's recipe, at the size that the profile
    states. The seed draws its splits and its fault.

    `digits+fog3` is digits where the subject meets fog, `cnn+imbalanced` a network with a fault
    (airepair/faults), `cnn+clean` a healthy one: the clean twin of the others, from the same place
    in the cache. The class pair of another seed than 0 is that of seed 0's subject, which is
    trained for it if it is not in the cache; if `progress` refuses that, a note says so. UsageError
    for a name that is unknown, and for a fault that spoils no test input.
    """
    subject = _load(dataset, model, seed, profile, device, cache, progress)
    if not seed:
        return subject
    try:
        return dataclasses.replace(
            subject, pair=_pair_of(_Column(dataset, model, profile, device, cache, progress))
        )
    except NotTrained:
        noted = dataclasses.replace(subject.dataset, notes=(*subject.dataset.notes, OWN_PAIR))
        return dataclasses.replace(subject, dataset=noted)


@dataclass(frozen=True)
class _Column:
    """A data set and a model on a machine; how training shows its progress does not tell columns apart."""

    dataset: str
    model: str
    profile: str
    device: torch.device
    cache: Path
    progress: Progress = field(compare=False)


@lru_cache(maxsize=64)
def _pair_of(column: _Column) -> tuple[int, int] | tuple[()]:
    """The classes that the column's subject of seed 0 confuses most on its validation split."""
    first = _load(
        column.dataset, column.model, 0, column.profile, column.device, column.cache, column.progress
    )
    return most_confused(sit(first.module, first.dataset.validation), len(first.dataset.classes)) or ()


def _load(
    dataset: str, model: str, seed: int, profile: str, device: torch.device, cache: Path, progress: Progress
) -> Subject:
    found, plain = profiles()[profile], dataset.partition("+")[0]
    fault = of_case(dataset, model)
    training = training_of(plain, model.partition("+")[0] if fault else model)
    if given := dict(found.recipe.get(plain, {})):
        words = ", ".join(f"{k} {v}" for k, v in given.items())
        origin = f"{training.origin}; profile {profile}: {words}"
        training = dataclasses.replace(
            training, recipe=dataclasses.replace(training.recipe, **given), origin=origin
        )
    images = divided(plain, seed, profile, device)
    if fault is not None:
        return faulty((dataset, model), images, training, fault, seed, cache, progress)
    return trained(
        f"{dataset}-{model}", spoil(images, training, seed), model, training, seed, cache, progress
    )


def divided(dataset: str, seed: int, profile: str, device: torch.device) -> Dataset:
    """The data set's splits at that seed, as many images of each as the profile says, without any fault."""
    return on_device(
        reduce(divide(data.whole(dataset), seed), dict(profiles()[profile].images.get(dataset, {}))), device
    )


def spoil(dataset: Dataset, training: Training, seed: int) -> Dataset:
    """Returns the data set as a subject of that seed sees it in training: with its fault."""
    if training.fault is None:
        return dataset
    fault = FAULTS.get(training.fault)(**dict(training.fault_options), seed=seed)
    return with_train(dataset, fault.train(dataset.train, len(dataset.classes)))


def reduce(dataset: Dataset, images: dict[str, int]) -> Dataset:
    """The data set with a stated number of images in some splits (stratified; of the test split the
    same ones at every seed), and a note.
    """
    kept: dict[str, Any] = {}
    for part, (name, size) in enumerate(images.items(), 1):
        split: Split = getattr(dataset, name)
        if size < len(split):
            kept[name] = split.select(
                stratified(split.y, (size,), drawn(0 if name == "test" else dataset.seed, part))[0]
            )
    if not kept:
        return dataset
    words = ", ".join(f"{len(s):,} of {len(getattr(dataset, n)):,} {n} images" for n, s in kept.items())
    digests = {**dataset.digests, **{n: s.digest() for n, s in kept.items()}}
    return dataclasses.replace(
        dataset, **kept, digests=digests, notes=(*dataset.notes, f"reduced budget: {words}")
    )


def on_device(dataset: Dataset, device: torch.device) -> Dataset:
    """Returns every split on the device, each in one transfer."""
    moved: dict[str, Any] = {
        n: getattr(dataset, n).to(device) for n in ("train", "repair", "validation", "test")
    }
    return dataclasses.replace(dataset, **moved)
