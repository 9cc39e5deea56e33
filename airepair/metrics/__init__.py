"""The metrics, one file each: pure functions of the exams before and after. A new one is its file and
its line here.

This page loads without torch: reports need unit and direction only. Other packages use the entry
point `airepair.metrics`, whose object is an `Entry`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Literal

from airepair.errors import one_line
from airepair.registry import installed_points

if TYPE_CHECKING:
    from airepair.evaluation.exams import Exams


@dataclass(frozen=True)
class Missing:
    """It says why a metric cannot be computed. A missing value is never 0 and never NaN."""

    reason: str


@dataclass(frozen=True)
class Entry:
    """It describes one metric: `place` is the function "module:name" of (before, after); `better`
    says which way is good ("none": neither).

    `low` and `high` are the ends of its range; None: those of its unit (see RANGES). A record with
    another value is refused.
    """

    place: str
    title: str
    unit: Literal["share", "difference", "count", "value"]
    better: Literal["higher", "lower", "none"]
    source: str
    low: float | None = None
    high: float | None = None

    @property
    def range(self) -> tuple[float, float]:
        """Returns the least and the largest value that the metric can have."""
        low, high = RANGES[self.unit]
        return (low if self.low is None else self.low), (high if self.high is None else self.high)


RANGES = {
    "share": (0.0, 1.0),
    "difference": (-1.0, 1.0),
    "count": (0.0, math.inf),
    "value": (-math.inf, math.inf),
}

METRICS: dict[str, Entry] = {
    "accuracy": Entry("airepair.metrics.accuracy:accuracy", "accuracy", "share", "higher", "docs/metrics.md"),
    "constraint": Entry(
        "airepair.metrics.constraint:constraint",
        "constraint accuracy (groups)",
        "share",
        "higher",
        "DL2; AIREPAIR II-B",
    ),
    "constraint_tempered": Entry(
        "airepair.metrics.constraint:constraint_tempered",
        "constraint accuracy at the best temperature",
        "share",
        "higher",
        "docs/metrics.md",
    ),
    "robustness": Entry(
        "airepair.metrics.robustness:robustness",
        "pairwise robustness satisfaction",
        "share",
        "higher",
        "DL2 RobustnessT",
    ),
    "similarity": Entry(
        "airepair.metrics.similarity:similarity", "class similarity", "share", "higher", "DL2 CSimilarityT"
    ),
    "close_pairs": Entry(
        "airepair.metrics.robustness:close_pairs", "close pairs", "share", "none", "docs/metrics.md"
    ),
    "confusion_ab": Entry(
        "airepair.metrics.confusion:confusion_ab",
        "confusion accuracy (a, b)",
        "share",
        "higher",
        "AIREPAIR II-B",
    ),
    "confusion_ba": Entry(
        "airepair.metrics.confusion:confusion_ba",
        "confusion accuracy (b, a)",
        "share",
        "higher",
        "AIREPAIR II-B",
    ),
    "confusion": Entry(
        "airepair.metrics.confusion:confusion", "confusion accuracy", "share", "higher", "AIREPAIR II-B"
    ),
    "repair_rate": Entry(
        "airepair.metrics.flips:repair_rate", "repair rate", "share", "higher", "Arachne; PRDNN (efficacy)"
    ),
    "held_out_rate": Entry(
        "airepair.metrics.flips:held_out_rate",
        "repair rate, inputs held out",
        "share",
        "higher",
        "docs/protocol.md",
    ),
    "generalisation": Entry(
        "airepair.metrics.flips:generalisation", "generalisation", "share", "higher", "PRDNN; Arachne v2"
    ),
    "break_rate": Entry("airepair.metrics.flips:break_rate", "break rate", "share", "lower", "Arachne"),
    "net_change": Entry(
        "airepair.metrics.flips:net_change", "net change", "difference", "higher", "docs/metrics.md"
    ),
    "drawdown": Entry("airepair.metrics.drawdown:drawdown", "drawdown", "difference", "lower", "PRDNN"),
    "worst_class_loss": Entry(
        "airepair.metrics.drawdown:worst_class_loss",
        "largest loss in a class",
        "difference",
        "lower",
        "docs/metrics.md",
    ),
    "worst_class_accuracy": Entry(
        "airepair.metrics.worst_class:worst_class_accuracy",
        "accuracy of the worst class",
        "share",
        "higher",
        "docs/metrics.md",
    ),
    "class_gap": Entry(
        "airepair.metrics.worst_class:class_gap",
        "gap between the classes",
        "share",
        "lower",
        "docs/metrics.md",
    ),
    "kept": Entry("airepair.metrics.kept:kept", "kept answers", "share", "higher", "this project (--keep)"),
    "top5": Entry("airepair.metrics.top5:top5", "top-5 accuracy", "share", "higher", "docs/metrics.md"),
    "group_accuracy": Entry(
        "airepair.metrics.group_accuracy:group_accuracy",
        "group accuracy",
        "share",
        "higher",
        "DL2's code (GroupAcc)",
    ),
    "calibration_error": Entry(
        "airepair.metrics.calibration:calibration_error",
        "calibration error",
        "share",
        "lower",
        "Guo et al., ICML 2017",
    ),
    "pgd_accuracy": Entry(
        "airepair.metrics.pgd:pgd_accuracy",
        "accuracy under PGD",
        "share",
        "higher",
        "Madry et al., ICLR 2018",
    ),
    "churn": Entry(
        "airepair.metrics.churn:churn", "churn", "share", "none", "Milani Fard et al., NeurIPS 2016"
    ),
    "negative_flips": Entry(
        "airepair.metrics.churn:negative_flips",
        "negative flip rate",
        "share",
        "lower",
        "Yan et al., CVPR 2021",
    ),
    "backward_compatibility": Entry(
        "airepair.metrics.churn:backward_compatibility",
        "backward compatibility",
        "share",
        "higher",
        "Bansal et al., AAAI 2019",
    ),
    "recovery": Entry(  # 1 is the clean twin: a repair can be better than that, or worse than no repair
        "airepair.metrics.recovery:recovery",
        "recovery",
        "share",
        "higher",
        "docs/faults.md",
        -math.inf,
        math.inf,
    ),
    "collateral": Entry(
        "airepair.metrics.recovery:collateral", "collateral", "difference", "lower", "docs/faults.md"
    ),
    "spoiled_accuracy": Entry(
        "airepair.metrics.recovery:spoiled_accuracy",
        "accuracy on spoiled inputs",
        "share",
        "higher",
        "docs/faults.md",
    ),
    "attack_success": Entry(
        "airepair.metrics.attack_success:attack_success",
        "attack success",
        "share",
        "lower",
        "Gu et al., BadNets, arXiv 1708.06733",
    ),
    "localisation_precision": Entry(
        "airepair.metrics.localisation:localisation_precision",
        "localisation precision",
        "share",
        "higher",
        "docs/faults.md",
    ),
    "localisation_recall": Entry(
        "airepair.metrics.localisation:localisation_recall",
        "localisation recall",
        "share",
        "higher",
        "docs/faults.md",
    ),
    "clean_accuracy": Entry(
        "airepair.metrics.clean_accuracy:clean_accuracy",
        "accuracy on clean images",
        "share",
        "higher",
        "docs/metrics.md",
    ),
}


def entries() -> dict[str, Entry]:
    """Returns the metrics of this package and of installed ones that import; a built-in name cannot
    be taken.
    """
    return METRICS | _installed()[0]


def broken() -> dict[str, str]:
    """Returns the installed metrics that cannot be imported, with the reason; the others stay
    usable.
    """
    return _installed()[1]


def _installed() -> tuple[dict[str, Entry], dict[str, str]]:
    return _imported(installed_points("airepair.metrics"))


@cache
def _imported(points: tuple[EntryPoint, ...]) -> tuple[dict[str, Entry], dict[str, str]]:
    """Once for the same points: an import that fails would be tried again at every exam."""
    found: dict[str, Entry] = {}
    reasons: dict[str, str] = {}
    for point in points:
        if point.name in METRICS:
            reasons[f"{point.name} ({point.value})"] = (
                f"metric {point.name!r} ({point.value}) is ignored: the name is this project's own"
            )
            continue
        try:
            entry = point.load()
            if not isinstance(entry, Entry):
                raise TypeError(f"it is {type(entry).__name__}, not airepair.metrics.Entry")
            found[point.name] = entry
        except (Exception, SystemExit) as error:
            reasons[point.name] = (
                f"metric {point.name!r} ({point.value}) cannot be imported: {one_line(error)}"
            )
    return found, reasons


def score(before: Exams, after: Exams) -> tuple[Mapping[str, float], Mapping[str, str]]:
    """Returns every metric of `after` against `before`: the values, and for the missing ones the
    reasons. A value outside the metric's range is missing: a record that held it would be refused.
    """
    values, missing = {}, {}
    for name, entry in entries().items():
        value, (low, high) = _value(name, entry, before, after), entry.range
        if isinstance(value, Missing):
            missing[name] = value.reason
        elif not math.isfinite(value):
            missing[name] = f"not finite ({value})"
        elif not low <= value <= high:
            missing[name] = f"out of its range ({value}; accepted: {low:g}..{high:g})"
        else:
            values[name] = float(value)
    return values, missing


def _value(name: str, entry: Entry, before: Exams, after: Exams) -> float | Missing:
    """What the metric says; an installed one that raises is missing with the reason, an error in
    one of ours is a fault of ours.
    """
    module, _, function = entry.place.partition(":")
    try:
        value: float | Missing = getattr(importlib.import_module(module), function)(before, after)
        return value if isinstance(value, Missing) else float(value)
    except Exception as error:
        if name in METRICS:
            raise
        return Missing(f"{entry.place} raises {one_line(error)}")
