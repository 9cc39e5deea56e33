"""Splits for a subject that was trained elsewhere: repair and validation hold only images that it has
not seen (protocol: "Splits").

`trained_on` is "split" (the train split of the cell's own seed), "split of seed 3" (of that seed,
whatever the cell's), "split of version 1" (of benchmark version 1, which had one split), "official
train", "unknown", or ranges of the official training set, both ends included: "0..39999", also with
where the rest goes: "train 0..39999, repair 40000..44999, validation 45000..49999". The seed
divides what the subject has not seen; ranges that are stated stay as they are.
"""

from __future__ import annotations

import dataclasses
import re

import torch
from torch import Tensor

from airepair.data.source import Source
from airepair.data.splits import VERSION_1, assemble, divide, divided, drawn, sizes_of, stratified
from airepair.errors import UsageError
from airepair.types import Dataset, Split

ACCEPTED = (
    '"split of seed 0", "official train", "unknown", "0..39999" or "train 0..39999, '
    'repair 40000..44999, validation 45000..49999"'
)
SEEN = "failures seen in training"
_PART = re.compile(r"(?:(train|repair|validation)\s+)?(?:(?:training\s+)?images\s+)?(\d+)\.\.(\d+)")
_SPLIT = re.compile(r"split of (?:seed (\d{1,9})|version 1)")


def divide_for(source: Source, trained_on: str, seed: int) -> Dataset:
    """Returns the data set for a subject that has seen `trained_on`.

    UsageError for a text that says nothing, ranges that leave nothing, or too few test images.
    """
    if trained_on == "split" or split_seed(trained_on) == seed:
        return divide(source, seed)
    if split := _SPLIT.fullmatch(trained_on.strip()):
        return _beside(
            source, drawn(int(split[1])) if split[1] else torch.Generator().manual_seed(VERSION_1), seed
        )
    if trained_on in ("official train", "unknown"):
        return _by_test(source, seed) if source.test is not None else _noted(divide(source, seed), SEEN)
    return _by_ranges(source, trained_on, seed)


def examination(source: Source, trained_on: str, seed: int) -> Dataset:
    """Returns the data set for a subject that is examined and not repaired: all official test
    images, whatever a repair would take of them.

    Validation fits a temperature and names the confused pair: unseen training images if there
    are some, else a quarter of the test images. UsageError for a text that says nothing, or too few
    test images.
    """
    if source.test is None:
        return divide_for(source, trained_on, seed)
    words = trained_on in ("split", "official train", "unknown") or _SPLIT.fullmatch(trained_on.strip())
    ranges = {} if words else parse(trained_on, len(source.train))
    try:
        data = divide_for(source, trained_on, seed)
    except UsageError:  # the ranges leave too little for a repair, which is not asked for
        if not ranges:
            raise
        data = _by_test(source, seed, source.train.select(ranges["train"]))
    whole = assemble(
        source, data.train, data.repair, data.validation, source.test, seed, "the one official test set"
    )
    inside = data.test is not source.test
    note = (
        f"all {len(source.test):,} test images are examined; {len(data.validation):,} of them are "
        f"validation as well"
    )
    return _noted(whole, note) if inside else whole


def split_seed(trained_on: str) -> int | None:
    """Returns the seed whose train split it is, None if the text says anything else."""
    found = _SPLIT.fullmatch(trained_on.strip())
    return int(found[1]) if found and found[1] else None


def _beside(source: Source, other: torch.Generator, seed: int) -> Dataset:
    """Train as `other` draws it; what that leaves over is divided by the seed."""
    train, repair, validation, test = divided(source, other)
    rest = repair + validation if source.test is not None else repair + validation + test
    parts = [rest.select(i) for i in stratified(rest.y, sizes_of(source)[1:], drawn(seed))]
    test = parts[2] if source.test is None else test
    return assemble(source, train, parts[0], parts[1], test, seed, _over(len(rest), source.test is not None))


def _over(images: int, official: bool) -> str:
    return f"splits of the {images:,} images that it was not trained on" + (
        ", on the one official test set" if official else ""
    )


def _by_test(source: Source, seed: int, train: Split | None = None) -> Dataset:
    """The official test set is divided: half is test, half is shared between repair and validation.

    Train is the official training set, or given.
    """
    assert source.test is not None
    n = len(source.test)
    if n < 4:
        raise UsageError(
            f"{source.name} has {n} official test images, which repair, validation and test share: the "
            f"network has seen the training images; accepted: 4 or more"
        )
    sizes = (n - 2 * (n // 4), n // 4, n // 4)
    test, repair, validation = (source.test.select(i) for i in stratified(source.test.y, sizes, drawn(seed)))
    found = assemble(
        source,
        source.train if train is None else train,
        repair,
        validation,
        test,
        seed,
        f"splits of the {n:,} official test images",
    )
    return _noted(
        found,
        f"{2 * (n // 4):,} of the {n:,} official test images are repair and validation: "
        f"the network has seen the training images",
    )


def _by_ranges(source: Source, text: str, seed: int) -> Dataset:
    ranges = parse(text, len(source.train))
    used = torch.zeros(len(source.train), dtype=torch.int64)
    for index in ranges.values():
        used[index] += 1
    if int(used.max()) > 1:
        raise UsageError(f"the ranges {text!r} overlap")
    rest = (used == 0).nonzero()[:, 0]
    missing = [name for name in ("repair", "validation") if name not in ranges]
    if source.test is None:
        return _of_pool(source, text, ranges, rest, seed)
    if len(missing) == 2 and not len(rest):
        return _by_test(source, seed)
    if missing:
        parts = stratified(
            source.train.y[rest], tuple(len(p) for p in rest.tensor_split(len(missing))), drawn(seed)
        )
        ranges |= {name: rest[part] for name, part in zip(missing, parts, strict=True)}
    for name, index in ranges.items():
        absent = set(range(len(source.classes))) - set(source.train.y[index].tolist())
        if absent and name != "train":
            raise UsageError(
                f"{name} would hold no image of {len(absent)} of {len(source.classes)} classes with "
                f"{text!r}; state its range"
            )
    train, repair, validation = (source.train.select(ranges[n]) for n in ("train", "repair", "validation"))
    over = _over(len(rest), True) if missing else "the stated ranges, on the one official test set"
    return assemble(source, train, repair, validation, source.test, seed, over)


def _of_pool(source: Source, text: str, ranges: dict[str, Tensor], rest: Tensor, seed: int) -> Dataset:
    """Of a data set without a test set of its own: what the ranges leave over is repair, validation
    and test, in their usual proportions.
    """
    if len(ranges) > 1:
        raise UsageError(
            f"{source.name} has no test set of its own, so {text!r} leaves none; accepted: "
            f"the training range alone"
        )
    if not len(rest):
        return _noted(divide(source, seed), SEEN)
    usual = sizes_of(source)[1:]
    sizes = [len(rest) * n // sum(usual) for n in usual[:2]]
    left = source.train.select(rest)
    repair, validation, test = (
        left.select(i) for i in stratified(left.y, (*sizes, len(rest) - sum(sizes)), drawn(seed))
    )
    if min(len(part.y.unique()) for part in (repair, validation, test)) < len(source.classes):
        raise UsageError(
            f"{text!r} leaves {len(rest):,} images: repair, validation or test would lack some of "
            f"{len(source.classes)} classes"
        )
    return assemble(
        source, source.train.select(ranges["train"]), repair, validation, test, seed, _over(len(rest), False)
    )


def parse(text: str, n: int) -> dict[str, Tensor]:
    """Maps each split name to its indices; a range without a name is the training set's."""
    found: dict[str, Tensor] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if not match:
            raise UsageError(
                f"trained_on={text!r} is not understood at {part.strip()!r}; accepted: {ACCEPTED}"
            )
        first, last = int(match[2]), int(match[3])
        if not 0 <= first <= last < n:
            raise UsageError(f"range {first}..{last} is out of range; accepted: within 0..{n - 1}")
        name = match[1] or "train"
        more = torch.arange(first, last + 1)
        found[name] = torch.cat([found[name], more]) if name in found else more
    if "train" not in found:
        raise UsageError(f"trained_on={text!r} does not say what the training set was; accepted: {ACCEPTED}")
    return found


def _noted(data: Dataset, note: str) -> Dataset:
    return dataclasses.replace(data, notes=(*data.notes, note))
