"""All findings of a comparison, and the exit code: missing is a regression, and what cannot be
judged is never green.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from airepair.records import Record
from airepair.report.costs import COLUMNS as COSTS
from airepair.report.facts import wrecked
from airepair.report.gate.decision import Change, change
from airepair.report.gate.pairing import Cell, cells, images, newest
from airepair.report.gate.rules import Rules, better, points

Word = Literal[
    "same", "fine", "regressed", "missing", "undecided", "not comparable", "nothing to compare", "not judged"
]
FINE, REGRESSED, NOT_COMPARED, UNDECIDED = 0, 10, 11, 12
OF_IMAGES = ("accuracy",)  # metrics that a record holds image by image


@dataclass(frozen=True)
class Finding:
    """It holds one cell and one number of it, or the cell as a whole (`name` is ""), or a rule that no
    cell answers (`cell` is "").

    `why` has what the numbers do not say: what is missing, which conditions differ. `allowed`: by
    how much it may get worse. `wrecked`: a new repair left less than half of the accuracy that
    there was.
    """

    cell: str
    name: str
    word: Word
    why: str = ""
    change: Change | None = None
    allowed: float | None = None
    wrecked: bool = False


@dataclass(frozen=True)
class Verdict:
    """It holds the findings in the order of the tables; `refused` are lines of the new records that
    are no records.
    """

    findings: tuple[Finding, ...]
    rules: Rules
    remarks: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def of(self, *words: Word) -> list[Finding]:
        """Returns the findings with one of these words."""
        return [f for f in self.findings if f.word in words]

    @property
    def code(self) -> int:
        """0 fine, 10 regressed, 12 cannot decide, 11 nothing (or not all) could be compared, 2 bad
        input that cost no cell.
        """
        if self.of("regressed", "missing"):
            return REGRESSED
        if self.of("undecided"):
            return UNDECIDED
        if self.of("not comparable") or not self.of("same", "fine"):
            return NOT_COMPARED
        return 2 if self.refused else FINE


def judge(
    old: Iterable[Record],
    new: Iterable[Record],
    rules: Rules,
    *,
    remarks: Iterable[str] = (),
    refused: Iterable[str] = (),
) -> Verdict:
    """Compares the new records with the baseline's, seed by seed and, as far as records hold their
    right answers, image by image.
    """
    baseline = newest(old)
    found: list[Finding] = []
    for cell in cells(baseline, newest(new)):
        spoilt = wrecked(r for _, r in cell.pairs)
        found += [replace(f, wrecked=spoilt) for f in _of_cell(cell, rules)]
    return Verdict((*found, *_unjudged(baseline, rules)), rules, tuple(remarks), tuple(refused))


def _unjudged(baseline: Iterable[Record], rules: Rules) -> list[Finding]:
    """A finding per rule whose number no cell of its method has in the baseline: it judges nothing, and
    would be green.
    """
    repaired = [r for r in baseline if r.status == "repaired"]
    silent = [
        rule
        for rule in rules.effective
        if not any(rule.of(r.case.method) and _value(r, rule.name) is not None for r in repaired)
    ]
    names = dict.fromkeys(map(str, silent))
    return [Finding("", n, "not comparable", f"no cell of the baseline has {n}") for n in names]


def _of_cell(cell: Cell, rules: Rules) -> Iterator[Finding]:
    if not cell.old:
        yield Finding(cell.name, "", "nothing to compare", "the baseline did not repair it")
        return
    judged = [n for n in rules.names if rules.allowed(cell.case.method, n, 0.0) is not None]
    if cell.missing:
        yield Finding(
            cell.name,
            "",
            "missing" if rules.misses(cell.case.method) else "not judged",
            "; ".join(cell.missing),
        )
    if cell.differs:
        yield Finding(cell.name, "", "not comparable" if judged else "not judged", "; ".join(cell.differs))
    for name in judged if cell.pairs else ():
        yield from _of_number(cell, name, rules)


def _of_number(cell: Cell, name: str, rules: Rules) -> Iterator[Finding]:
    values = [(_value(old, name), _value(new, name)) for old, new in cell.pairs]
    gone = [
        _without(name, new)
        for (_, new), (a, b) in zip(cell.pairs, values, strict=True)
        if a is not None and b is None
    ]
    if gone:
        yield Finding(
            cell.name, name, "missing" if rules.misses(cell.case.method) else "not judged", "; ".join(gone)
        )
    kept = [(a, b) for a, b in values if a is not None and b is not None]
    if not kept:
        if not gone:
            yield Finding(cell.name, name, "nothing to compare", f"the baseline has no {name}")
        return
    old, new = [a for a, _ in kept], [b for _, b in kept]
    tested = images(cell) if name in OF_IMAGES and len(kept) == len(values) else []
    found = change(old, new, rules.level, tested)
    allowed = rules.allowed(cell.case.method, name, found.old)
    assert allowed is not None
    if old == new and name not in COSTS and all(map(_same_weights, cell.pairs)):
        yield Finding(cell.name, name, "same", _bits(cell), found, allowed)
    else:
        word: Word = found.verdict(allowed, better(name))  # type: ignore[assignment]
        yield Finding(cell.name, name, word, "", found, allowed)


def _value(record: Record, name: str) -> float | None:
    """The number after the repair as the tables show it: a share in percent."""
    if name in COSTS:
        return COSTS[name][1](record)
    value = record.after.get(name)
    return value if value is None or not points(name) else 100 * value


def _without(name: str, record: Record) -> str:
    reason = " ".join(record.missing.get(name, "").split())
    return f"seed {record.case.seed} has no {name}" + (f" ({reason})" if reason else "")


def _same_weights(pair: tuple[Record, Record]) -> bool:
    first, second = (r.subject.get("repaired_weights") for r in pair)
    return first is not None and first == second


def _bits(cell: Cell) -> str:
    """How strong an answer equal weights are."""
    portable = all(r.provenance.get("arithmetic") == "portable" for pair in cell.pairs for r in pair)
    return "nothing changed: the repaired weights are equal, bit for bit" + (
        ", in portable arithmetic" if portable else ""
    )
