"""Paired tests over seeds and test images, from the right answers that records hold.

McNemar's exact test for each seed; for all seeds together an interval and a p-value (statistics.py)
in which the images of the source data set are the clusters, since a seed that draws its own test
split shares some images with another one.
"""

from __future__ import annotations

from airepair.records import Record
from airepair.report.cells import Grid
from airepair.report.claims import claims
from airepair.report.comparison import DRAWS, Comparison
from airepair.report.facts import marked, wreck_note
from airepair.report.ordering import Column, dataset_title, method_title, model_title
from airepair.report.pairs import after, before, compared
from airepair.report.table import Entry, Heading, Row, Table, Tidy, fixed


def paired(cells: Grid) -> Table | None:
    """Compares every method with the subject it repaired and with finetune; None if no record says
    which test images it gets right.
    """
    rows: list[Row] = []
    tidy: list[Tidy] = []
    for place in cells.columns:
        for method in cells.methods:
            for against in ("the subject", "finetune"):
                found = None if method in (against, "noop") else _of(cells, place, method, against)
                if found is None:
                    continue
                subject = f"{dataset_title(place[0])} {model_title(place[1])}"
                entries = tuple(map(Entry, _texts(found)))
                title = marked(method_title(method), cells.cell(place, method))
                rows.append(
                    Row((subject, title, against), entries, rule=not rows or rows[-1].labels[0] != subject)
                )
                tidy.append(_line(place, method, against, found))
    headings = (
        Heading("Images per seed", "gained"),
        Heading("Images per seed", "lost"),
        Heading("All seeds", "difference"),
        Heading("All seeds", "95 % interval"),
        Heading("All seeds", "p"),
        Heading("Each seed", "McNemar's exact p"),
    )
    notes = (
        f"Difference in percentage points of accuracy; the interval is a bootstrap over seeds and images "
        f"of the data set ({DRAWS:,} draws), p the"
        " larger one of that and of a permutation test over seeds; not corrected for the number of rows.",
        "finetune is its final state here, whatever its budget; the state of equal budget stands in the "
        "extended report.",
        *wreck_note(cells),
    )
    title = "Paired tests over seeds and test images"
    stub = ("Subject", "Method", "Against")
    return (
        Table("paired", title, stub, headings, tuple(rows), notes, claims(cells, ()), tuple(tidy))
        if rows
        else None
    )


def _of(cells: Grid, place: Column, method: str, against: str) -> Comparison | None:
    others = {r.case.seed: r for r in cells.cell(place, against) if r.status == "repaired"}
    ran = [r for r in cells.cell(place, method) if r.status == "repaired" and r.right]
    if against == "the subject":
        return compared(((after(r), before(r)) for r in ran), "accuracy")
    both: list[tuple[Record, Record]] = [(r, others[r.case.seed]) for r in ran if r.case.seed in others]
    return compared(((after(r), after(o)) for r, o in both if o.right), "accuracy")


def _texts(found: Comparison) -> list[str]:
    return [
        ", ".join(map(str, found.gained)),
        ", ".join(map(str, found.lost)),
        fixed(100 * found.difference, sign=True),
        interval(found),
        p_text(found.p),
        ", ".join(map(p_text, found.mcnemar)),
    ]


def _line(place: Column, method: str, against: str, found: Comparison) -> Tidy:
    return {
        "dataset": place[0],
        "model": place[1],
        "method": method,
        "against": against,
        "n": found.n,
        "difference": round(100 * found.difference, 6) + 0.0,
        **bounds(found),
        "gained": " ".join(map(str, found.gained)),
        "lost": " ".join(map(str, found.lost)),
        "mcnemar": " ".join(f"{p:.6g}" for p in found.mcnemar),
    }


def interval(found: Comparison) -> str:
    """Returns the 95 % interval in percentage points."""
    if found.low is None or found.high is None:
        return "one seed"
    return f"{fixed(100 * found.low, sign=True)} to {fixed(100 * found.high, sign=True)}"


def p_text(value: float) -> str:
    """Returns a p-value with three digits."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def bounds(found: Comparison) -> Tidy:
    """Returns the interval and p-values as a CSV has them."""

    def points(value: float | None) -> float | None:
        return None if value is None else round(100 * value, 6) + 0.0

    p = {"p": found.p, "p_bootstrap": found.bootstrap, "p_permutation": found.permutation}
    return {"low": points(found.low), "high": points(found.high), **{k: round(v, 6) for k, v in p.items()}}
