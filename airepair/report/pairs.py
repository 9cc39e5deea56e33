"""Two models on the same test images, seed by seed, as records hold them: a repaired one, its
subject, or a state kept on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airepair.records import Phase, Record
from airepair.records.right_answers import indices, unpack
from airepair.report.statistics import Comparison, Pair, by_image, by_seed


@dataclass(frozen=True)
class Answers:
    """One model at one seed: its scores and, as a record holds them ("" if it holds none), its test
    images and its right answers.
    """

    scores: Mapping[str, float]
    tested: str
    right: str


def before(record: Record) -> Answers:
    """The subject of a record."""
    return Answers(record.before, record.right.get("tested", ""), record.right.get("before", ""))


def after(record: Record) -> Answers:
    """The repaired model of a record."""
    return Answers(record.after, record.right.get("tested", ""), record.right.get("after", ""))


def kept(record: Record, phase: Phase) -> Answers:
    """A state that the method of a record handed in."""
    return Answers(phase.scores, record.right.get("tested", ""), phase.right)


def compared(seeds: Iterable[tuple[Answers, Answers]], metric: str) -> Comparison | None:
    """The first models against the second ones in that metric, over the seeds at which both have it;
    None if there is none.

    Accuracy is compared image by image if every record says which it gets right; any other metric
    is one number per seed. Two models that were tested on different images are not compared.
    """
    found = [(a, b) for a, b in seeds if metric in a.scores and metric in b.scores and a.tested == b.tested]
    if not found:
        return None
    if metric == "accuracy" and all(a.right and b.right for a, b in found):
        return by_image([Pair(unpack(a.right), unpack(b.right), indices(a.tested)) for a, b in found])
    return by_seed([a.scores[metric] - b.scores[metric] for a, b in found])
