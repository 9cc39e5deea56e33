"""Table II: faults in rows, methods in columns."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from airepair import BENCHMARK_VERSION
from airepair.records import Record
from airepair.report import documents, render, terminal
from airepair.report.cells import grid
from airepair.report.leaderboard import leaderboard
from airepair.report.table import Table
from airepair.report.table2 import table2
from tests.report_records import BEFORE, record

GOLDEN = Path(__file__).parents[1] / "golden"


def faulty(case: str, name: str, severity: Any, status: Any = "repaired", **scores: float) -> Record:
    """A record of a subject with a fault; a crashed one has no subject, as the controller files it."""
    if status == "crashed":
        return record(
            case,
            status,
            reason="the worker died",
            subject={},
            provenance={"benchmark_version": BENCHMARK_VERSION},
            category="",
        )
    subject = {
        "fault": {"name": name, "severity": severity},
        "weights": case[-1],
        "trained_on": "split of seed 0",
    }
    return record(
        case,
        status,
        subject=subject,
        after=BEFORE | scores if status == "repaired" else {},
        reason="needs a trigger" * (status != "repaired"),
    )


def example() -> list[Record]:
    """Two faults and a plain column; three seeds, one crashed, one method unsupported."""
    found = [record("digits-cnn-noop-s0")]
    for seed in (0, 1, 2):
        step = 0.1 * seed
        found += [
            faulty(f"digits-cnn+imbalanced-noop-s{seed}", "imbalanced", 0.1, recovery=0.0, collateral=0.0),
            faulty(
                f"digits-cnn+imbalanced-finetune-s{seed}",
                "imbalanced",
                0.1,
                recovery=0.5 + step,
                collateral=0.01,
            ),
            faulty(
                f"digits-cnn+imbalanced-apricot-s{seed}",
                "imbalanced",
                0.1,
                "crashed" if seed else "repaired",
                recovery=0.2,
                collateral=-0.01,
            ),
            faulty(
                f"digits-cnn+backdoor-noop-s{seed}",
                "backdoor",
                "4x4 patch",
                recovery=0.0,
                collateral=0.0,
                attack_success=0.99,
            ),
            faulty(
                f"digits-cnn+backdoor-finetune-s{seed}",
                "backdoor",
                "4x4 patch",
                recovery=-0.1,
                collateral=0.0,
                attack_success=0.98,
            ),
            faulty(f"digits-cnn+backdoor-apricot-s{seed}", "backdoor", "4x4 patch", "unsupported"),
        ]
    return found


def made() -> Table:
    """Table II of the example."""
    table = table2(grid(example()))
    assert table is not None
    return table


def row(fault: str, score: str) -> list[str]:
    """The texts of one row, in the order noop, finetune, apricot."""
    return next([e.text for e in r.entries] for r in made().rows if r.labels[1:] == (fault, score))


@pytest.mark.parametrize("form", ["txt", "md", "tex", "csv"])
def test_golden(form: str) -> None:
    """Table II of the example is byte for byte the golden file (AIREPAIR_GOLDEN=write writes it anew)."""
    path, text = GOLDEN / f"table2.{form}", render([made()], form)
    if os.environ.get("AIREPAIR_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_recovery_with_spread_and_collateral_below() -> None:
    """.5, .6, .7 recovered print as 60.00 ± 10.00 percent; collateral is signed points; crashed
    seeds are counted.
    """
    assert row("imbalanced (0.1)", "recovery") == ["0.00 ± 0.00", "60.00 ± 10.00", "20.00 (n=1, 2 crashed)"]
    assert row("imbalanced (0.1)", "collateral")[1] == "+1.00 ± 0.00"


def test_attack_success_stands_with_the_backdoor_only() -> None:
    """The row is there for the fault that has the score, and an unsupported method says so in it."""
    assert row("backdoor (4x4 patch)", "attack success") == ["99.00 ± 0.00", "98.00 ± 0.00", "unsupported"]
    assert not any(r.labels[1:] == ("imbalanced (0.1)", "attack success") for r in made().rows)


def test_the_best_recovery_stands_out_if_above_zero() -> None:
    """finetune is best on the imbalance; where everything recovers nothing, nothing is best."""
    best = {r.labels[1]: [e.best for e in r.entries] for r in made().rows if r.labels[2] == "recovery"}
    assert best == {"imbalanced (0.1)": [False, True, False], "backdoor (4x4 patch)": [False, False, False]}


def test_a_method_that_lacks_a_seed_has_not_the_best_recovery() -> None:
    """apricot recovers most, at the one seed that it has."""
    lucky = {"digits-cnn+imbalanced-apricot-s0": {"recovery": 0.9, "collateral": 0.0}}
    records = [dataclasses.replace(r, after=r.after | lucky.get(r.key, {})) for r in example()]
    table = table2(grid(records))
    assert table is not None
    found = next(r for r in table.rows if r.labels[1:] == ("imbalanced (0.1)", "recovery"))
    assert [e.best for e in found.entries] == [False, True, False]
    assert found.entries[2].text.startswith("90.00 (n=1")


def test_faults_stand_in_table_two_and_plain_columns_in_table_one() -> None:
    """Neither table repeats the other's columns; the terminal shows both."""
    found = documents(grid(example()), None)
    assert [h.title for h in found["table1"][0].headings] == ["CNN"]
    text = terminal(example())
    assert text.index("Table I:") < text.index("Table II:")
    assert "+imbalanced" not in text.partition("Table II:")[0]


def test_the_twin_is_the_control_retrain() -> None:
    """Below the table: what the twin reaches, and each method's images as a share of its own and of
    finetune's; `retrain` has rows in the CSV.
    """
    facts = {
        "name": "environment",
        "severity": 3,
        "corruption": "fog",
        "n": {"spoiled": 40, "others": 60},
        "before": {"spoiled": 0.25, "others": 0.9},
        "twin": {"spoiled": 0.75, "others": 0.88, "images": 30_000},
    }
    cells = [
        record(
            f"digits+fog3-fc-{m}-s0",
            subject={"fault": facts},
            budget={"backward": n},
            after=BEFORE | {"recovery": 0.5, "collateral": 0.0},
        )
        for m, n in (("finetune", 60_000), ("apricot", 15_000))
    ]
    table = table2(grid(cells))
    assert table is not None
    assert table.rows[0].labels == ("digits+fog3 FC", "environment (fog 3)", "recovery")
    assert "digits+fog3-fc 25.0 to 75.0 (n = 40)" in table.notes[1]
    assert "finetune 200 (100), Apricot 50 (25)" in table.notes[2]
    found = {(r["method"], r["metric"]): r["mean"] for r in table.tidy}
    assert found["apricot", "cost_of_retrain"] == 50
    assert found["apricot", "cost_of_finetune"] == 25
    assert found["retrain", "recovery"] == 100
    assert found["retrain", "collateral"] == pytest.approx(2)
    assert not documents(grid(cells), None)["table1"][0].headings


def test_the_page_shows_table_two_beside_table_one() -> None:
    """Above the sortable table of all cells, not among the folded ones below it."""
    cells = grid(example())
    page = leaderboard(cells, [t for tables in documents(cells, None).values() for t in tables])
    assert page.index("<h2>Table II</h2>") < page.index("All cells</h2>")


def test_without_faults_there_is_no_table_two() -> None:
    """No fault in the records: no table."""
    assert table2(grid([record("digits-cnn-noop-s0")])) is None
