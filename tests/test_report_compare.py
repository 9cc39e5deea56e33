"""`airepair compare` and `airepair table`: limits, directions, exit codes, one-line errors."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
from pathlib import Path

import pytest

from airepair.commands import compare as compare_command
from airepair.commands import table as table_command
from airepair.errors import UsageError
from airepair.records import Record, append
from airepair.report import render
from airepair.report.grid import grid
from airepair.report.regression import compare, parse
from tests.report_records import BEFORE, example, record


def judge(old: list[Record], new: list[Record], *limits: str) -> list[str]:
    """The regressions of `new` against `old`."""
    return compare(grid(old), grid(new), [parse(x) for x in limits])[1]


def call(command, *words: str) -> int:
    """A command as the command line calls it."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def file(path: Path, records: list[Record]) -> str:
    """A record file."""
    for r in records:
        append(path, r)
    return str(path)


OLD = [record("digits-cnn-dl2-s0", gains={"accuracy": 0.05})]


def test_a_loss_within_the_limit_is_no_regression() -> None:
    """One point lost: none at a limit of 1, one at .99; a gain never is."""
    new = [record("digits-cnn-dl2-s0", gains={"accuracy": 0.04})]
    assert judge(OLD, new, "accuracy:1") == []
    assert judge(OLD, new, "accuracy:0.99") == ["digits-cnn-dl2: accuracy -1.00 (86.00 → 85.00)"]
    assert judge(new, OLD, "accuracy:0") == []


def test_the_metrics_direction_decides_what_is_worse() -> None:
    """More broken inputs are worse, although the number is higher."""
    new = [record("digits-cnn-dl2-s0", gains={"break_rate": 0.02})]
    assert judge(OLD, new, "break_rate:1")
    assert not judge(new, OLD, "break_rate:1")


def test_two_benchmark_versions_do_not_compare() -> None:
    """One line that names both."""
    old = [dataclasses.replace(r, provenance={}) for r in OLD]
    with pytest.raises(UsageError, match=r"the baseline is of benchmark version 1, the new records of 2"):
        judge(old, OLD, "accuracy:1")


def test_costs_are_judged_in_percent_of_the_old_value() -> None:
    """12.5 s to 15 s is 20 %."""
    new = [record("digits-cnn-dl2-s0", cost={"seconds": 15.0})]
    assert not judge(OLD, new, "seconds:20%")
    assert judge(OLD, new, "seconds:19.9%")


def test_a_cell_that_crashes_now_is_a_regression_of_its_status() -> None:
    """`status` sees a crash, `absent` a cell that is gone; an unsupported cell that stays unsupported is none."""
    crashed = [record("digits-cnn-dl2-s0", "crashed")]
    assert judge(OLD, crashed, "status") == ["digits-cnn-dl2: repaired → crashed"]
    assert judge(OLD, [], "status") == []
    assert judge(OLD, [], "absent") == ["digits-cnn-dl2: repaired → not run"]
    assert judge(crashed, crashed, "status", "absent") == []


def test_only_seeds_that_both_have_are_compared() -> None:
    """A lucky seed that only the old run had does not make the new one worse."""
    old = [*OLD, record("digits-cnn-dl2-s1", gains={"accuracy": 0.15})]
    assert judge(old, OLD, "accuracy:0") == []


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy:", "accuracy:much", "accuracy:-1", "accuracy:nan", "status:1", "speed:1", "close_pairs:1"]
)
def test_a_bad_limit_is_a_usage_error(text: str) -> None:
    """The error shows what would be accepted."""
    with pytest.raises(UsageError, match="accepted"):
        parse(text)


def test_the_table_marks_regressions_and_says_how_many() -> None:
    """The mark stands in the cell, the count in the last line, and the CSV has a column for it."""
    new = [record("digits-cnn-dl2-s0", gains={"accuracy": 0.0})]
    table, _ = compare(grid(OLD), grid(new), [parse("accuracy:1")])
    assert "REGRESSION" in render([table], "txt")
    assert table.claims[-1].startswith("1 regression: ")
    rows = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert [r["regression"] for r in rows if r["metric"] == "accuracy"] == ["yes"]


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 without a regression, 1 with one; the default limits see a lost point and a half."""
    old = file(tmp_path / "old.jsonl", OLD)
    new = file(tmp_path / "new.jsonl", [record("digits-cnn-dl2-s0", gains={"accuracy": 0.03})])
    assert call(compare_command, old, old) == 0
    assert "No regression." in capsys.readouterr().out
    assert call(compare_command, old, new) == 1
    assert call(compare_command, old, new, "--fail", "accuracy:5") == 0


@pytest.mark.parametrize("name", ["table1", "extended", "cost"])
@pytest.mark.parametrize("form", ["txt", "md", "tex", "csv"])
def test_table_prints_each_report_in_each_form(name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a record file alone; two calls print the same."""
    path = file(tmp_path / "r.jsonl", example())
    assert call(table_command, path, "--table", name, "--format", form) == 0
    first = capsys.readouterr().out
    assert call(table_command, path, "--table", name, "--format", form) == 0
    assert first == capsys.readouterr().out
    assert "finetune" in first


def test_table_refuses_a_report_that_the_records_do_not_hold(tmp_path: Path) -> None:
    """No predictions: paired is refused with the reports that are there."""
    with pytest.raises(UsageError, match="accepted: table1, extended, cost"):
        call(table_command, file(tmp_path / "r.jsonl", OLD), "--table", "paired")


def test_table_writes_every_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out names what it wrote; the paper's numbers are found without being given."""
    records = [record("mnist-cnn-noop-s0", before=BEFORE)]
    assert call(table_command, file(tmp_path / "r.jsonl", records), "--out", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert "[99.45]" in out
    assert all(str(p) in out for p in (tmp_path / "out").iterdir())
