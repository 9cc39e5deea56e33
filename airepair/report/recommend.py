"""Which method to use for a subject, and why: expected gain with its interval, damage, cost, the
paper's rule of thumb, and when nothing is significant.

Judged on validation, never on test; where the user gave the failing inputs, on validation and on
how many of these are repaired. The same images chose states, learning rates and tuned options, so
the gains of what trains are a little optimistic (OPTIMISM). The bar is the best control that ran: a
method is recommended alone if its gain differs significantly from the bar's, seed by seed, at a level
that allows for its having been chosen as the best of several (Bonferroni).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import norm, t

from airepair.records import Record
from airepair.report.cells import Grid, sample
from airepair.report.facts import by_trials, wrecked
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.table import fixed

# AIREPAIR (Song et al., section III-C): what to try first, by the kind of network.
ATTACHED = "architecture extension"  # for over-fitting, or a constraint to meet
PRIOR = {"small": "direct weight modification", "large": "retraining"}
NOTHING = "noop"
OPTIMISM = (
    "Validation also chose states and learning rates: the gains of methods that train are a little "
    "optimistic here."
)


@dataclass(frozen=True)
class Candidate:
    """It is one method in one column: its gain on validation in points with a 95 % interval, and on
    test what it broke and what it cost.
    """

    method: str
    category: str
    gain: float
    low: float
    high: float
    broken: float | None
    images: float | None
    seconds: float | None
    wrecks: bool
    tuned: bool
    seeds: Mapping[int, float]  # seed -> gain

    @property
    def control(self) -> bool:
        """Whether it is no repair method."""
        return self.category == "control"

    @property
    def text(self) -> str:
        """Returns `finetune (+23.00, 95 % interval +21.10..+24.90, n = 3)`."""
        return (
            f"{method_title(self.method)} ({fixed(self.gain, 2, True)}, "
            f"95 % interval {fixed(self.low, 2, True)}..{fixed(self.high, 2, True)}, n = {len(self.seeds)})"
        )


def candidates(cells: Grid, place: Column) -> list[Candidate]:
    """Returns the methods and controls that have a result in the column, best first."""
    found = [
        c
        for m in cells.methods
        if (c := _candidate([r for r in cells.cell(place, m) if r.status == "repaired"])) is not None
    ]
    return sorted(found, key=lambda c: (-c.gain, c.method))


def _candidate(ran: Sequence[Record]) -> Candidate | None:
    gains = sample(ran, _gain)
    if gains is None:
        return None
    half = _half_width(ran, gains.values)
    broken, images, seconds = (
        sample(ran, f, k) for f, k in ((_broken, 100.0), (_images, 1.0), (_seconds, 1.0))
    )
    mean = gains.mean
    return Candidate(
        ran[0].case.method,
        ran[0].category,
        mean,
        mean - half,
        mean + half,
        broken.mean if broken else None,
        images.mean if images else None,
        seconds.mean if seconds else None,
        wrecked(ran),
        any(map(by_trials, ran)),
        {r.case.seed: g for r in ran if (g := _gain(r)) is not None},
    )


def _half_width(ran: Sequence[Record], gains: Sequence[float]) -> float:
    """Half of the 95 % interval: over seeds if there are several, else from the number of
    validation images (two independent shares).
    """
    if len(gains) > 1:
        return float(t.ppf(0.975, len(gains) - 1)) * _error(gains)
    counts = dict(ran[0].provenance.get("n") or {})
    shares = [
        float(ran[0].subject.get(k) or 0) for k in ("validation_accuracy", "repaired_validation_accuracy")
    ]
    variance = _variance(shares, int(counts.get("validation", 0)))
    rate = _repaired(ran[0])
    if has_own_failing(ran[0]) and rate is not None:
        images = int(counts.get("held_out") or counts.get("failing") or 0)
        variance = (variance + _variance([rate], images)) / 4
    return 100 * float(norm.ppf(0.975)) * math.sqrt(variance)


def _variance(shares: Sequence[float], n: int) -> float:
    """Of a sum or difference of independent shares of n images each."""
    return sum(max(p * (1 - p), 1e-4) for p in shares) / n if n else math.inf


def _gain(record: Record) -> float | None:
    """Points of validation accuracy; of given inputs their mean with the points of repair rate,
    which was 0 (held-out inputs, if there are any).
    """
    after, before = (
        record.subject.get("repaired_validation_accuracy"),
        record.subject.get("validation_accuracy"),
    )
    if after is None or before is None:
        return None
    gain = 100 * (float(after) - float(before))
    repaired = _repaired(record)
    return (gain + 100 * repaired) / 2 if has_own_failing(record) and repaired is not None else gain


def _repaired(record: Record) -> float | None:
    """The repair rate of given inputs, of those held out if there are any; None if neither is known."""
    return record.after.get("held_out_rate", record.after.get("repair_rate"))


def has_own_failing(record: Record) -> bool:
    """Whether the failing inputs were given by the user."""
    return record.provenance.get("failing") == "given"


def _broken(record: Record) -> float | None:
    return record.after.get("break_rate")


def _images(record: Record) -> float | None:
    return float(record.budget["backward"]) if "backward" in record.budget else None


def _seconds(record: Record) -> float | None:
    return None if record.cost.get("seconds") is None else float(record.cost["seconds"])


def recommendations(cells: Grid) -> list[str]:
    """Returns a paragraph per subject."""
    return [
        f"{dataset_title(p[0])}/{model_title(p[1])} ({_judged(cells, p)}): {recommendation(cells, p)}"
        for p in cells.columns
    ]


def _judged(cells: Grid, place: Column) -> str:
    return (
        "validation and repair of the given inputs, averaged"
        if any(map(has_own_failing, cells.of(place)))
        else "validation"
    )


def recommendation(cells: Grid, place: Column) -> str:
    """Returns what to use for the subject, and what the records say for and against it."""
    found = candidates(cells, place)
    most = max((len(c.seeds) for c in found), default=0)
    sound = [c for c in found if not c.control and not c.wrecks]
    methods = [c for c in sound if len(c.seeds) == most]
    controls = [c for c in found if c.control and c.method != NOTHING]
    if sound and not methods:
        fewer = ", ".join(c.text for c in sound)
        return f"no repair method has a result at each of the {most} seeds; on fewer: {fewer}."
    if not methods:
        return "no repair method has a result here" + (
            f"; the best control was {controls[0].text}." if controls else "."
        )
    best = methods[0]
    bar = min(controls, key=lambda c: _ahead(best, c), default=None)
    sentences = [_choice(best, bar, len(methods))]
    used = best if bar is None or _ahead(best, bar) > 0 else bar
    if max(best.gain, bar.gain if bar else 0) > 0:
        sentences.append(_price(used))
    if names := [method_title(c.method) for c in (best, bar) if c is not None and c.tuned]:
        sentences.append(f"Trials on validation chose options of {' and '.join(names)}.")
    sentences.append(_prior(place, methods))
    if not any(c.method.partition("[")[0] == "finetune" for c in controls):
        sentences.append(
            "finetune, the control, was not run: plain training may do as well (--method finetune)."
        )
    names = [f"{method_title(c.method)} ({len(c.seeds)})" for c in sound if c not in methods]
    if names:
        sentences.append(f"Not judged, with fewer than the {most} seeds: {', '.join(names)}.")
    if names := [method_title(c.method) for c in found if c.wrecks]:
        sentences.append(f"Wrecks the model (accuracy under half of before): {', '.join(names)}.")
    return " ".join(s for s in sentences if s)


def _choice(best: Candidate, bar: Candidate | None, methods: int) -> str:
    """What to use; `methods` is how many the best was chosen from."""
    if max(best.gain, bar.gain if bar else 0) <= 0:
        return f"keep the model unchanged: no method that ran improves it; the best was {best.text}."
    if bar is None:
        return f"use {best.text}.{_open(best)}"
    if _ahead(best, bar) <= 0:
        return f"use {bar.text}. No repair method beat it; best was {best.text}.{_open(bar)}"
    low, high = _difference(best, bar, methods)
    interval = (
        f"{fixed(_ahead(best, bar), 2, True)}, "
        f"interval {fixed(low, 2, True)}..{fixed(high, 2, True)} for the best of {methods}"
    )
    if low > 0:
        return f"use {best.text}. It beats {bar.text}, the best control, by {interval}.{_open(best)}"
    return (
        f"use {best.text} or {bar.text}, the best control: the difference is not significant "
        f"({interval}).{_open(best)}"
    )


def _ahead(best: Candidate, bar: Candidate) -> float:
    """The gain over the bar's, over the seeds of both if they share any."""
    seeds = sorted(best.seeds.keys() & bar.seeds.keys())
    if not seeds:
        return best.gain - bar.gain
    return math.fsum(best.seeds[s] - bar.seeds[s] for s in seeds) / len(seeds)


def _difference(best: Candidate, bar: Candidate, methods: int) -> tuple[float, float]:
    """The interval of the gain over the bar, at the 95 % level for the best of so many: over the
    seeds of both, else from both intervals.
    """
    tail, seeds = 1 - 0.025 / methods, sorted(best.seeds.keys() & bar.seeds.keys())
    if len(seeds) > 1:
        found = [best.seeds[s] - bar.seeds[s] for s in seeds]
        mean, half = _ahead(best, bar), float(t.ppf(tail, len(found) - 1)) * _error(found)
        return mean - half, mean + half
    mean = _ahead(best, bar)
    half = math.hypot(best.high - best.gain, bar.high - bar.gain) * float(norm.ppf(tail) / norm.ppf(0.975))
    return mean - half, mean + half


def _error(values: Sequence[float]) -> float:
    """The standard error of the mean."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def _open(used: Candidate) -> str:
    return (
        "" if used.low > 0 else " Its interval includes zero: it is not significantly better than no repair."
    )


def _price(used: Candidate) -> str:
    parts = [f"breaks {fixed(used.broken, 2)} % of the right test inputs" if used.broken is not None else ""]
    parts += [f"costs {used.images:,.0f} training images" if used.images is not None else ""]
    parts += [f"{fixed(used.seconds, 1)} s" if used.seconds is not None else ""]
    found = [p for p in parts if p]
    return f"{method_title(used.method)} {', '.join(found)}." if found else ""


def _prior(place: Column, methods: Sequence[Candidate]) -> str:
    """The paper's rule of thumb and what the records say of it, if both kinds ran."""
    size = "large" if re.search(r"resnet\d", place[1]) else "small"
    first = PRIOR[size]
    of_kind = [c for c in methods if c.category == first]
    others = [c for c in methods if c.category != first]
    attached = next((c for c in methods if c.category == ATTACHED), None)
    more = (
        f" For over-fitting or a constraint it attaches units: {method_title(attached.method)} "
        f"{fixed(attached.gain, 2, True)}."
        if attached
        else ""
    )
    if not of_kind or not others:
        return more.strip()
    verdict = "the records agree" if of_kind[0].gain >= others[0].gain else "the records disagree"
    return (
        f"The AIREPAIR paper (III-C) tries {first} first on a {size} network; {verdict}: "
        f"{method_title(of_kind[0].method)} "
        f"{fixed(of_kind[0].gain, 2, True)}, best of the others {method_title(others[0].method)} "
        f"{fixed(others[0].gain, 2, True)}.{more}"
    )
