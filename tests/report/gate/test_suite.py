"""The gate in a run of the suite: `pytest benchmarks --baseline RUN` has the exit codes of
`airepair compare`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airepair.records import Record, append, read
from tests.suite.test_suite import SMALL, suite, suites

SEEDS = "90,91,92,93,94"
WORDS = [*SMALL, "--method", "noop,random", "--seeds", SEEDS]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two methods at five seeds."""
    folder = tmp_path_factory.mktemp("gate")
    result = suite(folder / "out", *WORDS, cache=folder / "cache")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def baseline(path: Path, records: list[Record], change: Callable[[Record], Record]) -> Path:
    """The records after a change, as a file."""
    for record in records:
        append(path, change(record))
    return path


def test_a_run_that_is_as_good_as_its_baseline_is_green(ran: Path) -> None:
    """Also one that kept every record; its last table is the gate's, and the verdict's files lie
    beside the records.
    """
    result = suite(ran / "out", *WORDS, "--resume", "--baseline", str(ran / "out"), cache=ran / "cache")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Nothing changed: the repaired weights are equal, bit for bit" in result.stdout
    assert json.loads((ran / "out" / "gate.json").read_text())["exit_code"] == 0
    assert (ran / "out" / "gate.md").exists()


@pytest.mark.parametrize("workers", [pytest.param([], marks=pytest.mark.slow), ["-n", "2"]])
def test_a_run_that_is_worse_ends_with_10(ran: Path, tmp_path: Path, workers: list[str]) -> None:
    """The baseline's random was better by ten points.

    Its finetune was left out by this selection and is not judged; `gone` does not exist.
    """

    def better(record: Record) -> Record:
        after = {**record.after, "accuracy": min(1.0, record.after["accuracy"] + 0.1)}
        return (
            dataclasses.replace(record, after=after, right={}) if record.case.method == "random" else record
        )

    records = read([ran / "out"])[0]
    file = baseline(tmp_path / "old.jsonl", records, better)
    for method in ("finetune", "gone"):
        append(
            file,
            dataclasses.replace(
                records[0], case=dataclasses.replace(records[0].case, method=method), fingerprint={}
            ),
        )
    result = suite(
        ran / "out",
        *WORDS,
        "--resume",
        *workers,
        "--baseline",
        str(file),
        "--fail-if",
        "accuracy:-1pp",
        cache=ran / "cache",
    )
    assert result.returncode == 10, result.stdout + result.stderr
    text = " ".join(result.stdout.split())
    assert "Regressed: digits-fc-random: accuracy -10.00 pp" in text
    assert "Missing: digits-fc-gone: it did not run" in text
    assert "digits-fc-finetune" not in text
    assert "1 records of the baseline were not selected in this run" in text


def test_a_run_that_cannot_be_judged_is_not_green(ran: Path, tmp_path: Path) -> None:
    """A baseline with another profile: nothing can be compared."""

    def other(record: Record) -> Record:
        return dataclasses.replace(record, fingerprint={**record.fingerprint, "profile": "paper"})

    file = baseline(tmp_path / "old.jsonl", read([ran / "out"])[0], other)
    result = suite(ran / "out", *WORDS, "--resume", "--baseline", str(file), cache=ran / "cache")
    assert result.returncode == 11, result.stdout + result.stderr
    assert "Not comparable: digits-fc-noop: profile: was paper, is smoke" in " ".join(result.stdout.split())


REFUSED = {
    "accepted: them together": ["--fail-if", "accuracy:-1pp"],
    "nowhere.jsonl does not exist": ["--baseline", "nowhere.jsonl"],
    "did you mean 'accuracy'": ["--baseline", "{run}", "--fail-if", "acuracy:-1pp"],
    "level 95 is out of range": ["--baseline", "{run}", "--level", "95"],
}


def test_bad_words_of_the_gate_are_usage_errors(ran: Path, tmp_path: Path) -> None:
    """Before anything runs: exit code 4, one line."""
    results = suites(
        tmp_path, [[*WORDS, *(w.format(run=ran / "out") for w in words)] for words in REFUSED.values()]
    )
    assert {r.returncode for r in results} == {pytest.ExitCode.USAGE_ERROR}
    assert [said for said, r in zip(REFUSED, results, strict=True) if said not in r.stderr] == []
    assert "Traceback" not in "".join(r.stderr for r in results)
