"""Twins: methods whose repairs give the same result at every seed, so that what is found of them is
counted once.

Two repairs are the same if their weights are, or if they get the same test images right (a network
of another form may compute the same). Repairs that change nothing are no twins: they are `noop`.
"""

from __future__ import annotations

from collections.abc import Iterable

from airepair.records import Record
from airepair.report.cells import Grid, ablation, column
from airepair.report.ordering import Column, method_title

Twins = dict[Column, tuple[tuple[str, ...], ...]]


def twins(cells: Grid) -> Twins:
    """Returns, for each column the groups of two or more methods with one result per seed, in the
    order of the rows; ablations are left out.
    """
    found: Twins = {}
    for place in cells.columns:
        groups: dict[tuple[tuple[int, str], ...], list[str]] = {}
        for method in cells.plain.methods:
            if result := _result(cells.cell(place, method)):
                groups.setdefault(result, []).append(method)
        if several := tuple(tuple(group) for group in groups.values() if len(group) > 1):
            found[place] = several
    return found


def _result(records: Iterable[Record]) -> tuple[tuple[int, str], ...]:
    """Seed and result of each repaired cell; empty if one is unknown, or nothing was changed at
    any seed.
    """
    ran = [r for r in records if r.status == "repaired"]
    pairs = [_before_and_after(r) for r in ran]
    if any(after is None for _, after in pairs) or all(before == after for before, after in pairs):
        return ()
    return tuple((r.case.seed, str(after)) for r, (_, after) in zip(ran, pairs, strict=True))


def _before_and_after(record: Record) -> tuple[str | None, str | None]:
    """Which test images are right, as the record packs them; without that the digests of the weights."""
    if record.right:
        return record.right.get("before"), record.right.get("after")
    return record.subject.get("weights"), record.subject.get("repaired_weights")


def counted_once(cells: Grid) -> Grid:
    """Returns the grid without the cells of a method that is an earlier one's twin in its column,
    its ablations included.
    """
    later = {
        (place, method) for place, groups in twins(cells).items() for group in groups for method in group[1:]
    }
    return cells.where(
        lambda r: (column(r), r.case.base_method if ablation(r) else r.case.method) not in later
    )


def once(methods: Iterable[str], places: dict[str, list[Column]], found: Twins) -> list[str]:
    """Returns the methods without those that are, in each of their columns (`places`), the twin of
    an earlier one.
    """
    kept: list[str] = []
    for method in methods:
        alike = [
            {m for group in found.get(place, ()) if method in group for m in group}
            for place in places[method]
        ]
        if not alike or not set.intersection(*alike) & set(kept):
            kept.append(method)
    return kept


def lines(found: Twins) -> list[str]:
    """One sentence for each group of twins, with the columns it holds in."""
    places: dict[tuple[str, ...], list[str]] = {}
    for place, groups in found.items():
        for group in groups:
            places.setdefault(group, []).append("-".join(place))
    return [
        f"Counted once: {' and '.join(map(method_title, group))} give the same result at every seed "
        f"({', '.join(where)})."
        for group, where in places.items()
    ]
