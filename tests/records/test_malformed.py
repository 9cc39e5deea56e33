"""Malformed records: each is one sentence with file, line, field, value and what would be accepted,
and costs no other line.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airepair.cli.main import main
from airepair.records import Record, scan
from airepair.records.right_answers import pack
from tests.report_records import record

GOOD = record("digits-cnn-noop-s1")
Line = dict[str, Any]


def line_of(change: Callable[[Line], object]) -> bytes:
    """A good record's line after one change."""
    content = json.loads(
        record(
            "digits-cnn-apricot-s0", options={"rate": {"value": 0.1, "given": True, "origin": "given"}}
        ).to_json()
    )
    change(content)
    return json.dumps(content).encode()


def put(path: str, value: Any) -> Callable[[Line], None]:
    """Puts a value at a place such as `after.accuracy`."""

    def change(content: Line) -> None:
        *places, last = path.split(".")
        for place in places:
            content = content[place]
        content[last] = value

    return change


def drop(name: str) -> Callable[[Line], Any]:
    """Takes a field away."""
    return lambda content: content.pop(name)


# What the line holds, and words that its sentence has: the field, its value, what would be accepted.
CHANGED: dict[str, tuple[Callable[[Line], object], list[str]]] = {
    "accuracy of 9.9": (put("after.accuracy", 9.9), ["after.accuracy is 9.9", "a number from 0 to 1"]),
    "accuracy below zero": (put("before.accuracy", -0.01), ["before.accuracy is -0.01", "from 0 to 1"]),
    "accuracy NaN": (put("after.accuracy", float("nan")), ["after.accuracy is nan", "finite"]),
    "infinite score": (put("after.recovery", float("inf")), ["after.recovery is inf", "finite"]),
    "drawdown of 2": (put("after.drawdown", 2), ["after.drawdown is 2", "from -1 to 1"]),
    "score as text": (put("after.accuracy", "high"), ["after.accuracy is 'high'", "a number"]),
    "score is a truth value": (put("after.accuracy", True), ["after.accuracy is True", "a number"]),
    "score is null": (put("before.constraint", None), ["before.constraint is None", "a number"]),
    "scores are a list": (put("after", [1]), ["after is [1]", "a table"]),
    "phase out of range": (
        put("phases", [{"name": "a", "images": 1, "seconds": 1.0, "scores": {"accuracy": 7}}]),
        ["phases[0].scores.accuracy is 7", "from 0 to 1"],
    ),
    "phase without images": (
        put("phases", [{"name": "a", "seconds": 1.0, "scores": {}}]),
        ["phases[0].images is missing", "whole number"],
    ),
    "phase of another shape": (put("phases", ["adjustment"]), ["phases[0] is 'adjustment'", "a table"]),
    "option without value": (put("options.rate", {"given": True}), ["options.rate.value is missing"]),
    "option is a number": (put("options.rate", 0.1), ["options.rate is 0.1", "a table"]),
    "origin of an option is a number": (put("options.rate.origin", 3), ["options.rate.origin is 3", "text"]),
    "images below zero": (put("budget.backward", -5), ["budget.backward is -5", "of at least 0"]),
    "images as a fraction": (put("budget.forward", 0.5), ["budget.forward is 0.5", "a whole number"]),
    "images as text": (put("budget.backward", "many"), ["budget.backward is 'many'", "a whole number"]),
    "seconds as text": (put("cost.seconds", "fast"), ["cost.seconds is 'fast'", "a number"]),
    "seconds below zero": (put("cost.seconds", -1.0), ["cost.seconds is -1.0", "of at least 0"]),
    "n is text": (put("provenance.n", "497"), ["provenance.n is '497'", "a table"]),
    "n of test is text": (
        put("provenance.n.test", "some"),
        ["provenance.n.test is 'some'", "a whole number"],
    ),
    "versions are a list": (
        put("provenance.versions", ["2.13"]),
        ["provenance.versions is ['2.13']", "a table"],
    ),
    "provenance is text": (put("provenance", "here"), ["provenance is 'here'", "a table"]),
    "subject is a list": (put("subject", []), ["subject is []", "a table"]),
    "data are a list": (put("subject.data", ["abc"]), ["subject.data is ['abc']", "a table"]),
    "pair of three": (put("subject.pair", [1, 2, 3]), ["subject.pair is [1, 2, 3]", "a list of 2"]),
    "pair of words": (put("subject.pair", ["a", "b"]), ["subject.pair[0] is 'a'", "a whole number"]),
    "fault is text": (put("subject.fault", "backdoor"), ["subject.fault is 'backdoor'", "a table"]),
    "twin without scores": (
        put("subject.fault", {"name": "x", "twin": {"images": 5}}),
        ["subject.fault.twin.spoiled is missing"],
    ),
    "twin without a count": (
        put("subject.fault", {"before": {"spoiled": 0.1}, "twin": {"images": 5, "spoiled": 0.9}}),
        ["subject.fault.n is missing", "a table"],
    ),
    "twin without scores of the subject": (
        put("subject.fault", {"n": {"spoiled": 3}, "twin": {"images": 5, "spoiled": 0.9}}),
        ["subject.fault.before is missing", "a table"],
    ),
    "collateral score as text": (
        put("subject.fault", {"before": {"spoiled": 0.1, "others": "x"}}),
        ["subject.fault.before.others is 'x'", "from 0 to 1"],
    ),
    "validation accuracy of 70": (
        put("subject.validation_accuracy", 70),
        ["subject.validation_accuracy is 70", "from 0 to 1"],
    ),
    "notes are text": (put("notes", "a note"), ["notes is 'a note'", "a list of text"]),
    "a note is a number": (put("notes", [42]), ["notes[0] is 42", "text"]),
    "reason of a missing metric": (put("missing", {"top5": 5}), ["missing.top5 is 5", "text"]),
    "unknown status": (put("status", "splendid"), ["status is 'splendid'", "repaired, unsupported"]),
    "misspelt field": (
        lambda c: put("statsu", c.pop("status"))(c),
        ["statsu", "did you mean 'status'", "status is missing"],
    ),
    "misspelt field of a phase": (
        put("phases", [{"name": "a", "images": 1, "secs": 1.0, "seconds": 1.0, "scores": {}}]),
        ["phases[0].secs", "name, images, seconds, scores"],
    ),
    "no case": (drop("case"), ["case is missing"]),
    "no status": (drop("status"), ["status is missing"]),
    "no schema": (drop("schema"), ["schema is missing"]),
    "another schema": (put("schema", 99), ["schema is 99", "1"]),
    "seed below zero": (put("case.seed", -1), ["case.seed is -1", "of at least 0"]),
    "case with a hyphen": (put("case.model", "my-cnn"), ["my-cnn", "no hyphen"]),
    "key of another case": (
        put("key", "digits-fc-apricot-s0"),
        ["key is 'digits-fc-apricot-s0'", "digits-cnn-apricot-s0"],
    ),
    "key into another folder": (
        lambda c: (put("case.method", "a/../../x")(c), put("key", "digits-cnn-a/../../x-s0")(c)),
        ["key is 'digits-cnn-a/../../x-s0'", "another folder"],
    ),
    "lone surrogate": (put("reason", "\ud800"), ["reason is '\\ud800'", "text"]),
    "NaN in a fact that no report reads": (
        put("subject.extra", {"x": [float("nan")]}),
        ["subject.extra.x[0] is nan", "finite"],
    ),
    "right answers that claim more than there is": (
        put("right", {"tested": "99999999999:" + "A" * 8}),
        ["right.tested", "'99999999999:", "more than 10,000,000"],
    ),
    "right answers that unfold without end": (
        put("right", {"tested": "8:" + base64.b64encode(zlib.compress(b"\0" * 10**7)).decode()}),
        ["right.tested", "more bytes for 8 answers"],
    ),
    "right answers of other images": (
        put("right", {"tested": pack([True] * 5), "after": pack([True] * 4)}),
        ["right.after answers for 4 images", "accepted: 5"],
    ),
    "right answers in another writing": (
        put("right", {"tested": "5:@@@"}),
        ["right.tested: '5:@@@'", "accepted: what a record of airepair holds"],
    ),
    "right answers as a list": (put("right", [1]), ["right is [1]", "a table"]),
    "huge number": (put("budget.backward", 10**400), ["budget.backward is 1000", "a whole number"]),
}
WRITTEN: dict[str, tuple[bytes, list[str]]] = {
    "no JSON": (b"no json}", ["not JSON: 'no json}'", "accepted: a JSON object"]),
    "a list": (b"[1, 2]", ["[1, 2]", "a table"]),
    "a number": (b"7", ["is 7", "a table"]),
    "half a line, then a whole one": (GOOD.to_json().encode()[:200], ["not JSON", "accepted"]),
    "a bad byte": (line_of(put("reason", "@")).replace(b"@", b"\xff"), ["byte", "0xff", "UTF-8"]),
    "bytes of a zip file": (b"PK\x03\x04\x00\xff\xfe", ["0xff", "UTF-8"]),
    "nested without end": (b"[" * 100_000, ["nested too deeply"]),
    "a number of 5,000 digits": (b'{"schema": ' + b"9" * 5_000 + b"}", ["not JSON"]),
}
TABLE = {name: (line_of(change), words) for name, (change, words) in CHANGED.items()} | WRITTEN


@pytest.mark.parametrize(("line", "words"), TABLE.values(), ids=list(TABLE))
def test_table_names_a_malformed_line_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes, words: list[str]
) -> None:
    """File, number, field, value and what would be accepted stand in one line on standard error;
    exit code 2, no traceback.
    """
    file = tmp_path / "records.jsonl"
    file.write_bytes(line + b"\n" + GOOD.to_json().encode() + b"\n")
    assert main(["table", str(file)]) == 2
    shown = capsys.readouterr()
    (said,) = shown.err.splitlines()
    assert said.startswith(f"airepair: {file}:1: ")
    assert all(word in said for word in words), said
    assert len(said) < 700
    assert "noop" in shown.out


@pytest.mark.parametrize("line", [line for line, _ in TABLE.values()], ids=list(TABLE))
def test_a_file_of_one_malformed_line_has_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    """Nothing is shown for which there is no record."""
    file = tmp_path / "records.jsonl"
    file.write_bytes(line + b"\n")
    assert main(["table", str(file)]) == 2
    assert capsys.readouterr().out == ""


def test_a_good_line_is_read_whatever_stands_around_it(tmp_path: Path) -> None:
    """All malformed lines in one file: each is named by its own number, and the one record is there."""
    file = tmp_path / "records.jsonl"
    lines = [line for line, _ in TABLE.values()]
    file.write_bytes(b"\n".join([*lines, GOOD.to_json().encode(), b""]))
    found = scan([file])
    assert [r.key for r in found.records] == [GOOD.key]
    assert [line.removeprefix(f"{file}:").partition(":")[0] for line in found.refused] == [
        str(i + 1) for i in range(len(lines))
    ]


def test_a_twin_without_images_or_scores_is_read_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its training stopped at an accuracy, or the fault spoils no test input: the harness writes null."""
    file = tmp_path / "records.jsonl"
    for images, score in ((None, 0.9), (5, None)):
        fault = {
            "name": "missing",
            "n": {"spoiled": 3},
            "before": {"spoiled": score, "others": None},
            "twin": {"images": images, "spoiled": score, "others": None},
        }
        case = "digits-cnn+missing-noop-s0"
        change = put("subject.fault", fault)
        content = json.loads(record(case).to_json())
        change(content)
        file.write_text(json.dumps(content) + "\n")
        assert main(["table", str(file), "--table", "table2"]) == 0
        assert "missing" in capsys.readouterr().out


def test_every_field_that_a_record_writes_is_read() -> None:
    """The schema knows the record's own fields: what is written is what comes back."""
    first = record(
        "digits-cnn-apricot-s0",
        notes=("a note",),
        fingerprint={"weights": "abc"},
        missing={"top5": "few classes"},
    )
    assert Record.from_json(first.to_json()) == first
