"""What stands under every table: n, spread, device, versions, commit, profile, test images, what a
reader must know, what was not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from airepair.records import Record
from airepair.report import twins
from airepair.report.cells import Grid, column
from airepair.report.ordering import Column

VERSIONS = ("airepair", "python", "torch")
NOTHING = "Nothing ran: no cell of this table was repaired."


def claims(
    cells: Grid,
    metrics: Iterable[str],
    paper_columns: Iterable[Column] = (),
    methods: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Returns the lines, the claim first; `metrics` are those of the table. The last line says so
    if nothing ran.
    """
    ran = [r for r in cells.records if r.status == "repaired"]
    lines = [_claim(cells, ran)] if cells.records else []
    lines += _notes(cells)
    lines += [f"{word.capitalize()}: {text}." for word, text in _ended(cells)]
    lines += [f"Missing: {text}." for text in _missing(cells, metrics)]
    lines += twins.lines(twins.twins(cells))
    holes = [f"{'-'.join(p)}: {', '.join(m)}" for p, m in missing_cells(cells, methods).items()]
    absent = ["-".join(p) for p in paper_columns if p not in cells.columns]
    if holes:
        lines.append(f"Not run: {'; '.join(holes)}.")
    if absent:
        lines.append(f"Columns of the paper that were not run: {', '.join(absent)}.")
    if cells.doubled:
        lines.append(
            f"Recorded more than once, the first finished record counts: {', '.join(cells.doubled)}."
        )
    if cells.older:
        lines.append(
            f"Left out: {cells.older} records of an earlier benchmark version, whose numbers do not compare."
        )
    lines += [f"Not averaged: {note}." for note in cells.notes]
    return tuple(lines if ran else [*lines, NOTHING])


def _claim(cells: Grid, ran: list[Record]) -> str:
    seeds = sorted({r.case.seed for r in ran})
    counts = sorted({len(cells.cell(p, m)) for p in cells.columns for m in cells.methods} - {0})
    n = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    parts = [
        f"n = {n} seed{'s' * (counts[-1] > 1)} per cell" + (f" ({runs(seeds)})" if seeds else ""),
        "± is the sample standard deviation over seeds" if len(seeds) > 1 else "one seed, no spread",
        f"device {_each(cells, device)}, {_each(cells, lambda p: p.get('threads'))} "
        f"thread(s){_arithmetic(cells)}",
        f"benchmark version {cells.version}",
        _versions(cells),
        f"commit {_each(cells, commit)}",
        f"profile {_each(cells, lambda p: p.get('profile'))}",
        f"test images: {test_images(cells)}",
    ]
    return f"Claim: {'; '.join(parts)}."


def runs(numbers: Sequence[int]) -> str:
    """Returns ascending numbers with three or more in a row as one: "0 to 19, 22"."""
    groups = groupby(enumerate(numbers), lambda at: at[1] - at[0])
    found = [[n for _, n in group] for _, group in groups]
    return ", ".join(f"{ns[0]} to {ns[-1]}" if len(ns) > 2 else ", ".join(map(str, ns)) for ns in found)


def device(provenance: Any) -> str | None:
    """Returns the device's name, with a CPU's instruction set in native arithmetic: the same name
    stands for several.
    """
    name, instructions = provenance.get("device"), provenance.get("cpu_capability")
    portable = provenance.get("arithmetic") == "portable"
    return f"{name} with {instructions}" if name and instructions and not portable else name


def _arithmetic(cells: Grid) -> str:
    """`, portable arithmetic`; nothing for records from before it was recorded."""
    found = sorted({str(r.provenance["arithmetic"]) for r in cells.records if "arithmetic" in r.provenance})
    return f", {' / '.join(found)} arithmetic" if found else ""


def _versions(cells: Grid) -> str:
    def of(name: str) -> Callable[[Any], Any]:
        return lambda p: p.get("versions", {}).get(name)

    return ", ".join(f"{name} {_each(cells, of(name))}" for name in VERSIONS)


def commit(provenance: Any) -> str | None:
    """Returns the commit's first ten digits, with "(dirty)" where the checkout had changes."""
    head = provenance.get("commit")
    return f"{str(head)[:10]}{' (dirty)' if provenance.get('dirty') else ''}" if head else None


def _each(cells: Grid, value: Callable[[Any], Any]) -> str:
    """Every distinct value among the records' provenance; "not recorded" if there is none."""
    found = {str(v) for v in (value(r.provenance) for r in cells.records if r.provenance) if v is not None}
    return " / ".join(sorted(found)) or "not recorded"


def test_images(cells: Grid) -> str:
    """Returns n of test images for each data set, and what the seeds range over: "digits 497 (over
    splits of these 1,797 images), mnist 10,000".
    """
    counts: dict[str, set[int]] = {}
    scopes: dict[str, set[str]] = {}
    for record in cells.records:
        n = record.provenance.get("n", {}).get("test")
        if n is not None:
            counts.setdefault(record.case.dataset, set()).add(int(n))
            over = str((record.subject.get("split") or {}).get("over") or "")
            scopes.setdefault(record.case.dataset, set()).update({over} - {""})
    texts = [f"{d} {' / '.join(f'{n:,}' for n in sorted(ns))}{_over(scopes[d])}" for d, ns in counts.items()]
    return ", ".join(texts) or "not recorded"


def _over(scopes: set[str]) -> str:
    return f" (over {' / over '.join(sorted(scopes))})" if scopes else ""


def _notes(cells: Grid) -> list[str]:
    """Notes on the subject and the data, each with the columns it holds for; a method's own notes
    stand in the extended report.
    """
    found: dict[str, list[str]] = {}
    for place in cells.columns:
        for note in column_notes(cells.of(place)):
            found.setdefault(note, []).append("-".join(place))
    return [f"Note ({', '.join(places)}): {note}." for note, places in found.items()]


def column_notes(records: Sequence[Record]) -> list[str]:
    """Returns the notes that every record of a column with a baseline shares, and what follows from
    its subject.
    """
    known = [r for r in records if r.before]
    notes = [n for n in (known[0].notes if known else ()) if all(n in r.notes for r in known)]
    if (
        len({r.case.seed for r in known}) > 1
        and _one_subject(known)
        and (same := _same_weights(known)) not in notes
    ):
        notes.append(same)
    if (
        any(r.subject.get("trained_on") == "unknown" for r in known)
        and "failures seen in training" not in notes
    ):
        notes.append("what the subject was trained on is unknown")
    started: dict[int, set[str | None]] = {}
    for record in known:
        started.setdefault(record.case.seed, set()).add(weights(record))
    for seed, found in sorted(started.items()):
        if len(found - {None}) > 1:
            notes.append(f"at seed {seed} the methods did not start from the same weights")
    return [" ".join(n.split()).rstrip(".") for n in notes]


def _one_subject(records: Sequence[Record]) -> bool:
    """Whether every seed repaired the same weights."""
    found = {weights(r) for r in records}
    return len(found) == 1 and None not in found


def _same_weights(records: Sequence[Record]) -> str:
    """What the seeds of such a column change."""
    one = len({str((r.subject.get("data") or {}).get("repair")) for r in records}) == 1
    return (
        "repair seeds only"
        if one
        else "the same weights at every seed, which sets the repair's own randomness and the split"
    )


def weights(record: Record) -> str | None:
    """Returns the digest of the subject's weights, None if the record has none."""
    value = record.subject.get("weights")
    return str(value) if value else None


def _ended(cells: Grid) -> list[tuple[str, str]]:
    """For each status other than "repaired": the cells, those of one method with one reason together."""
    found: dict[str, dict[tuple[str, str], dict[str, list[int]]]] = {}
    for r in cells.records:
        if r.status != "repaired":
            reason = " ".join(r.reason.split()) or "no reason recorded"
            places = found.setdefault(r.status, {}).setdefault((r.case.method, reason), {})
            places.setdefault(f"{'-'.join(column(r))}-{r.case.method}", []).append(r.case.seed)
    return [
        (word, "; ".join(f"{_places(places)} ({reason})" for (_, reason), places in causes.items()))
        for word, causes in sorted(found.items())
    ]


def _places(cells: dict[str, list[int]]) -> str:
    return ", ".join(f"{cell} s{','.join(map(str, seeds))}" for cell, seeds in cells.items())


def _missing(cells: Grid, metrics: Iterable[str]) -> list[str]:
    """The table's metrics that cells which ran do not have, with the reason."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        for r in cells.records:
            if r.status == "repaired" and metric not in r.after:
                reason = " ".join(r.missing.get(metric, "no reason recorded").split())
                found.setdefault(f"{metric} ({reason})", []).append(r.key)
    return [f"{what} in {', '.join(keys)}" for what, keys in found.items()]


def missing_cells(cells: Grid, methods: Sequence[str] | None = None) -> dict[Column, list[str]]:
    """Returns the rows of the table (`methods`, else every method of the cells) that a column has no
    record of.
    """
    holes = {p: [m for m in methods or cells.methods if not cells.cell(p, m)] for p in cells.columns}
    return {p: m for p, m in holes.items() if m}
