"""Two models on the same test images, seed by seed, as records hold them: a repaired one, its
subject, or a state kept on the way.

A comparison depends on its records' texts and numbers alone, so it is kept in the cache under their
digest: a table that is printed again loads neither numpy nor scipy.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from airepair import paths
from airepair.host.digest import of_files, of_json
from airepair.host.kept_values import KeptValues
from airepair.records import Phase, Record
from airepair.report.comparison import Comparison


@dataclass(frozen=True)
class Answers:
    """It holds one model at one seed: its scores and, as a record holds them ("" if it holds none),
    its test images and its right answers.
    """

    scores: Mapping[str, float]
    tested: str
    right: str


def before(record: Record) -> Answers:
    """Returns the subject of a record."""
    return Answers(record.before, record.right.get("tested", ""), record.right.get("before", ""))


def after(record: Record) -> Answers:
    """Returns the repaired model of a record."""
    return Answers(record.after, record.right.get("tested", ""), record.right.get("after", ""))


def at_phase(record: Record, phase: Phase) -> Answers:
    """Returns a state that the method of a record handed in."""
    return Answers(phase.scores, record.right.get("tested", ""), phase.right)


def compared(seeds: Iterable[tuple[Answers, Answers]], metric: str) -> Comparison | None:
    """Returns the first models against the second ones in that metric, over the seeds at which both
    have it; None if there is none.

    Accuracy is compared image by image if every record says which it gets right; any other metric
    is one number per seed. Two models that were tested on different images are not compared.
    """
    found = [(a, b) for a, b in seeds if metric in a.scores and metric in b.scores and a.tested == b.tested]
    if not found:
        return None
    by_image = metric == "accuracy" and all(a.right and b.right for a, b in found)
    asked: list[Any] = (
        [(a.tested, a.right, b.right) for a, b in found]
        if by_image
        else [a.scores[metric] - b.scores[metric] for a, b in found]
    )
    return _comparison(
        kept_comparisons(paths.cache()).of(
            of_json(asked), lambda: asdict(_computed(asked, by_image=by_image))
        )
    )


def _computed(asked: list[Any], *, by_image: bool) -> Comparison:
    """Imported now: it loads numpy and scipy, which take two seconds, for what is not kept."""
    statistics = importlib.import_module("airepair.report.statistics")
    found: Comparison = statistics.by_texts(asked) if by_image else statistics.by_seed(asked)
    return found


def _comparison(kept: Mapping[str, Any]) -> Comparison:
    """The values as JSON has them: lists in place of tuples."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
    return Comparison(**values)


@cache
def kept_comparisons(folder: Path) -> KeptValues:
    """Returns the comparisons that this version of the code has computed with these versions of
    numpy and scipy.
    """
    here = Path(__file__).parent
    code = of_files([here / "comparison.py", here / "statistics.py"])
    key = of_json([code, version("numpy"), version("scipy")])
    return KeptValues(folder / "comparisons" / f"{key[:16]}.jsonl")
