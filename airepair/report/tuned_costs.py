"""What a tuned setting costs: METHOD[tuned] beside METHOD, in every metric. Tuning looks at
accuracy, and may pay with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from airepair.case import TUNED, with_variant
from airepair.metrics import entries
from airepair.records import Record
from airepair.report.cells import Grid

LEAST = 0.5  # points from which on a loss is named
MOST = 5  # losses that are named, the largest first


def tuned_costs(cells: Grid) -> Iterator[str]:
    """Yields a sentence for each tuned method that ran beside its default settings on the same
    seeds.
    """
    repaired = {
        (r.case.dataset, r.case.model, r.case.method, r.case.seed): r
        for r in cells.records
        if r.status == "repaired"
    }
    places = dict.fromkeys(
        (d, m, r.case.base_method) for (d, m, _, _), r in repaired.items() if r.case.variant == TUNED
    )
    for dataset, model, method in places:
        tuned = with_variant(method, TUNED)
        seeds = [
            s
            for (d, m, name, s) in repaired
            if (d, m, name) == (dataset, model, tuned) and (d, m, method, s) in repaired
        ]
        pairs = [(repaired[dataset, model, method, s], repaired[dataset, model, tuned, s]) for s in seeds]
        if pairs:
            yield f"{tuned} beside {method} on {dataset}-{model} (n = {len(pairs)}): {_sentence(pairs)}"


def _sentence(pairs: list[tuple[Record, Record]]) -> str:
    found = {name: change for name in entries() if (change := _change(pairs, name)) is not None}
    losses = {
        name: change for name, change in found.items() if name != "accuracy" and _worse(name, change) >= LEAST
    }
    worst = sorted(losses, key=lambda name: -_worse(name, losses[name]))[:MOST]
    gain = f"accuracy {found['accuracy']:+.2f} points" if "accuracy" in found else "accuracy is missing"
    if not worst:
        return f"{gain}; no other metric is worse by {LEAST:g} points"
    words = [f"{entries()[name].title} {losses[name]:+.2f}" for name in worst]
    more = f" and {len(losses) - len(worst)} more" if len(losses) > len(worst) else ""
    return f"{gain}; what that costs: {', '.join(words)}{more}"


def _change(pairs: list[tuple[Record, Record]], name: str) -> float | None:
    """Mean difference in points; None for a metric without a direction or unit of points, and if a
    value is missing.
    """
    entry = entries()[name]
    if (
        entry.better == "none"
        or entry.unit not in ("share", "difference")
        or any(name not in r.after for pair in pairs for r in pair)
    ):
        return None
    return 100 * fmean(after.after[name] - before.after[name] for before, after in pairs)


def _worse(name: str, change: float) -> float:
    return -change if entries()[name].better == "higher" else change
