"""A record's digests of its splits against the data of this machine."""

from __future__ import annotations

from functools import lru_cache

import torch

from airepair.data import DATASETS, absent
from airepair.records import Record
from airepair.settings import profiles
from airepair.subjects.grid import divided

COMPARED = ("repair", "validation", "test")  # a fault or label noise may be in the training split
ENVIRONMENT = "+"


def foreign(record: Record) -> tuple[list[str], str]:
    """The splits that are not this machine's, a sentence each; and why they could not be compared
    ("" if they were).
    """
    said = record.subject.get("data", {})
    dataset = record.case.dataset
    if not any(name in said for name in COMPARED):
        return [], "it has no digests of its data" if record.status == "repaired" else ""
    if ENVIRONMENT in dataset or record.subject.get("origin", {}).get("kind") == "brought":
        return (
            [],
            "splits of an environment or of a network that was brought are compared when the cell is run "
            "again",
        )
    if dataset not in DATASETS.names():
        return [], f"the data set {dataset} is not known here"
    if why := absent(dataset):
        return [], why
    profile = str(record.provenance.get("profile"))
    if profile not in profiles():
        return [], f"the profile {profile!r} is not known here"
    own = _digests(dataset, record.case.seed, profile)
    wrong = [name for name in COMPARED if name in said and said[name] != own.get(name)]
    return [
        f"its {name} split has the digest {said[name][:12]}, that of {dataset} here "
        f"{own.get(name, 'none')[:12]}"
        for name in wrong
    ], ""


@lru_cache(maxsize=256)
def _digests(dataset: str, seed: int, profile: str) -> dict[str, str]:
    return dict(divided(dataset, seed, profile, torch.device("cpu")).digests)
