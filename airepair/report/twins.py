"""Twins: methods whose repairs give the same result at every seed, so that what is found of them is
counted once.

Two repairs are the same if their weights are, or if they get the same test images right (a network
of another form may compute the same). Repairs that change nothing are no twins: they are `noop`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from airepair.case import split_variant
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


def is_the_method(ablated: Record, own: Record) -> bool:
    """Returns whether an ablation ran with the method's own settings (a profile gave both the same), so that
    it is the same cell run twice and no comparison.
    """
    settings = [{name: o.get("value") for name, o in r.options.items()} for r in (ablated, own)]
    return bool(settings[0]) and settings[0] == settings[1]


def ablation_pairs(cells: Grid, place: Column, name: str) -> list[tuple[Record, Record]]:
    """Returns, at each seed where both repaired, an ablation's record and its method's; none for a row
    that is no ablation.
    """
    ablated = {r.case.seed: r for r in cells.cell(place, name) if r.status == "repaired" and ablation(r)}
    return [
        (ablated[r.case.seed], r)
        for r in cells.cell(place, split_variant(name)[0])
        if r.status == "repaired" and r.case.seed in ablated
    ]


def listed(found: Mapping[str, Sequence[str]]) -> str:
    """Returns the methods, each with where something holds: `minimal (digits-fc); prdnn (digits-cnn)`."""
    return "; ".join(f"{method_title(name)} ({', '.join(places)})" for name, places in found.items())


def listed_lines(sentences: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Returns each sentence with the methods that it is about; none for one about no method."""
    return [f"{text}: {listed(found)}." for text, found in sentences.items() if found]


def ablation_lines(cells: Grid) -> list[str]:
    """Returns two sentences: which ablations are the method itself, and which of the others give the
    method's result at every seed.
    """
    itself, idle = dict[str, list[str]](), dict[str, list[str]]()
    for place in cells.columns:
        for name in cells.methods:
            pairs = ablation_pairs(cells, place, name)
            if pairs and all(is_the_method(a, r) for a, r in pairs):
                itself.setdefault(name, []).append("-".join(place))
            elif (result := _result(r for _, r in pairs)) and result == _result(a for a, _ in pairs):
                idle.setdefault(name, []).append("-".join(place))
    return listed_lines(
        {
            "Not compared, since its settings are the method's own": itself,
            "Without its idea the method gives the same result at every seed": idle,
        }
    )


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
