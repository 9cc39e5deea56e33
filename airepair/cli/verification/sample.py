"""Which cells are run again, and their specs as the records say them. Free of torch."""

from __future__ import annotations

import random
from collections.abc import Sequence

from airepair import BENCHMARK_VERSION
from airepair.data import DATASETS, absent
from airepair.errors import UsageError
from airepair.methods import METHODS
from airepair.records import FINISHED, Record, version
from airepair.records.fingerprint import of
from airepair.runner.cell import CellSpec
from airepair.settings import profiles
from airepair.subjects.user_model.input_spec import shipped


def drawn(records: Sequence[Record], count: int, seed: int) -> tuple[list[Record], list[str]]:
    """Returns so many of the records that can be run again here, at random; and why others cannot,
    a sentence per reason.
    """
    reasons: dict[str, int] = {}
    can = []
    for record in sorted(records, key=lambda r: r.key):
        why = hindrance(record)
        if why:
            reasons[why] = reasons.get(why, 0) + 1
        else:
            can.append(record)
    chosen = random.Random(seed).sample(can, min(count, len(can)))
    return chosen, [f"{n} cell{'s' * (n > 1)} cannot be run again here: {why}" for why, n in reasons.items()]


def hindrance(record: Record) -> str:
    """Why the cell cannot be run again here; "" if it can."""
    dataset, profile = record.case.dataset.partition("+")[0], record.provenance.get("profile")
    if record.status not in FINISHED:
        return f"it ended as {record.status}"
    if version(record) != BENCHMARK_VERSION:
        return f"it is of benchmark version {version(record)}, this is {BENCHMARK_VERSION}"
    if record.provenance.get("device_kind", "cpu") != "cpu":
        return f"it ran on {record.provenance.get('device', 'another device')}"
    if dataset not in DATASETS.names():
        return f"the data set {dataset} is not known here"
    if why := absent(dataset):
        return why
    if profile not in profiles():
        return f"the profile {profile!r} is not known here"
    if record.provenance.get("examined", "test") != "test":
        return "it was examined on validation"
    brought = record.subject.get("origin", {}).get("kind") == "brought"
    if brought and shipped(record.case.dataset, record.case.model) is None:
        return f"it needs the model file {record.subject['origin'].get('file', 'that was brought')}"
    if {"failing", "keep"} & set(of(record).get("data", {})):
        return "it needs the inputs that its user named"
    try:
        METHODS.check(record.case.base_method)
    except UsageError as error:
        return str(error)
    return ""


def spec_of(record: Record) -> CellSpec:
    """Returns the cell as its record says it: with every option that it had, on the CPU."""
    return CellSpec(
        case=record.case,
        profile=str(record.provenance["profile"]),
        options={name: entry["value"] for name, entry in record.options.items()},
        origins={name: str(e.get("origin", "given")) for name, e in record.options.items() if e.get("given")},
        pgd="pgd_accuracy" in record.before,
        brought=shipped(record.case.dataset, record.case.model),
    )
