"""Records: whole lines, appended at once, read back or refused in one line."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from airepair import BENCHMARK_VERSION
from airepair.case import Case
from airepair.errors import UsageError
from airepair.records import Phase, Record, append, read, version


def record(seed: int = 0, **values: object) -> Record:
    """A small record."""
    case = Case("digits", "cnn", "noop", seed)
    return Record(case, "repaired", before={"accuracy": 0.5}, after={"accuracy": 0.75}, phases=(Phase("a", 3, 0.5, {"x": 1.0}),), **values)  # type: ignore[arg-type]


def test_a_record_survives_the_way_through_a_file(tmp_path: Path) -> None:
    """What was appended is what is read, case and phases included."""
    append(tmp_path / "records.jsonl", record(notes=("a note",)))
    found, remarks = read([tmp_path])
    assert found == [record(notes=("a note",))]
    assert remarks == []


def test_where_a_key_occurs_twice_the_last_counts_and_it_is_said(tmp_path: Path) -> None:
    """One cell, one record."""
    for text in ("first", "second"):
        append(tmp_path / "records.jsonl", record(notes=(text,)))
    found, remarks = read([tmp_path])
    assert [r.notes for r in found] == [("second",)]
    assert "more than once" in remarks[0]


def test_a_record_of_another_benchmark_version_is_not_replaced(tmp_path: Path) -> None:
    """One cell of two versions: both are read, and a record that does not name its version is of the first."""
    for provenance in ({}, {"benchmark_version": BENCHMARK_VERSION}):
        append(tmp_path / "records.jsonl", record(provenance=provenance))
    found, remarks = read([tmp_path])
    assert [version(r) for r in found] == [1, BENCHMARK_VERSION]
    assert remarks == []
    assert version(record()) == BENCHMARK_VERSION


def test_an_unfinished_last_line_is_dropped_with_a_remark_and_the_next_append_starts_a_new_line(tmp_path: Path) -> None:
    """A crash in mid-write costs that line only."""
    file = tmp_path / "records.jsonl"
    append(file, record(0))
    with file.open("a") as out:
        out.write(record(1).to_json()[:50])
    found, remarks = read([file])
    assert [r.key for r in found] == ["digits-cnn-noop-s0"]
    assert "unfinished" in remarks[0]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no json}", "not JSON"),
        ("[]", "schema 'list'"),
        ('{"schema": 99}', "schema 99"),
        ('{"schema": 1, "status": "repaired"}', "lacks or mistypes"),
        (record().to_json().replace('"repaired"', '"splendid"'), "status 'splendid'"),
    ],
)
def test_an_unreadable_line_is_named_with_file_and_number(tmp_path: Path, line: str, why: str) -> None:
    """One line says what is wrong and where."""
    file = tmp_path / "records.jsonl"
    file.write_text(line + "\n" + record().to_json() + "\n")
    with pytest.raises(UsageError, match=why) as error:
        read([file])
    assert f"{file}:1" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The error says what would be accepted."""
    with pytest.raises(UsageError, match="accepted: a record file"):
        read([tmp_path / "nothing"])


def _append_many(file: Path, start: int) -> None:
    for seed in range(start, start + 25):
        append(file, record(seed))


def test_two_processes_append_whole_lines(tmp_path: Path) -> None:
    """Parallel workers file into one file; no line is torn or lost."""
    file = tmp_path / "records.jsonl"
    workers = [multiprocessing.get_context("fork").Process(target=_append_many, args=(file, 100 * k)) for k in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = file.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 50


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux) to stand for a full disk")
def test_a_full_disk_is_an_error_not_a_torn_line(tmp_path: Path) -> None:
    """The file that stands for a full disk takes nothing, and the caller is told."""
    (tmp_path / "records.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space|Invalid"):
        append(tmp_path / "records.jsonl", record())


def test_a_number_that_is_not_finite_never_reaches_a_record() -> None:
    """NaN is no JSON; a missing metric is missing."""
    with pytest.raises(ValueError, match="JSON"):
        Record(Case("digits", "cnn", "noop", 0), "repaired", after={"accuracy": float("nan")}).to_json()
