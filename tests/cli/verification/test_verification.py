"""`airepair verify`: what records contradict in themselves, in this machine's data and methods, and
in a cell that is run again.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airepair.case import Case
from airepair.cli.main import main
from airepair.cli.verification import mark as marks
from airepair.cli.verification.cells import run as run_again
from airepair.cli.verification.judging import judged
from airepair.cli.verification.sample import drawn, hindrance, spec_of
from airepair.records import Record, append, read
from airepair.records.right_answers import pack, unpack
from tests.suite.test_suite import SMALL, suite

RANDOM = "digits-fc-random-s90"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two methods at two seeds, with the cache of its baselines beside it."""
    folder = tmp_path_factory.mktemp("verified")
    result = suite(
        folder / "out", *SMALL, "--method", "noop,random", "--seeds", "90,91", cache=folder / "cache"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture
def ran(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, to be spoilt."""
    shutil.copytree(place / "out", tmp_path / "out")
    monkeypatch.setenv("AIREPAIR_CACHE", str(place / "cache"))
    return tmp_path / "out"


def rewritten(folder: Path, change: Callable[[Record], Record], key: str = RANDOM) -> None:
    """The folder's records with that one changed."""
    records = read([folder])[0]
    (folder / "records.jsonl").unlink()
    for record in records:
        append(folder / "records.jsonl", change(record) if record.key == key else record)


def after(**scores: float) -> Callable[[Record], Record]:
    """Other scores after the repair."""
    return lambda r: dataclasses.replace(r, after={**r.after, **scores})


def test_an_honest_run_is_reported(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing contradicts anything; nothing was run again, and the folder gets no mark for that."""
    assert main(["verify", str(ran)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "reported: none of 4 cells was run again"
    assert not (ran / marks.MARK).exists()


def answers(record: Record) -> Record:
    """One right answer after the repair is turned."""
    right = unpack(record.right["after"])
    right[0] = ~right[0]
    return dataclasses.replace(record, right={**record.right, "after": pack(right)})


def option(name: str, value: Any, given: bool) -> Callable[[Record], Record]:
    """Another value of an option."""
    entry = {"value": value, "given": given, "origin": "given" if given else "default"}
    return lambda r: dataclasses.replace(r, options={**r.options, name: entry})


def split(record: Record) -> Record:
    """Another test split."""
    return dataclasses.replace(
        record, subject={**record.subject, "data": {**record.subject["data"], "test": "f" * 64}}
    )


SPOILT: dict[str, tuple[Callable[[Record], Record], list[str]]] = {
    "accuracy raised": (
        after(accuracy=0.99),
        ["accuracy is 0.99, and its right answers give", "accuracy is 0.99, and predictions.npz give"],
    ),
    "net change raised": (after(net_change=0.5), ["net_change is 0.5, and its right answers give"]),
    "break rate lowered": (after(break_rate=1.0), ["break_rate is 1, and its right answers give"]),
    "right answers turned": (answers, ["its right answers after the repair differ on 1 images"]),
    "an option out of range": (option("norm", -5.0, True), ["random.norm=-5.0 is out of range"]),
    "an option that the method lacks": (
        option("nrom", 1.0, True),
        ["unknown option of random 'nrom' (did you mean 'norm'?)"],
    ),
    "an option that nobody gave": (
        option("norm", 0.7, False),
        ["random.norm is 0.7 and was not given; the default is 0.1"],
    ),
    "a foreign test split": (split, ["its test split has the digest ffffffffffff, that of digits here"]),
}


@pytest.mark.parametrize(("change", "words"), SPOILT.values(), ids=list(SPOILT))
def test_what_was_changed_is_found_without_running_anything(
    ran: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Record], Record], words: list[str]
) -> None:
    """A line per contradiction, with both values; exit code 1."""
    rewritten(ran, change)
    assert main(["verify", str(ran)]) == 1
    shown = capsys.readouterr().out
    assert all(word in shown for word in words), shown
    assert all(
        line.startswith((f"contradicted: {RANDOM}: ", "contradicted: 0 of 0", "note: "))
        for line in shown.splitlines()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: {**a, "after": (a["label"] + 1) % 10}, "its right answers after the repair differ on"),
        (lambda a: {**a, "index": a["index"] + 1}, "is of other images than its right answers"),
        (
            lambda a: {**a, "confusion_after": a["confusion_after"] * 2},
            "confusion_after in predictions.npz is not of the predictions",
        ),
        (lambda a: {**a, "after": a["after"][:10]}, "predictions.npz cannot be read"),
        (lambda a: {k: v for k, v in a.items() if k != "label"}, "predictions.npz cannot be read"),
        (None, "predictions.npz cannot be read"),
    ],
)
def test_predictions_are_compared_with_the_record(
    ran: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str
) -> None:
    """Their labels, answers, images and confusion matrices; a damaged file is a contradiction, not
    a traceback.
    """
    path = ran / "cells" / RANDOM / "predictions.npz"
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    path.unlink()
    if change is None:
        path.write_bytes(b"PK\x03\x04 no archive")
    else:
        np.savez(path, **change(arrays))
    assert main(["verify", str(ran)]) == 1
    assert said in capsys.readouterr().out


def test_a_line_that_is_no_record_is_a_contradiction(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An accuracy of 9.9 is named with its line."""
    content = [json.loads(line) for line in (ran / "records.jsonl").read_text().splitlines()]
    content[0]["after"]["accuracy"] = 9.9
    (ran / "records.jsonl").write_text("".join(json.dumps(c) + "\n" for c in content))
    assert main(["verify", str(ran / "records.jsonl")]) == 1
    assert "records.jsonl:1: after.accuracy is 9.9; accepted: a number from 0 to 1" in capsys.readouterr().out


def test_a_sample_is_run_again_and_the_folder_is_marked(
    ran: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the machine that made them the bits are equal, however many threads torch would take. The mark
    holds for these records only.
    """
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert main(["verify", str(ran), "--reproduce", "2", "--sample-seed", "7"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(": bit for bit\n") == 2, shown
    mark = marks.read(ran)
    assert mark is not None
    assert mark.word == "reproduced"
    assert str(mark).startswith("reproduced: 2 of 4 cells, drawn at random, were run again")
    assert len({r.key for r in mark.sample}) == 2
    append(
        ran / "records.jsonl", dataclasses.replace(read([ran])[0][0], case=Case("digits", "fc", "noop", 99))
    )
    assert marks.read(ran) is None


def test_a_cell_whose_device_is_not_here_fails_and_the_next_one_runs(place: Path, tmp_path: Path) -> None:
    """It has a record that says why; the verification goes on."""
    specs = [spec_of(r) for r in read([place / "out"])[0] if r.case.method == "noop"]
    lines = [dataclasses.replace(specs[0], device="cuda:99").to_json(), specs[1].to_json()]
    (tmp_path / "specs").write_bytes(b"\n".join(lines))
    run_again(tmp_path / "specs", tmp_path / "records.jsonl")
    first, second = read([tmp_path])[0]
    assert (first.status, second.status) == ("failed", "repaired")
    assert "cuda:99" in first.reason


def test_a_repair_that_never_happened_is_contradicted(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores, right answers and digest agree with each other; the cell run again says otherwise,
    and the folder's mark too.
    """

    def invented(record: Record) -> Record:
        right = unpack(record.right["before"]) | True
        before = unpack(record.right["before"])
        scores = {
            "accuracy": 1.0,
            "net_change": float(1 - before.mean()),
            "break_rate": 0.0,
            "generalisation": 1.0,
        }
        found = after(**scores)(record)
        return dataclasses.replace(
            found,
            right={**record.right, "after": pack(right)},
            subject={**record.subject, "repaired_weights": "0" * 64},
        )

    rewritten(ran, invented)
    shutil.rmtree(ran / "cells")
    assert main(["verify", str(ran)]) == 0, "nothing else can be seen in the records"
    assert main(["verify", str(ran), "--reproduce", "4"]) == 1
    shown = capsys.readouterr().out
    assert f"contradicted: {RANDOM}: " in shown
    assert "accuracy after 100.00 % reported" in shown or "where bits must be equal" in shown
    mark = marks.read(ran)
    assert mark is not None
    assert mark.word == "contradicted"


def test_the_same_seed_draws_the_same_sample(ran: Path) -> None:
    """Another seed another one; more cells than there are is all of them."""
    records = read([ran])[0]
    first = [r.key for r in drawn(records, 2, 1)[0]]
    assert first == [r.key for r in drawn(list(reversed(records)), 2, 1)[0]]
    assert len({tuple(r.key for r in drawn(records, 2, s)[0]) for s in range(20)}) > 1
    assert len(drawn(records, 99, 1)[0]) == 4


def test_a_spec_is_the_recorded_cell(ran: Path) -> None:
    """Every option as it was, the profile, the attack."""
    record = next(r for r in read([ran])[0] if r.key == RANDOM)
    spec = spec_of(record)
    assert spec.case == record.case
    assert spec.profile == "smoke"
    assert spec.options == {k: v["value"] for k, v in record.options.items()}
    assert spec.pgd


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"status": "timeout"}, "it ended as timeout"),
        ({"provenance": {"benchmark_version": 1}}, "it is of benchmark version 1"),
        (
            {
                "provenance": {
                    "benchmark_version": 2,
                    "profile": "smoke",
                    "device_kind": "cuda",
                    "device": "H100",
                }
            },
            "it ran on H100",
        ),
        ({"provenance": {"benchmark_version": 2, "profile": "mine"}}, "the profile 'mine' is not known here"),
        ({"case": Case("beans", "cnn", "noop", 0)}, "the data set beans is not known here"),
        ({"case": Case("digits", "cnn", "magic", 0)}, "unknown method 'magic'"),
        ({"subject": {"origin": {"kind": "brought", "file": "my.pt"}}}, "it needs the model file my.pt"),
        ({"fingerprint": {"data": {"failing": "abc"}}}, "it needs the inputs that its user named"),
    ],
)
def test_what_cannot_be_run_again_here_says_why(fields: dict[str, Any], why: str) -> None:
    """It is not drawn, and it is no contradiction."""
    known = {"provenance": {"benchmark_version": 2, "profile": "smoke"}}
    record = Record(**{"case": Case("digits", "cnn", "noop", 0), "status": "repaired", **known, **fields})
    assert hindrance(record).startswith(why)
    assert drawn([record], 1, 0) == ([], [f"1 cell cannot be run again here: {hindrance(record)}"])


def repeated(arithmetic: str = "native", **changes: Any) -> Record:
    """A record with 400 right answers, 320 of them right after the repair."""
    right = {
        "tested": pack([True] * 400),
        "before": pack(np.arange(400) < 300),
        "after": pack(np.arange(400) < 320),
    }
    fields: dict[str, Any] = {
        "before": {"accuracy": 0.75},
        "after": {"accuracy": 0.8},
        "subject": {"weights": "w", "repaired_weights": "r"},
        "provenance": {"arithmetic": arithmetic, "benchmark_version": 2},
        "right": right,
    }
    return Record(Case("digits", "cnn", "dl2", 0), "repaired", **{**fields, **changes})


def answered(count: int, skip: int = 0) -> dict[str, Any]:
    """So many right answers after the repair, not the first ones, and other weights."""
    right = (np.arange(400) >= skip) & (np.arange(400) < skip + count)
    own = repeated()
    return {
        "right": {**own.right, "after": pack(right)},
        "after": {"accuracy": count / 400},
        "subject": {"weights": "w", "repaired_weights": "other"},
    }


def test_in_portable_arithmetic_bits_decide() -> None:
    """One other weight is a contradiction there; in native arithmetic the test images decide."""
    assert judged(repeated("portable"), repeated("portable")).why == "bit for bit"
    other = answered(321)
    assert judged(repeated("portable"), repeated("portable", **other)).word == "contradicted"
    found = judged(repeated(), repeated(**other))
    assert found.word == "reproduced"
    assert "not bit for bit (repaired weights r and other" in found.why
    assert judged(repeated("portable"), repeated("native", **other)).word == "reproduced"


def test_in_native_arithmetic_the_test_images_decide() -> None:
    """Twenty images more wrong are more than McNemar's test allows; without the images only a
    larger gap is.
    """
    assert judged(repeated(), repeated(**answered(300))).word == "contradicted"
    assert judged(repeated(), repeated(**answered(320, skip=5))).word == "reproduced"
    said = repeated(right={}, provenance={"n": {"test": 400}})
    assert judged(said, repeated(**answered(310))).word == "reproduced"
    assert judged(said, repeated(**answered(200))).word == "contradicted"


def test_a_cell_that_cannot_run_says_nothing_about_its_record() -> None:
    """Its data are missing, its memory, its process; another status, options or data are contradictions."""
    own = repeated()
    for again in (None, Record(own.case, "skipped", "no data"), Record(own.case, "failed", "no such option")):
        assert judged(own, again).word == "not tried"
    assert (
        judged(own, dataclasses.replace(own, status="unsupported", reason="no batch norm")).word
        == "contradicted"
    )
    other = repeated(subject={"data": {"test": "b"}})
    assert judged(repeated(subject={"data": {"test": "a"}}), other).why.startswith(
        "data of test: was a, is b"
    )


def test_a_mark_that_is_none_is_refused(tmp_path: Path) -> None:
    """One line."""
    (tmp_path / marks.MARK).write_text('{"word": "splendid"}')
    with pytest.raises(
        Exception, match="word is 'splendid'; accepted: one of reported, reproduced, contradicted"
    ):
        marks.read(tmp_path)


def test_bad_words_are_one_line(ran: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert main(["verify", str(ran), "--reproduce", "-1"]) == 2
    assert main(["verify", str(ran / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
