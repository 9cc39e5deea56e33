"""In which order subjects are trained before the cells that need them, so that each is trained once.
Free of torch and of Ray.

A subject takes its class pair from its column's subject of seed 0, and faulty subjects of one
network share a clean twin. If two machines made such a pair at the same time, one training would
happen twice, and in native arithmetic with other bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from airepair.runner.cell import CellSpec

KINDS = (".safetensors", ".json")  # of a baseline's files in the cache


@dataclass(frozen=True)
class SubjectKey:
    """What tells subjects apart that are trained here."""

    data: str
    model: str
    seed: int
    profile: str
    device: str

    @classmethod
    def of(cls, spec: CellSpec) -> SubjectKey | None:
        """Returns the key of a cell's subject; None if a user brought it."""
        if spec.brought is not None:
            return None
        return cls(spec.data, spec.case.model, spec.case.seed, spec.profile, spec.device)

    @property
    def family(self) -> SubjectKey:
        """Returns the subjects that may share a training with this one: those of its data set,
        network and seed, whatever their faults.
        """
        return replace(self, data=self.data.partition("+")[0], model=self.model.partition("+")[0])


class Baselines:
    """What is to be trained, what is being trained, and what is there."""

    def __init__(self) -> None:
        self.wanted: dict[SubjectKey, CellSpec] = {}
        self.running: set[SubjectKey] = set()
        self.ended: set[SubjectKey] = set()

    def want(self, spec: CellSpec) -> None:
        """The cell needs its subject, and that of seed 0 before it."""
        first = replace(spec, case=replace(spec.case, seed=0))
        for needed in (first, spec):
            key = SubjectKey.of(needed)
            if key is not None and key not in self.ended | self.running:
                self.wanted.setdefault(key, needed)

    def startable(self) -> Iterator[tuple[SubjectKey, CellSpec]]:
        """Takes what can be trained now: nothing that may share a training with what is running or
        must come before it.
        """
        for key in list(self.wanted):
            first = replace(key, seed=0)
            if key.family in {k.family for k in self.running} or (key != first and first not in self.ended):
                continue
            self.running.add(key)
            yield key, self.wanted.pop(key)

    def end(self, key: SubjectKey) -> None:
        """Its training has ended, well or not."""
        self.running.discard(key)
        self.ended.add(key)


def baseline_files(cache: Path, key: SubjectKey) -> dict[str, bytes]:
    """Returns the files in the cache that making this subject may read: those of its family, and of
    seed 0's.
    """
    family = key.family
    patterns = {f"{family.data}*-{family.model}*-s{seed}-*" for seed in (0, key.seed)}
    paths = sorted({p for pattern in patterns for p in cache.glob(pattern) if p.suffix in KINDS})
    return {p.name: p.read_bytes() for p in paths}
