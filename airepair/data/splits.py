"""Four disjoint, stratified splits, drawn by the cell's seed: the same for every method, others for
every seed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from airepair import BENCHMARK_VERSION
from airepair.data.source import Source
from airepair.types import Dataset, Split, stream

SPLIT_SEED = 20_250_301  # the purpose of the streams that draw splits (types.stream)
# the one seed of every split of benchmark version 1: files that were trained then have seen its
# train split
VERSION_1 = 20_230_518
SHARES = (0.8, 0.1, 0.1)  # train, repair, validation of an official training set


def stratified(y: Tensor, sizes: tuple[int, ...], generator: torch.Generator) -> list[Tensor]:
    """Returns disjoint sorted indices of the given sizes with the classes in the proportions of
    `y`.

    Every image gets its rank within its (shuffled) class divided by the class's size; cutting the
    images in that order at any place gives each class its share to within one image.
    """
    order = torch.randperm(len(y), generator=generator)
    place = torch.empty(len(y), dtype=torch.double)
    for label in y.unique():
        members = order[y[order] == label]
        place[members] = (torch.arange(len(members)).double() + 0.5) / len(members)
    ranked = order[place[order].argsort(stable=True)]
    return [part.sort().values for part in ranked[: sum(sizes)].split(list(sizes))]


def drawn(seed: int, part: int = 0) -> torch.Generator:
    """Returns the generator that draws splits at a cell's seed; each `part` has a stream of its own."""
    return torch.Generator().manual_seed(stream(SPLIT_SEED, seed, part))


def divide(source: Source, seed: int) -> Dataset:
    """Returns the data set for subjects that are trained on its train split at that seed."""
    return assemble(source, *divided(source, drawn(seed)), seed, scope(source))


def divided(source: Source, generator: torch.Generator) -> tuple[Split, Split, Split, Split]:
    """Returns train, repair, validation and test as the generator draws them; an official test set
    stays as it is.
    """
    sizes = sizes_of(source)
    parts = [source.train.select(i) for i in stratified(source.train.y, sizes, generator)]
    train, repair, validation, test = (*parts, source.test) if source.test is not None else parts
    return train, repair, validation, test


def sizes_of(source: Source) -> tuple[int, ...]:
    """Returns the images of train, repair, validation and, if there is no official test set, test."""
    if source.test is not None:
        return _shares(len(source.train), SHARES)
    return source.sizes or _shares(len(source.train), (0.6, 0.15, 0.1, 0.15))


def scope(source: Source) -> str:
    """What a claim over seeds holds over."""
    if source.test is None:
        return f"splits of these {len(source.train):,} images"
    return f"splits of the {len(source.train):,} official training images, on the one official test set"


def assemble(
    source: Source, train: Split, repair: Split, validation: Split, test: Split, seed: int, over: str
) -> Dataset:
    """The Dataset of four splits, with their digests and the version of the division."""
    splits = {"train": train, "repair": repair, "validation": validation, "test": test}
    digests = {"benchmark_version": str(BENCHMARK_VERSION)} | {
        name: split.digest() for name, split in splits.items()
    }
    return Dataset(
        source.name,
        source.classes,
        source.groups,
        **splits,
        robustness=source.robustness,
        digests=digests,
        notes=source.notes,
        seed=seed,
        scope=over,
    )


def with_train(data: Dataset, train: Split) -> Dataset:
    """Returns the data set with other training data."""
    return replace(data, train=train, digests={**data.digests, "train": train.digest()})


def _shares(n: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    rest = [round(n * s) for s in shares[1:]]
    return (n - sum(rest), *rest)
