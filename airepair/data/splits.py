"""Four disjoint, stratified splits from one fixed seed: they belong to the benchmark's version, the same for every seed and method."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from airepair.data.source import Source
from airepair.types import Dataset, Split

SPLIT_VERSION = 1
SPLIT_SEED = 20_230_518  # of SPLIT_VERSION 1; never a cell's seed
SHARES = (0.8, 0.1, 0.1)  # train, repair, validation of an official training set


def digest(split: Split) -> str:
    """SHA-256 of type, shape, images and labels."""
    sha = hashlib.sha256(f"{split.x.dtype}{tuple(split.x.shape)}".encode())
    for tensor in (split.x, split.y):
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def stratified(y: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Disjoint sorted indices of the given sizes with the classes in the proportions of `y`.

    Every image gets its rank within its (shuffled) class divided by the class's size; cutting the images in that order at any place gives each
    class its share to within one image.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(y), generator=generator)
    place = torch.empty(len(y), dtype=torch.double)
    for label in y.unique():
        members = order[y[order] == label]
        place[members] = (torch.arange(len(members)).double() + 0.5) / len(members)
    ranked = order[place[order].argsort(stable=True)]
    return [part.sort().values for part in ranked[: sum(sizes)].split(list(sizes))]


def divide(source: Source) -> Dataset:
    """The data set for subjects that are trained on its train split."""
    if source.test is None:
        sizes = source.sizes or _shares(len(source.train), (0.6, 0.15, 0.1, 0.15))
        train, repair, validation, test = (source.train.select(i) for i in stratified(source.train.y, tuple(sizes)))
    else:
        indices = stratified(source.train.y, _shares(len(source.train), SHARES))
        train, repair, validation = (source.train.select(i) for i in indices)
        test = source.test
    return assemble(source, train, repair, validation, test)


def assemble(source: Source, train: Split, repair: Split, validation: Split, test: Split) -> Dataset:
    """The Dataset of four splits, with their digests and the version of the division."""
    splits = {"train": train, "repair": repair, "validation": validation, "test": test}
    digests = {"split_version": str(SPLIT_VERSION)} | {name: digest(split) for name, split in splits.items()}
    return Dataset(source.name, source.classes, source.groups, train, repair, validation, test, source.robustness, digests, source.notes)


def _shares(n: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    rest = [round(n * s) for s in shares[1:]]
    return (n - sum(rest), *rest)
