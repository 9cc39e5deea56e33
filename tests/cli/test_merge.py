"""`airepair plan`, `airepair cell` and `airepair merge`: cells as tasks of an array job, and their
records joined.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.cli.main import main
from airepair.records import Record, append, read
from airepair.runner.cell import CellSpec
from tests import rig

CONDITIONS = {
    "benchmark_version": 2,
    "arithmetic": "native",
    "device_kind": "x",
    "versions": {"torch": "2.13.0", "airepair": "0.1.0"},
}


def record(
    seed: int, method: str = "noop", accuracy: float = 0.8, status: str = "repaired", **values: object
) -> Record:
    """A record as a cell leaves it."""
    filled = {
        "provenance": CONDITIONS,
        "subject": {"weights": f"w{seed}", "data": {"test": "t"}},
        "after": {"accuracy": accuracy},
    } | values
    return Record(Case("digits", "fc", method, seed), status, **filled)  # type: ignore[arg-type]


def shard(folder: Path, *records: Record) -> Path:
    """A folder with these records, each with a file of its cell."""
    for one in records:
        append(folder / "records.jsonl", one)
        cell = folder / "cells" / one.key
        cell.mkdir(parents=True, exist_ok=True)
        (cell / "log.txt").write_text(folder.name)
    return folder


def kept(out: Path) -> dict[str, Record]:
    """The merged records by key; each has one line."""
    found = {r.key: r for r in read([out / "records.jsonl"])[0]}
    assert len((out / "records.jsonl").read_text().splitlines()) == len(found)
    return found


def test_shards_are_joined_with_the_files_of_their_cells(tmp_path: Path) -> None:
    """Two folders, one cell in both with the same result: each cell once, its files beside it."""
    one = shard(tmp_path / "one", record(0), record(1))
    two = shard(tmp_path / "two", record(1), record(2, accuracy=0.7))
    assert main(["merge", str(one), str(two), "--out", str(tmp_path / "out")]) == 0
    assert {k: r.after["accuracy"] for k, r in kept(tmp_path / "out").items()} == {
        rig.key(0): 0.8,
        rig.key(1): 0.8,
        rig.key(2): 0.7,
    }
    assert (tmp_path / "out" / "cells" / rig.key(1) / "log.txt").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


def test_what_did_not_finish_gives_way(tmp_path: Path) -> None:
    """A crash in one folder and a finished record in another, in either order, are no contradiction."""
    crashed = shard(tmp_path / "a", replace(record(0), status="crashed", after={}), record(1))
    whole = shard(tmp_path / "b", record(0), replace(record(1), status="timeout", after={}))
    for name, folders in (("ab", (crashed, whole)), ("ba", (whole, crashed))):
        assert main(["merge", *map(str, folders), "--out", str(tmp_path / name)]) == 0
        assert {r.status for r in kept(tmp_path / name).values()} == {"repaired"}


CONTRADICTIONS = {
    "result": (record(0, accuracy=0.7), "digits-fc-noop-s0: accuracy is 0.8, 0.7"),
    "weights": (
        record(0, "random", subject={"weights": "other"}),
        'digits-fc-s0: weights of the subject: "w0" in',
    ),
    "data": (record(0, "random", subject={"data": {"test": "u"}}), "digits-fc-s0: data: "),
    "arithmetic": (
        record(1, provenance=CONDITIONS | {"arithmetic": "portable"}),
        'digits-fc: arithmetic: "native" in',
    ),
    "torch": (
        record(1, provenance=CONDITIONS | {"versions": {"torch": "2.11.0"}}),
        'digits-fc: version of torch: "2.13.0" in',
    ),
    "version": (
        record(1, provenance=CONDITIONS | {"benchmark_version": 1}),
        "digits-fc: benchmark version: 2 in",
    ),
    "options": (record(0, fingerprint={"profile": "cpu"}), "digits-fc-noop-s0: profile: was smoke, is cpu"),
    "status": (
        replace(record(0), status="unsupported", after={}),
        "digits-fc-noop-s0: repaired, unsupported",
    ),
}


@pytest.mark.parametrize(("other", "said"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS))
def test_contradictions_are_refused_unless_a_side_is_preferred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: Record, said: str
) -> None:
    """Nothing is written and each is named; --prefer last keeps the folder named last, best the one
    with more finished cells.
    """
    mine = record(0, fingerprint={"profile": "smoke"})
    one = shard(tmp_path / "one", mine, record(2))
    two = shard(tmp_path / "two", other)
    words = ["merge", str(one), str(two), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "nothing was merged: " in shown
    assert not (tmp_path / "out").exists()
    assert main([*words, "--prefer", "last"]) == 0
    assert kept(tmp_path / "out")[other.key] == other
    assert main([*words[:-1], str(tmp_path / "best"), "--prefer", "best"]) == 0
    best = kept(tmp_path / "best")
    assert best[mine.key] == mine
    assert rig.key(2) in best
    assert "left out: " in capsys.readouterr().err


def test_a_record_that_its_files_contradict_is_never_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An accuracy that the right answers do not give, and a line that is no record: named, and
    --prefer does not help.
    """
    from airepair.records.right_answers import pack

    right = {"tested": pack([True] * 4), "after": pack([True, True, True, False])}
    wrong = shard(tmp_path / "one", record(0, accuracy=0.9, right=right))
    with (wrong / "records.jsonl").open("a") as file:
        file.write("no record}\n")
    assert main(["merge", str(wrong), "--out", str(tmp_path / "out"), "--prefer", "last"]) == 2
    shown = capsys.readouterr().err
    assert "digits-fc-noop-s0 in" in shown
    assert "accuracy is 0.9, and its right answers give 0.75" in shown
    assert "records.jsonl:2: " in shown
    assert not (tmp_path / "out").exists()


def test_planned_cells_without_a_record_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of three planned cells ran: the third is named and the exit code is 1."""
    plan = tmp_path / "specs"
    plan.mkdir()
    for seed in range(3):
        (plan / f"{seed:05d}.json").write_bytes(
            CellSpec(Case("digits", "fc", "noop", seed), "smoke").to_json()
        )
    one = shard(tmp_path / "one", record(0), record(2))
    assert main(["merge", str(one), "--out", str(tmp_path / "out"), "--plan", str(plan)]) == 1
    assert "1 of 3 planned cells have no record: digits-fc-noop-s1" in capsys.readouterr().out
    assert main(["merge", str(one), "--out", str(tmp_path / "out")]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cell", "{}/none.json", "--out", "{}/out"], "none.json cannot be read: No such file or directory"),
        (["cell", "{}/bad.json", "--out", "{}/out"], "is not a cell"),
        (["cell", "{}/good.json", "--out", "{}/out", "--device", "gpu"], "did you mean 'cuda'?"),
        (["merge", "{}/nowhere", "--out", "{}/out"], "nowhere/records.jsonl does not exist"),
        (["merge", "{}", "--out", "{}/out", "--plan", "{}/nowhere"], "holds no specs"),
        (["plan", "--dataset", "digits"], "--out DIR is missing"),
    ],
)
def test_bad_words_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """Exit code 2, nothing is written."""
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "good.json").write_bytes(CellSpec(Case("digits", "fc", "noop", 0), "smoke").to_json())
    assert main([w.format(tmp_path) for w in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


SCRIPT = (
    'for n in "$@"; do "$PYTHON" -m airepair cell "$SPECS/$(printf %05d "$n").json" --out '
    '"$SHARDS/$n" || exit; done'
)


@pytest.mark.slow
def test_four_processes_over_a_shared_folder_give_the_records_of_one_run(tmp_path: Path) -> None:
    """Planned, run by four processes at once as an array job would, merged: the scores of `pytest
    benchmarks` to the last bit.
    """
    words = [
        "--dataset",
        "digits",
        "--model",
        "fc",
        "--method",
        "noop,random",
        "--seeds",
        "0,1",
        "--no-ablations",
        "--device",
        "cpu",
    ]
    environment = rig.surroundings(AIREPAIR_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1")
    specs, shards = tmp_path / "specs", tmp_path / "shards"

    def airepair(*words: str) -> None:
        found = subprocess.run(
            [sys.executable, "-m", "airepair", *words], cwd=rig.ROOT, env=environment, check=False
        )
        assert found.returncode == 0

    airepair("plan", *words, "--out", str(specs))
    assert len(list(specs.glob("*.json"))) == 4
    more = environment | {"PYTHON": sys.executable, "SPECS": str(specs), "SHARDS": str(shards)}
    tasks = [
        subprocess.Popen(["bash", "-c", SCRIPT, "task", str(n)], cwd=rig.ROOT, env=more) for n in range(4)
    ]
    assert [task.wait(timeout=900) for task in tasks] == [0] * 4
    airepair(
        "merge", *map(str, sorted(shards.iterdir())), "--out", str(tmp_path / "merged"), "--plan", str(specs)
    )
    airepair("bench", *words, "--out", str(tmp_path / "whole"), "-n", "2", "-q")
    merged, whole = (kept(tmp_path / name) for name in ("merged", "whole"))
    assert merged.keys() == whole.keys()
    for key, one in merged.items():
        assert (one.after, one.right, one.fingerprint) == (
            whole[key].after,
            whole[key].right,
            whole[key].fingerprint,
        )
    again = subprocess.run(
        ["bash", "-c", SCRIPT, "task", "0"],
        cwd=rig.ROOT,
        env=more,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "its record stands" in again.stdout
    assert len((shards / "0" / "records.jsonl").read_text().splitlines()) == 1
    assert json.loads((specs / "00000.json").read_text())["case"]["seed"] == 0
    assert os.listdir(tmp_path / "merged" / "cells")
