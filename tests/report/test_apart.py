"""Records that must not be averaged stand in columns and rows of their own, and the claim says what
differs.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from airepair import BENCHMARK_VERSION
from airepair.records import Record
from airepair.report import documents, render, terminal
from airepair.report.cells import Grid, grid
from airepair.report.leaderboard import leaderboard
from airepair.report.paper import Paper
from airepair.report.screen import _beside
from airepair.report.states import control_of
from airepair.report.table1 import table1
from airepair.report.table3 import table3
from tests.report_records import record


def gained(case: str, gain: float, **fields: Any) -> Record:
    """A repaired record with that gain in accuracy."""
    return record(case, gains={"accuracy": gain}, **fields)


def weight(value: Any) -> dict[str, Any]:
    """An option."""
    return {"weight": {"value": value, "given": True, "origin": "given"}}


def with_provenance(found: Record, **values: Any) -> Record:
    """The record under other conditions."""
    return dataclasses.replace(found, provenance={**found.provenance, **values})


def means(cells: Grid) -> dict[str, list[float]]:
    """Per row its gains in percent."""
    return {
        f"{'-'.join(p)}-{m}": [
            round(100 * (r.after["accuracy"] - r.before["accuracy"]), 2) for r in cells.cell(p, m)
        ]
        for p in cells.columns
        for m in cells.methods
        if cells.cell(p, m)
    }


def test_seeds_with_other_options_are_no_seeds_of_one_row() -> None:
    """Weight 5 on two seeds and 50 on the third: two rows, the larger one with the plain name; the
    claim has both values.
    """
    records = [
        gained(f"digits-cnn-dl2-s{s}", g, options=weight(w))
        for s, g, w in ((0, 0.01, 5), (1, 0.02, 5), (2, 0.09, 50))
    ]
    cells = grid(records)
    assert means(cells) == {"digits-cnn-dl2": [1.0, 2.0], "digits-cnn-dl2[weight:50]": [9.0]}
    assert (
        "Not averaged: digits-cnn-dl2 was recorded with weight 5 and 50: [weight:50] stands apart."
        in terminal(records, width=200)
    )


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"profile": "paper"}, "profile:paper"),
        ({"arithmetic": "portable"}, "arithmetic:portable"),
    ],
)
def test_another_condition_is_another_column(change: dict[str, Any], label: str) -> None:
    """Profile and arithmetic; what did not run stays where most are, since its record does not say."""
    usual = {"arithmetic": "native"}
    records = [with_provenance(gained(f"digits-cnn-{m}-s0", 0.01), **usual) for m in ("noop", "finetune")]
    records += [with_provenance(gained("digits-cnn-dl2-s0", 0.02), **usual | change)]
    records += [
        record(
            "digits-cnn-apricot-s0",
            "crashed",
            provenance={"benchmark_version": BENCHMARK_VERSION},
            before={},
            options={},
            subject={},
        )
    ]
    cells = grid(records)
    assert cells.columns == [("digits", "cnn"), ("digits", f"cnn[{label}]")]
    assert cells.cell(("digits", "cnn"), "apricot")
    assert cells.cell(("digits", "cnn"), "dl2") == []


def data(found: Record, **digests: str) -> Record:
    """The record with those digests."""
    return dataclasses.replace(found, subject={**found.subject, "data": {"split_version": "1", **digests}})


def test_a_foreign_test_split_is_another_column() -> None:
    """In silence it would be one mean; in version 1 also where every method of one seed has it."""
    first = {"benchmark_version": 1}
    records = [
        with_provenance(data(gained(f"digits-cnn-{m}-s{s}", 0.01), test="aaaa" * 16), **first)
        for m in ("noop", "dl2")
        for s in (0, 1)
    ]
    foreign = [
        with_provenance(data(gained(f"digits-cnn-{m}-s2", 0.5), test="bbbb" * 16), **first)
        for m in ("noop", "dl2")
    ]
    cells = grid([*records, *foreign])
    assert cells.columns == [("digits", "cnn"), ("digits", "cnn[data:test.bbbbbbbb]")]
    assert [len(cells.of(p)) for p in cells.columns] == [4, 2]


def test_from_version_2_on_each_seed_has_its_own_splits() -> None:
    """Digests then differ from seed to seed, and must agree between the methods of one seed."""
    records = [
        with_provenance(
            data(gained(f"digits-cnn-{m}-s{s}", 0.01), test=f"{s}{s}{s}{s}" * 16), benchmark_version=2
        )
        for m in ("noop", "dl2", "apricot")
        for s in (0, 1)
    ]
    assert grid(records).columns == [("digits", "cnn")]
    records[-1] = data(records[-1], test="ffff" * 16)
    assert grid(records).columns == [("digits", "cnn"), ("digits", "cnn[data:test.ffffffff]")]


def test_after_a_change_of_source_the_last_record_of_a_cell_counts() -> None:
    """A resumed run has both; what was run again replaces, and seeds that were not are a row of their own."""

    def of_source(seed: int, gain: float, source: str) -> Record:
        return gained(f"digits-cnn-dl2-s{seed}", gain, fingerprint={"method": "dl2", "source": source * 64})

    old, new = [of_source(s, 0.01, "a") for s in (0, 1, 2)], [of_source(s, 0.02, "b") for s in (0, 1, 2)]
    assert means(grid([*old, *new])) == {"digits-cnn-dl2": [2.0, 2.0, 2.0]}
    assert means(grid([*old, *new[:2]])) == {
        "digits-cnn-dl2": [2.0, 2.0],
        "digits-cnn-dl2[source:aaaaaaaa]": [1.0],
    }


def test_an_ablation_or_a_tuned_row_that_stands_apart_stays_what_it_is() -> None:
    """Its name has what differs behind it; it is no method of Table I, and one that is tuned is no ablation,
    has its note below Table I and stands beside the tuned control.
    """
    rows = ("dl2", "dl2[weight_0]", "dl2[tuned]", "finetune[tuned]", "finetune")
    records = [
        gained(f"digits-cnn-{m}-s{s}", 0.1, options=weight(w if m.startswith("dl2[") else 5))
        for m in rows
        for s, w in ((0, 7), (1, 7), (2, 50))
    ]
    cells = grid(records)
    apart = {"dl2[weight_0,weight:50]", "dl2[tuned,weight:50]"}
    assert apart < set(cells.methods)
    assert set(cells.plain.methods) == {
        "dl2",
        "finetune",
        "dl2[tuned]",
        "dl2[tuned,weight:50]",
        "finetune[tuned]",
    }
    table = table3(cells)
    assert table is not None
    assert {row.entries[1].text for row in table.rows} == {"weight_0", "weight_0,weight:50"}
    (tuned,) = cells.cell(("digits", "cnn"), "dl2[tuned,weight:50]")
    assert control_of(cells, ("digits", "cnn"), tuned)[0] == "finetune[tuned]"
    alone = cells.where(lambda r: r.case.method in ("dl2", "dl2[tuned,weight:50]"))
    assert "settings that `airepair tune` chose" in " ".join(table1(alone, Paper()).notes)
    assert not _beside("finetune[tuned,weight:50]")
    assert _beside("finetune[failing+passing]")


def test_the_order_of_records_leaves_no_trace() -> None:
    """Two conditions with as many records each: the plain name goes to the same one, however they come."""
    records = [gained(f"digits-cnn-dl2-s{s}", 0.01 * s, options=weight(5 if s < 2 else 50)) for s in range(4)]
    shuffled = records.copy()
    random.Random(3).shuffle(shuffled)
    assert means(grid(records)) == means(grid(shuffled))


def test_every_report_is_made_of_records_that_stand_apart() -> None:
    """Names such as `cnn[profile:paper]` and options of any value come through all tables, forms
    and the page.
    """
    values: list[Any] = [5, "a-b", [1, 2], None, "x" * 100, "\u00fc", {"a": 1}, 1e30, True]
    records = [gained(f"digits-cnn-dl2-s{s}", 0.01, options=weight(v)) for s, v in enumerate(values)]
    records += [with_provenance(gained("digits-cnn-noop-s0", 0.01), profile="paper")]
    cells = grid(records)
    assert len({r.key for r in cells.records}) == len(records)
    found = documents(cells, None)
    for form in ("txt", "md", "tex", "csv"):
        assert all(render(tables, form) for tables in found.values())
    assert "dl2[weight:" in leaderboard(cells, [t for tables in found.values() for t in tables])
