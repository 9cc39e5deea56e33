"""`airepair submit-check`: what an entry for the leaderboard lacks, without running anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airepair.cli.main import main
from airepair.records import Record, append, right_answers
from tests.report_records import record

SEEDS = range(6)
ENTRY = """
name = "mine"
authors = ["A. Author"]
methods = ["mine"]
source = "https://example.org/mine, commit 0123abc"
licence = "MIT"
install = "mine==1.0"
"""


def complete(method: str, seed: int) -> Record:
    """A record that lacks nothing."""
    one = record(f"digits-cnn-{method}-s{seed}")
    right = np.arange(100) < 81
    scores = {k: v for k, v in one.before.items() if k not in ("break_rate", "net_change", "generalisation")}
    return dataclasses.replace(
        one,
        before=scores,
        after=scores,
        category="direct weight modification" if method == "mine" else "control",
        right={
            "tested": right_answers.pack([True] * 100),
            "before": right_answers.pack(right),
            "after": right_answers.pack(right),
        },
        fingerprint={"method": method, "source": "s"},
        provenance={**one.provenance, "arithmetic": "portable", "n": {"test": 100}},
    )


def entered(
    folder: Path, change: Callable[[Record], Record | None] = lambda r: r, text: str | None = ENTRY
) -> Path:
    """A complete entry with its records changed, or without them."""
    folder.mkdir()
    for seed in SEEDS:
        for method in ("noop", "finetune", "random", "mine"):
            found = change(complete(method, seed))
            if found is not None:
                append(folder / "records.jsonl", found)
    if text is not None:
        (folder / "entry.toml").write_text(text)
    return folder


def without(method: str, *seeds: int) -> Callable[[Record], Record | None]:
    """Those records are not there."""
    return lambda r: None if r.case.method == method and r.case.seed in seeds else r


def with_fields(**fields: Any) -> Callable[[Record], Record]:
    """The records of `mine` with other fields."""
    return lambda r: dataclasses.replace(r, **fields) if r.case.method == "mine" else r


def with_provenance(**values: Any) -> Callable[[Record], Record]:
    """The records of `mine` made under other conditions."""
    return lambda r: (
        dataclasses.replace(r, provenance={**r.provenance, **values}) if r.case.method == "mine" else r
    )


def test_a_complete_entry_lacks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 and one line; a workflow asks for what pip installs."""
    folder = entered(tmp_path / "mine")
    assert main(["submit-check", str(folder)]) == 0
    assert capsys.readouterr().out == "24 records in 1 column: complete\n"
    assert main(["submit-check", str(folder), "--print", "install"]) == 0
    assert capsys.readouterr().out == "mine==1.0\n"


LACKING: dict[str, tuple[Callable[[Record], Record | None], str]] = {
    "seeds": (
        lambda r: r if r.case.seed < 3 else None,
        "digits-cnn: 3 more seeds of mine (3 are there): with fewer than 6 no test can decide",
    ),
    "a control": (without("finetune", *SEEDS), "digits-cnn: the control finetune at seeds 0, 1, 2, 3, 4, 5"),
    "a control's seed": (without("noop", 2), "digits-cnn: the control noop at seed 2"),
    "the random change": (
        without("random", *SEEDS),
        "digits-cnn: the control random at seeds 0, 1, 2, 3, 4, 5",
    ),
    "a seed that was left out": (without("mine", 4), "digits-cnn: mine at seed 4, where noop is"),
    "the method": (without("mine", *SEEDS), "records of mine, which entry.toml names"),
    "a finished cell": (
        lambda r: (
            dataclasses.replace(r, status="timeout", after={}, right={})
            if r.key == "digits-cnn-mine-s1"
            else r
        ),
        "digits-cnn: a finished mine at seed 1",
    ),
    "the version": (
        with_provenance(benchmark_version=1),
        "numbers of benchmark version 2: digits-cnn-mine-s0, digits-cnn-mine-s1",
    ),
    "right answers": (with_fields(right={}), "right answers of each test image: digits-cnn-mine-s0"),
    "the source": (
        with_fields(fingerprint={}),
        "a fingerprint with the digest of the method's source: digits-cnn-mine-s0",
    ),
    "portable arithmetic": (with_provenance(arithmetic="native"), "portable arithmetic on digits"),
    "a clean checkout": (with_provenance(dirty=True), "a checkout of the harness without changes"),
    "versions": (with_provenance(versions={}), "the versions that made it"),
    "scores that agree": (
        lambda r: (
            dataclasses.replace(r, after={**r.after, "accuracy": 0.9}) if r.key == "digits-cnn-mine-s1" else r
        ),
        "digits-cnn-mine-s1: scores that agree: accuracy is 0.9, and its right answers give 0.81",
    ),
}


@pytest.mark.parametrize(("change", "said"), LACKING.values(), ids=list(LACKING))
def test_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Record], Record | None], said: str
) -> None:
    """A line each, and exit code 1."""
    assert main(["submit-check", str(entered(tmp_path / "mine", change))]) == 1
    shown = capsys.readouterr().out
    assert f"lacks {said}" in shown
    assert shown.endswith("incomplete\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "entry.toml cannot be read"),
        ('name = "mine"', "authors is missing; accepted: a list of text in quotes"),
        (ENTRY.replace('["mine"]', "[]"), "methods is []; accepted: a list"),
        (ENTRY.replace("licence", "license"), "license is not a known field (did you mean 'licence'?)"),
        (ENTRY.replace('"MIT"', '""'), "licence is ''; accepted: text in quotes that is not empty"),
    ],
)
def test_an_entry_says_whose_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    """entry.toml is checked like everything from outside."""
    assert main(["submit-check", str(entered(tmp_path / "mine", text=text))]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("lacks a valid entry.toml: ")
    assert said in shown


def test_a_bad_line_is_what_an_entry_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are judged all the same."""
    folder = entered(tmp_path / "mine")
    with (folder / "records.jsonl").open("a") as file:
        file.write("nonsense}\n")
    assert main(["submit-check", str(folder)]) == 1
    assert "lacks a record that can be read in the place of this line: " in capsys.readouterr().out
    assert main(["submit-check", str(folder / "records.jsonl")]) == 2
