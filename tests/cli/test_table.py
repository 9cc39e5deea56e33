"""`airepair table`: every report in every form from a record file."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from airepair.cli import table as table_command
from airepair.errors import UsageError
from airepair.records import Record, append
from tests.report_records import BEFORE, example, record


def table(*words: str) -> int:
    """The command as the command line calls it."""
    parser = argparse.ArgumentParser()
    table_command.add_arguments(parser)
    return table_command.run(parser.parse_args(words))


def file(path: Path, records: list[Record]) -> str:
    """A record file."""
    for r in records:
        append(path, r)
    return str(path)


OLD = [record("digits-cnn-dl2-s0", gains={"accuracy": 0.05})]


@pytest.mark.parametrize("name", ["table1", "extended", "cost"])
@pytest.mark.parametrize("form", ["txt", "md", "tex", "csv"])
def test_table_prints_each_report_in_each_form(
    name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a record file alone; two calls print the same."""
    path = file(tmp_path / "r.jsonl", example())
    assert table(path, "--table", name, "--format", form) == 0
    first = capsys.readouterr().out
    assert table(path, "--table", name, "--format", form) == 0
    assert first == capsys.readouterr().out
    assert "finetune" in first


def test_table_refuses_a_report_that_the_records_do_not_hold(tmp_path: Path) -> None:
    """No predictions: paired is refused with the reports that are there."""
    with pytest.raises(UsageError, match="accepted: table1, extended, cost"):
        table(file(tmp_path / "r.jsonl", OLD), "--table", "paired")


def test_table_writes_every_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out names what it wrote; the paper's numbers are found without being given."""
    records = [record("mnist-cnn-noop-s0", before=BEFORE)]
    assert table(file(tmp_path / "r.jsonl", records), "--out", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert "[99.45]" in out
    assert all(str(p) in out for p in (tmp_path / "out").iterdir())


def test_table_prints_verdict_and_picture_as_it_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Markdown and SVG, nothing else on standard output: they are redirected into files."""
    path = file(tmp_path / "r.jsonl", example())
    assert table(path, "--out", str(tmp_path)) == 0
    capsys.readouterr()
    for name, written in (("verdict", "verdict.md"), ("picture", "picture.svg")):
        assert table(path, "--table", name) == 0
        assert capsys.readouterr().out == (tmp_path / written).read_text()
