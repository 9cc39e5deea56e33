"""Records: whole lines, appended at once, read back or refused in one line."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from airepair import BENCHMARK_VERSION
from airepair.case import Case
from airepair.errors import UsageError
from airepair.records import Phase, Record, append, current, read, scan, standing, version
from airepair.records.lookup import Lookup
from airepair.records.right_answers import pack


def record(seed: int = 0, **values: object) -> Record:
    """A small record."""
    case = Case("digits", "cnn", "noop", seed)
    return Record(
        case,
        "repaired",
        before={"accuracy": 0.5},
        after={"accuracy": 0.75},
        phases=(Phase("a", 3, 0.5, {"x": 1.0}),),
        **values,
    )  # type: ignore[arg-type]


def test_a_record_survives_the_way_through_a_file(tmp_path: Path) -> None:
    """What was appended is what is read, case and phases included."""
    append(tmp_path / "records.jsonl", record(notes=("a note",)))
    found, remarks = read([tmp_path])
    assert found == [record(notes=("a note",))]
    assert remarks == []


def filed(file: Path, *records: Record) -> None:
    """Appends them."""
    for one in records:
        append(file, one)


def test_the_first_finished_record_of_a_cell_stands(tmp_path: Path) -> None:
    """A second one of the same cell under the same conditions is left out, and a remark says so."""
    filed(tmp_path / "records.jsonl", record(notes=("first",)), record(notes=("second",)))
    found, remarks = read([tmp_path])
    assert [r.notes for r in found] == [("first",)]
    assert remarks == [
        "digits-cnn-noop-s0 was recorded 2 times; the first finished one counts (repaired), left out: "
        "repaired"
    ]


def test_a_record_of_another_benchmark_version_is_not_replaced(tmp_path: Path) -> None:
    """One cell of two versions: both are read, and a record that does not name its version is of
    the first.
    """
    for provenance in ({}, {"benchmark_version": BENCHMARK_VERSION}):
        append(tmp_path / "records.jsonl", record(provenance=provenance))
    found, remarks = read([tmp_path])
    assert [version(r) for r in found] == [1, BENCHMARK_VERSION]
    assert remarks == []
    assert version(record()) == BENCHMARK_VERSION


@pytest.mark.parametrize("status", ["crashed", "failed", "timeout", "out of memory", "skipped"])
def test_what_did_not_finish_never_replaces_what_did(tmp_path: Path, status: str) -> None:
    """Whichever comes first; and of two that did not finish the last attempt counts."""
    ended = dataclasses.replace(record(notes=("ended",)), status=status)  # type: ignore[arg-type]
    for order in ([record(), ended], [ended, record()]):
        (tmp_path / "records.jsonl").unlink(missing_ok=True)
        filed(tmp_path / "records.jsonl", *order)
        assert [r.status for r in read([tmp_path])[0]] == ["repaired"]
    later = dataclasses.replace(ended, reason="the second attempt")
    filed(tmp_path / "more" / "records.jsonl", ended, later)
    found, (remark,) = read([tmp_path / "more"])
    assert found == [later]
    assert "the last attempt counts" in remark


def test_of_many_attempts_one_record_is_held() -> None:
    """A reader of a long file needs the memory of its cells, not of their attempts; a remark counts them."""
    alive: list[weakref.ref[Record]] = []
    most = 0

    def attempts() -> Iterator[Record]:
        nonlocal most
        for number in range(500):
            status = "crashed" if number < 300 else "repaired"
            yield dataclasses.replace(record(), status=status, reason=str(number))
            alive[:] = [ref for ref in alive if ref() is not None]
            most = max(most, len(alive))

    def watched() -> Iterator[Record]:
        for found in attempts():
            alive.append(weakref.ref(found))
            yield found

    (stands,), (remark,) = standing(watched())
    assert stands.reason == "300"
    assert most <= 4
    assert remark.endswith(
        "was recorded 500 times; the first finished one counts (repaired), "
        "left out: 300 crashed, 199 repaired"
    )


def test_records_of_one_cell_under_different_conditions_all_stand(tmp_path: Path) -> None:
    """What differs is named; each fingerprint has its own first finished record."""
    old, new = (record(fingerprint={"method": "noop", "weights": w}) for w in ("a" * 64, "b" * 64))
    filed(tmp_path / "records.jsonl", old, new, new)
    found, remarks = read([tmp_path])
    assert found == [old, new]
    assert "recorded 2 times" in remarks[0]
    assert remarks[1].endswith(
        "different conditions: weights of the subject: was aaaaaaaaaaaa, is bbbbbbbbbbbb"
    )


def test_a_record_that_a_resumed_run_keeps_is_the_last_one(tmp_path: Path) -> None:
    """Code A, code B, and back to A: its records are kept, and the reports, which show the code that there
    is now, show them. It is filed again once, and not at all if it is the last one anyhow; a crash, which
    does not say of which code it was, changes nothing.
    """
    file = tmp_path / "records.jsonl"
    first, second = (record(fingerprint={"method": "noop", "source": w * 64}) for w in "ab")
    crash = dataclasses.replace(record(), status="crashed", fingerprint={})
    filed(file, first, second, crash)
    assert current(read([file])[0]) == [second]
    assert Lookup(file).resume(first.key, lambda: second.fingerprint) == (second, [])
    assert len(file.read_text().splitlines()) == 3
    for _ in range(2):
        assert Lookup(file).resume(first.key, lambda: first.fingerprint) == (first, [])
        assert len(file.read_text().splitlines()) == 4
        assert read([file])[0] == [second, first]
    assert current(read([file])[0]) == [first]
    assert Lookup(file).resume(first.key, lambda: {"source": "c"}) == (None, ["method: source changed"])
    assert Lookup(file).resume("digits-fc-noop-s0", lambda: pytest.fail("it asked")) == (None, [])


def test_a_torn_tail_is_left_out_of_reading_and_cut_off_before_the_next_append(tmp_path: Path) -> None:
    """A crash in mid-write costs that line only: it is kept aside, later lines stay readable, and
    remarks say both.
    """
    file = tmp_path / "records.jsonl"
    append(file, record(0))
    torn = record(1).to_json()[:50].encode()
    with file.open("ab") as out:
        out.write(torn)
    found, (remark,) = read([file])
    assert [r.key for r in found] == ["digits-cnn-noop-s0"]
    assert remark == f"{file}:2: an unfinished last line was left out"
    assert file.read_bytes().endswith(torn), "reading changes no file"
    append(file, record(2))
    found, (remark,) = read([file])
    assert [r.case.seed for r in found] == [0, 2]
    assert (tmp_path / "records.jsonl.torn").read_bytes() == torn + b"\n"
    assert remark == f"{file}.torn keeps what a crash left of a line of records.jsonl"


def test_a_tail_torn_anywhere_costs_its_own_record_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one byte before its end, and behind an inner brace; where only the line end is missing the
    record itself is kept.
    """
    monkeypatch.setattr("os.fsync", lambda _: None)  # a thousand times
    file = tmp_path / "records.jsonl"
    whole, first = ((record(seed).to_json() + "\n").encode() for seed in (1, 0))
    assert whole.count(b"}") > 5
    for kept in range(1, len(whole)):
        file.write_bytes(first + whole[:kept])
        append(file, record(2))
        expected = [0, 1, 2] if kept == len(whole) - 1 else [0, 2]
        assert [r.case.seed for r in read([file])[0]] == expected, whole[:kept]


def test_a_tail_longer_than_a_block_is_cut_off_whole(tmp_path: Path) -> None:
    """The last line end may lie far back."""
    file = tmp_path / "records.jsonl"
    append(file, record(0))
    with file.open("ab") as out:
        out.write(record(1, notes=("x" * 300_000,)).to_json()[:-2].encode())
    append(file, record(2))
    assert [r.case.seed for r in read([file])[0]] == [0, 2]


def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    """`scan` goes on, `read` refuses the file; both name file and line."""
    file = tmp_path / "records.jsonl"
    lines = [record(0).to_json().encode(), b"\xff\xfe", b"", record(1).to_json().encode()]
    file.write_bytes(b"\n".join(lines) + b"\n")
    found = scan([file])
    assert [r.case.seed for r in found.records] == [0, 1]
    assert found.refused == [f"{file}:2: byte 1 is 0xff, which is no UTF-8; accepted: JSON in UTF-8"]
    with pytest.raises(UsageError, match=f"{file}:2"):
        read([file])


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    """One line, no traceback."""
    (tmp_path / "records.jsonl").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read([tmp_path])


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
    workers = [
        multiprocessing.get_context("fork").Process(target=_append_many, args=(file, 100 * k)) for k in (1, 2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = file.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 50


FULL = """
import resource, signal, sys
from pathlib import Path
from airepair.case import Case
from airepair.records import Record, append
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    append(Path(sys.argv[1]), Record(Case("digits", "cnn", "noop", 1), "repaired"))
except OSError as error:
    print(error)
"""


def test_a_disk_that_is_full_in_mid_line_leaves_no_half_line(tmp_path: Path) -> None:
    """The bytes that went in are taken back, and the caller gets the error."""
    file = tmp_path / "records.jsonl"
    append(file, record(0))
    before = file.read_bytes()
    ran = subprocess.run(
        [sys.executable, "-c", FULL, file, str(len(before) + 40)], capture_output=True, text=True, check=True
    )
    assert "too large" in ran.stdout
    assert file.read_bytes() == before


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="needs /dev/full (Linux) to stand for a full disk"
)
def test_a_full_disk_is_an_error_not_a_torn_line(tmp_path: Path) -> None:
    """The file that stands for a full disk takes nothing, and the caller is told."""
    (tmp_path / "records.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space|Invalid"):
        append(tmp_path / "records.jsonl", record())


def test_a_number_that_is_not_finite_never_reaches_a_record() -> None:
    """NaN is no JSON; a missing metric is missing."""
    with pytest.raises(ValueError, match="JSON"):
        Record(Case("digits", "cnn", "noop", 0), "repaired", after={"accuracy": float("nan")}).to_json()


def test_a_text_that_is_no_unicode_is_written_so_that_it_can_be_read(tmp_path: Path) -> None:
    """A method may note a lone surrogate: it becomes a question mark, other letters stay."""
    append(tmp_path / "records.jsonl", record(notes=("a \ud800 and \u00fc",)))
    assert read([tmp_path])[0][0].notes == ("a ? and \u00fc",)


@pytest.mark.parametrize(
    ("right", "problem"),
    [
        (
            {"tested": pack([True] * 4), "after": pack([True] * 3)},
            r"right\.after answers for 3 images; accepted: 4, those of right\.tested",
        ),
        (
            {"tested": pack([True] * 4), "after": "4:?"},
            r"right\.after: '4:\?' is not a list of right answers",
        ),
        ({"tested": "many"}, r"right\.tested: 'many' is not a list of right answers"),
        ({"after": pack([True])}, r"right\.after answers for 1 images; accepted: 0"),
    ],
)
def test_right_answers_are_checked_at_the_door(right: dict[str, str], problem: str) -> None:
    """One answer per tested image, of every model; so reports may trust them."""
    with pytest.raises(UsageError, match=problem):
        Record.from_json(record(right=right).to_json())
    whole = record(
        right={
            "tested": pack([False, True, True]),
            "before": pack([True, False]),
            "after": pack([True, True]),
        }
    )
    assert Record.from_json(whole.to_json()) == whole
