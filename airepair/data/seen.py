"""Splits for a subject that was trained elsewhere: repair and validation hold only images that it has not seen (protocol: "Splits").

`trained_on` is "split", "official train", "unknown", or ranges of the official training set, both ends included: "0..39999", also with where
the rest goes: "train 0..39999, repair 40000..44999, validation 45000..49999". Without that, repair is the first half of what is left over
and validation the second, in the official order.
"""

from __future__ import annotations

import dataclasses
import re

import torch
from torch import Tensor

from airepair.data.source import Source
from airepair.data.splits import assemble, divide, stratified
from airepair.errors import UsageError
from airepair.types import Dataset

ACCEPTED = '"split", "official train", "unknown", "0..39999" or "train 0..39999, repair 40000..44999, validation 45000..49999"'
SEEN = "failures seen in training"
_PART = re.compile(r"(?:(train|repair|validation)\s+)?(?:(?:training\s+)?images\s+)?(\d+)\.\.(\d+)")


def divide_for(source: Source, trained_on: str) -> Dataset:
    """The data set for a subject that has seen `trained_on`. UsageError for a text that says nothing, or ranges that leave nothing."""
    if trained_on == "split":
        return divide(source)
    if trained_on in ("official train", "unknown"):
        return _halves_of_test(source) if source.test is not None else _noted(divide(source), SEEN)
    return _by_ranges(source, trained_on)


def _halves_of_test(source: Source) -> Dataset:
    """Train is the official training set; half of the official test set is shared out between repair and validation."""
    assert source.test is not None
    n = len(source.test)
    test, repair, validation = (source.test.select(i) for i in stratified(source.test.y, (n - 2 * (n // 4), n // 4, n // 4)))
    return assemble(source, source.train, repair, validation, test)


def _by_ranges(source: Source, text: str) -> Dataset:
    ranges = parse(text, len(source.train))
    used = torch.zeros(len(source.train), dtype=torch.int64)
    for index in ranges.values():
        used[index] += 1
    if int(used.max()) > 1:
        raise UsageError(f"the ranges {text!r} overlap")
    rest = (used == 0).nonzero()[:, 0]
    missing = [name for name in ("repair", "validation") if name not in ranges]
    for name, part in zip(missing, rest.tensor_split(max(1, len(missing))), strict=False):
        ranges[name] = part
    for name, index in ranges.items():
        absent = set(range(len(source.classes))) - set(source.train.y[index].tolist())
        if absent and name != "train":
            raise UsageError(f"{name} would hold no image of {len(absent)} of {len(source.classes)} classes with {text!r}; state its range")
    train, repair, validation = (source.train.select(ranges[n]) for n in ("train", "repair", "validation"))
    if source.test is None:
        raise UsageError(f"{source.name} has no test set of its own, so {text!r} leaves none; accepted: {ACCEPTED}")
    return assemble(source, train, repair, validation, source.test)


def parse(text: str, n: int) -> dict[str, Tensor]:
    """Split name -> indices; a range without a name is the training set's."""
    found: dict[str, Tensor] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if not match:
            raise UsageError(f"trained_on={text!r} is not understood at {part.strip()!r}; accepted: {ACCEPTED}")
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
