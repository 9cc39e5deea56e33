"""From a case's names to its Subject: data set, architecture, fault, baseline. Every door gets its subject here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from airepair import data
from airepair.data.splits import digest, stratified
from airepair.faults import FAULTS, of_case
from airepair.models.baseline import trained
from airepair.models.recipes import Training, training_of
from airepair.settings import profiles
from airepair.subjects.faulty import faulty, with_train
from airepair.types import Dataset, Split, Subject


def load(
    dataset: str,
    model: str,
    seed: int,
    *,
    profile: str,
    device: torch.device,
    cache: Path,
    progress: Callable[[str, int, int, float], None] = lambda *_: None,
) -> Subject:
    """The grid's subject: trained by the data set's recipe, at the size that the profile states.

    `digits+fog3` is digits where the subject meets fog, `cnn+imbalanced` a network with a fault (airepair/faults). UsageError for a name that is
    unknown, and for a fault that spoils no test input.
    """
    found, plain = profiles()[profile], dataset.partition("+")[0]
    fault, training = of_case(dataset, model), training_of(plain, model.partition("+")[0])
    if given := dict(found.recipe.get(plain, {})):
        words = ", ".join(f"{k} {v}" for k, v in given.items())
        origin = f"{training.origin}; profile {profile}: {words}"
        training = dataclasses.replace(training, recipe=dataclasses.replace(training.recipe, **given), origin=origin)
    divided = on_device(reduce(data.load(plain), dict(found.images.get(plain, {}))), device)
    if fault is not None:
        return faulty((dataset, model), divided, training, fault, seed, cache, progress)
    return trained(f"{dataset}-{model}", spoil(divided, training), model, training, seed, cache, progress)


def spoil(dataset: Dataset, training: Training) -> Dataset:
    """The data set as the subject sees it in training: with its fault."""
    if training.fault is None:
        return dataset
    fault = FAULTS.get(training.fault)(**dict(training.fault_options))
    return with_train(dataset, fault.train(dataset.train, len(dataset.classes)))


def reduce(dataset: Dataset, images: dict[str, int]) -> Dataset:
    """The data set with a stated number of images in some splits (stratified, from the split's seed), and a note that says so."""
    kept: dict[str, Any] = {}
    for name, size in images.items():
        split: Split = getattr(dataset, name)
        if size < len(split):
            kept[name] = split.select(stratified(split.y, (size,))[0])
    if not kept:
        return dataset
    words = ", ".join(f"{len(s):,} of {len(getattr(dataset, n)):,} {n} images" for n, s in kept.items())
    digests = {**dataset.digests, **{n: digest(s) for n, s in kept.items()}}
    return dataclasses.replace(dataset, **kept, digests=digests, notes=(*dataset.notes, f"reduced budget: {words}"))


def on_device(dataset: Dataset, device: torch.device) -> Dataset:
    """Every split on the device, each in one transfer."""
    moved: dict[str, Any] = {n: getattr(dataset, n).to(device) for n in ("train", "repair", "validation", "test")}
    return dataclasses.replace(dataset, **moved)
