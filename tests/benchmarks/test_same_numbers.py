"""The comparison of two runs that must have the same numbers."""

import dataclasses
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.records import Record, append
from benchmarks.same_numbers import main

CELL = Record(
    Case("toy", "mlp", "noop", 0),
    "repaired",
    before={"accuracy": 0.5},
    after={"accuracy": 0.5},
    subject={"weights": "a"},
)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "0 differences"),
        ({"after": {"accuracy": 0.75}}, "after accuracy: 0.5 | 0.75"),
        ({"after": {}}, "after accuracy: 0.5 | None"),
        ({"subject": {"weights": "b"}}, "weights: a | b"),
        ({"status": "failed", "reason": "a bug"}, "failed a bug"),
        ({"budget": {"backward": 7}}, "budget"),
        ({"case": Case("toy", "mlp", "noop", 1)}, "only in"),
    ],
)
def test_every_difference_is_a_line_and_an_exit_code(
    changed: dict[str, object], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal runs end with 0, others with 1; a missing cell or score is a difference."""
    append(tmp_path / "old" / "records.jsonl", CELL)
    append(tmp_path / "new" / "records.jsonl", dataclasses.replace(CELL, **changed))  # type: ignore[arg-type]
    code = main([str(tmp_path / "old"), str(tmp_path / "new")])
    assert line in capsys.readouterr().out
    assert code == (1 if changed else 0)


def test_a_folder_without_records_is_bad_input(tmp_path: Path) -> None:
    """Exit code 2."""
    assert main([str(tmp_path), str(tmp_path)]) == 2
