"""The control `retrain` beside Table II: the clean twin, trained from scratch without the fault, is
the upper bound and the price to compare with.

Its scores and training images stand in each record of a subject with a fault
(`subject.fault.twin`): it is trained once for a seed, not once a method. Cost is counted in images
through forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from airepair.records import Record
from airepair.report.cells import Grid, Sample, sample
from airepair.report.ordering import Column, method_title
from airepair.report.table import Tidy, fixed, numbers


def of_retrain(record: Record) -> float | None:
    """Returns the repair's training images as a share of the clean twin's; None if the cell did
    not run or has no twin.
    """
    images = _twin(record).get("images")
    return record.budget.get("backward", 0) / images if images and record.status == "repaired" else None


def of_finetune(record: Record, cells: Grid) -> float | None:
    """Returns the repair's training images as a share of those that `finetune` used on the same
    subject; None if it did not run.
    """
    same = (
        r
        for r in cells.cell((record.case.dataset, record.case.model), "finetune")
        if r.case.seed == record.case.seed
    )
    images = next((r.budget.get("backward", 0) for r in same if r.status == "repaired"), 0)
    return record.budget.get("backward", 0) / images if images and record.status == "repaired" else None


def notes(cells: Grid, methods: list[str]) -> Iterator[str]:
    """Yields what retraining reaches, column by column, and what each method costs beside it and
    beside finetune.
    """
    found = [text for place in cells.columns if (text := _reached(cells.of(place), place))]
    if not found:
        return
    yield (
        "Retrain (the clean twin, from scratch) is recovery 100 by definition. "
        "Accuracy on the spoiled inputs, subject to twin: " + "; ".join(found) + "."
    )
    costs = []
    for method in methods:
        here = [r for r in cells.records if r.case.method == method]
        one, two = sample(here, of_retrain, 100), sample(here, partial(of_finetune, cells=cells), 100)
        if one:
            costs.append(
                f"{method_title(method)} {fixed(one.mean, 0)}" + (f" ({fixed(two.mean, 0)})" if two else "")
            )
    yield "Training images in % of retrain's (of finetune's), mean over all cells: " + ", ".join(costs) + "."


def tidy(cells: Grid, methods: list[str], fault: Mapping[Column, str]) -> Iterator[Tidy]:
    """Yields the cost of every cell, and the row of `retrain` itself."""
    for place in cells.columns:
        start: Tidy = {"dataset": place[0], "model": place[1], "fault": fault[place]}
        for method in methods:
            records = cells.cell(place, method)
            for metric, found in (
                ("cost_of_retrain", sample(records, of_retrain, 100)),
                ("cost_of_finetune", sample(records, partial(of_finetune, cells=cells), 100)),
            ):
                if found:
                    yield (
                        start | {"method": method, "metric": metric} | numbers(found) | {"status": "repaired"}
                    )
        for metric, found in _of_twin(cells.of(place)):
            yield start | {"method": "retrain", "metric": metric} | numbers(found) | {"status": "repaired"}


def _of_twin(records: list[Record]) -> Iterator[tuple[str, Sample]]:
    """Recovery and cost by definition, collateral as measured; one value a seed."""
    facts = _by_seed(records)
    if not facts:
        return
    lost = [
        b - t
        for f in facts
        if (b := f["before"].get("others")) is not None and (t := f["twin"].get("others")) is not None
    ]
    yield "recovery", Sample(tuple(100.0 for _ in facts))
    if lost:
        yield "collateral", Sample(tuple(100 * v for v in lost))
    yield "cost_of_retrain", Sample(tuple(100.0 for _ in facts))
    yield "training_images", Sample(tuple(float(f["twin"]["images"]) for f in facts))


def _reached(records: list[Record], place: Column) -> str:
    facts = _by_seed(records)
    if not facts:
        return ""
    start, end = (Sample(tuple(100 * float(f[k]["spoiled"]) for f in facts)) for k in ("before", "twin"))
    n = "/".join(sorted({str(f["n"]["spoiled"]) for f in facts}, key=int))
    return f"{place[0]}-{place[1]} {fixed(start.mean, 1)} to {fixed(end.mean, 1)} (n = {n})"


def _by_seed(records: list[Record]) -> list[dict[str, Any]]:
    """What the records say of the fault and its twin, one per seed; none of a seed without them."""
    found = {r.case.seed: r.subject["fault"] for r in records if _twin(r).get("images")}
    facts = [found[seed] for seed in sorted(found)]
    return [f for f in facts if None not in (f["before"]["spoiled"], f["twin"]["spoiled"])]


def _twin(record: Record) -> Mapping[str, Any]:
    twin: Mapping[str, Any] = (record.subject.get("fault") or {}).get("twin") or {}
    return twin
