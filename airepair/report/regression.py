"""New records against a baseline's: what changed in each cell, over the seeds that both have, and what is worse by more than a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from airepair.errors import UsageError, choose
from airepair.metrics import entries as metric_entries
from airepair.records import Record
from airepair.report.claims import claims
from airepair.report.costs import COLUMNS as COSTS
from airepair.report.facts import marked, wreck_note
from airepair.report.grid import Grid, Sample, sample, score, status
from airepair.report.layout import Entry, Heading, Row, Table, Tidy, fixed
from airepair.report.order import Column, dataset_title, method_title, model_title

CELLS = ("status", "absent")  # limits that are no numbers: a cell no longer repaired, a cell that is not there any more
SHOWN = ("accuracy", "constraint")
DEFAULT = ("accuracy:1", "status")
MARK = "REGRESSION"


@dataclass(frozen=True)
class Limit:
    """A regression is a change for the worse by more than `amount`: percentage points of a metric, or percent of the old value (`relative`)."""

    name: str
    amount: float = 0.0
    relative: bool = False

    def broken(self, old: float, new: float, better: str) -> bool:
        """Whether `new` is worse than `old` by more than the limit, which way is worse given by `better`."""
        worse = old - new if better == "higher" else new - old
        return round(worse, 9) > (abs(old) * self.amount / 100 if self.relative else self.amount)


def parse(text: str) -> Limit:
    """The limit of `status`, `absent`, `accuracy:0.5` (points) or `seconds:20%` (of the old value). UsageError says what is accepted."""
    name, colon, amount = text.partition(":")
    metrics = [n for n, e in metric_entries().items() if e.better != "none"]
    choose("limit", name, [*CELLS, *COSTS, *metrics])
    if name in CELLS and not colon:
        return Limit(name)
    try:
        value = float(amount.removesuffix("%"))
    except ValueError:
        value = math.nan
    if name in CELLS or not (math.isfinite(value) and value >= 0):
        raise UsageError(
            f"--fail {text!r} is no limit; accepted: status, absent, METRIC:POINTS (accuracy:0.5) or METRIC:PERCENT% (seconds:20%)"
        )
    return Limit(name, value, amount.endswith("%"))


def compare(old: Grid, new: Grid, limits: Sequence[Limit]) -> tuple[Table, list[str]]:
    """The table of all cells of both, and one line for each regression. UsageError for records of two benchmark versions."""
    if old.version != new.version and old.records and new.records:
        raise UsageError(
            f"the baseline is of benchmark version {old.version}, the new records of {new.version}: their numbers do not compare; accepted: the same"
        )
    found: list[str] = []
    rows: list[Row] = []
    tidy: list[Tidy] = []
    names = list(dict.fromkeys([*SHOWN, *(limit.name for limit in limits if limit.name not in CELLS)]))
    both = Grid(old.records + new.records)
    cells = sorted({(c, m) for c in both.columns for m in both.methods if both.cell(c, m)}, key=lambda k: _rank(both, k))
    for place, method in cells:
        pair = old.cell(place, method), new.cell(place, method)
        cell = f"{'-'.join(place)}-{method}"
        words, bad = _status(*pair, limits)
        found += [f"{cell}: {words}"] if bad else []
        entries = [Entry(f"{words} {MARK}" if bad else words)]
        for name in names:
            text, line, worse = _numbers(*pair, name, limits)
            found += [f"{cell}: {name} {text}"] if worse else []
            entries.append(Entry(f"{text} {MARK}" if worse else text))
            tidy.append(
                {"dataset": place[0], "model": place[1], "method": method, "metric": name} | line | {"regression": "yes" if worse else "no"}
            )
        label = f"{dataset_title(place[0])} {model_title(place[1])}"
        title = marked(method_title(method), new.cell(place, method))
        rows.append(Row((label, title), tuple(entries), rule=not rows or rows[-1].labels[0] != label))
    headings = (Heading("Cell", "status"), *(Heading("Change, old → new", n) for n in names))
    says = ", ".join(f"{x.name}{f':{x.amount:g}' if x.name not in CELLS else ''}{'%' * x.relative}" for x in limits) or "none"
    notes = (f"Over the seeds that both have. Limits: {says}. Scores in percent, changes in points.", *wreck_note(new))
    lines = tuple(f"{side}: {line}" for side, g in (("Old", old), ("New", new)) for line in claims(g, ())[:1])
    last = f"{len(found)} regression{'s' * (len(found) != 1)}: {'; '.join(found)}." if found else "No regression."
    return Table(
        "compare", "Comparison with a baseline", ("Subject", "Method"), headings, tuple(rows), notes, (*lines, last), tuple(tidy)
    ), found


def _rank(both: Grid, key: tuple[Column, str]) -> tuple[int, int]:
    return both.columns.index(key[0]), both.methods.index(key[1])


def _status(old: list[Record], new: list[Record], limits: Sequence[Limit]) -> tuple[str, bool]:
    """The status words of both, and whether a seed that was repaired is absent now or ended otherwise, where a limit forbids that."""
    wanted, after = {limit.name for limit in limits}, {r.case.seed: r.status for r in new}
    were = [r.case.seed for r in old if r.status == "repaired"]
    absent = any(s not in after for s in were)
    changed = any(s in after and after[s] != "repaired" for s in were)
    first, second = (status(r).replace("missing", "repaired") for r in (old, new))
    words = first if first == second else f"{first} → {second}"
    return words, (absent and "absent" in wanted) or (changed and "status" in wanted)


def _numbers(old: list[Record], new: list[Record], name: str, limits: Sequence[Limit]) -> tuple[str, Tidy, bool]:
    """The change of one number as text and as a tidy line, and whether it breaks a limit."""
    seeds = {r.case.seed for r in old if _value(r, name) is not None} & {r.case.seed for r in new if _value(r, name) is not None}
    first, second = (_mean([r for r in records if r.case.seed in seeds], name) for records in (old, new))
    if first is None or second is None:
        return "-", {"old": None, "new": None, "change": None, "n": 0}, False
    entry = metric_entries().get(name)
    better = entry.better if entry else "lower"  # of a cost, less is better
    bad = any(limit.broken(first.mean, second.mean, better) for limit in limits if limit.name == name)
    change = second.mean - first.mean
    text = f"{fixed(change, sign=True)} ({fixed(first.mean)} → {fixed(second.mean)})"
    line: Tidy = {"old": round(first.mean, 6) + 0.0, "new": round(second.mean, 6) + 0.0, "change": round(change, 6) + 0.0, "n": first.n}
    return text, line, bad


def _value(record: Record, name: str) -> float | None:
    if name in COSTS:
        return COSTS[name][1](record) if record.status == "repaired" else None
    value, entry = score(record, name), metric_entries().get(name)
    return value if value is None or entry is None or entry.unit in ("count", "value") else 100 * value


def _mean(records: list[Record], name: str) -> Sample | None:
    return sample(records, partial(_value, name=name))
