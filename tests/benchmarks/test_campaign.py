"""The campaign: stages in the profile's order, each resumed where the last run stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

from airepair.case import Case
from airepair.records import Record, append
from airepair.subjects.recipes import training_of
from benchmarks import collect
from benchmarks.campaign import __main__ as campaign
from benchmarks.campaign import stage_list
from benchmarks.campaign.chunks import join
from benchmarks.campaign.pack import chosen, packed
from benchmarks.perf.__main__ import GROUPS


def test_stages_follow_the_profile() -> None:
    """CIFAR-100 first, ResNet-18 before 34 before 50, then the other sets, at last the performance
    benchmarks.
    """
    found = campaign.stages("gpu")
    assert found[0].startswith("cifar100-resnet18")
    order = [
        found.index(f"{d}-{m}") for d in ("cifar100", "cifar10") for m in ("resnet18", "resnet34", "resnet50")
    ]
    assert order == sorted(order)
    assert found.index("cifar10-resnet50") < found.index("mnist-cnn") < found.index("fashion_mnist-cnn")
    assert found[-len(GROUPS) :] == [f"performance-{group}" for group in GROUPS]


@pytest.mark.parametrize(
    ("code", "seconds", "finished"),
    [("0", 30, True), ("2", 30, False), ("__import__('time').sleep(60)", 0.5, False)],
)
def test_a_stage_ends_or_is_interrupted(tmp_path: Path, code: str, seconds: float, finished: bool) -> None:
    """A child that fails, or is still running when its time ends, has not finished; the latter is
    interrupted.
    """
    words = [sys.executable, "-c", f"raise SystemExit({code})"]
    assert campaign.run_stage(words, tmp_path, tmp_path / "log.txt", seconds) is finished


@pytest.mark.parametrize("hears", [True, False])
def test_ctrl_c_ends_the_stage_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hears: bool
) -> None:
    """It has a session of its own, so no Ctrl-C of a terminal reaches it; one that does not hear is
    ended by force. One line says how to go on.
    """
    children: list[subprocess.Popen[bytes]] = []
    wait, ready = subprocess.Popen.wait, tmp_path / "ready"

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        children.append(self)
        if len(children) > 1:
            return wait(self, timeout)
        while not ready.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    deaf = "" if hears else "signal.signal(signal.SIGINT, signal.SIG_IGN);"
    code = f"import pathlib, signal, time; {deaf} pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    monkeypatch.setattr(campaign, "command", lambda *_: [sys.executable, "-c", code])
    monkeypatch.setattr(campaign, "GRACE", 0.5 if not hears else 20)
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    assert campaign.main(["--state", str(tmp_path), "--minutes", "9", "--stage", "digits-fc"]) == 130
    assert capsys.readouterr().err == "campaign: interrupted; the same command goes on from here\n"
    assert (children[0].returncode == -signal.SIGKILL) is not hears
    assert children[0].returncode is not None


def filed(state: Path, stage: str, method: str, status: str = "repaired") -> None:
    """A record of a cell of that stage."""
    dataset, model = stage.split("-")
    append(state / "records" / "records.jsonl", Record(Case(dataset, model, method, 0), status))  # type: ignore[arg-type]


def test_a_second_run_goes_on_where_the_first_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stages that are done are not run again; exit code 3 while some are left, 4 when one broke, 0
    at the end.
    """
    ran: list[str] = []
    fate = {"digits-fc": "0", "digits-cnn": "2"}

    def command(stage: str, given: object, state: Path) -> list[str]:
        ran.append(stage)
        filed(state, stage, "noop")
        return [sys.executable, "-c", f"raise SystemExit({fate[stage]})"]

    monkeypatch.setattr(campaign, "command", command)
    words = ["--state", str(tmp_path), "--minutes", "1", "--stage", "digits-fc", "--stage", "digits-cnn"]
    assert campaign.main(words) == 4
    fate["digits-cnn"] = "0"
    assert campaign.main(words) == 0
    assert ran == ["digits-fc", "digits-cnn", "digits-cnn"]
    assert json.loads((tmp_path / "done.json").read_text()) == ["digits-fc", "digits-cnn"]
    assert campaign.main(["--state", str(tmp_path / "new"), "--minutes", "0.3", "--stage", "digits-fc"]) == 3


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--stage", "digits"], "'digits'"),
        (["--stage", "performance-all"], "training, submodels"),
        (["--minutes", "0"], "--minutes 0"),
        (["--nice", "20"], "--nice 20"),
        (["--list", "nowhere.toml"], "nowhere.toml"),
        (["--cell-seconds", "-1"], "--cell-seconds -1"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, words: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything runs."""
    assert campaign.main(["--state", str(tmp_path), *words]) == 2
    assert shown in capsys.readouterr().err


def test_a_stage_in_which_nothing_ran_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Absent data skips every cell and is no error to pytest; the stage is left for a machine that has it."""
    monkeypatch.setattr(campaign, "command", lambda *_: [sys.executable, "-c", ""])
    assert campaign.main(["--state", str(tmp_path), "--minutes", "1", "--stage", "mnist-fc"]) == 4
    assert "nothing ran" in capsys.readouterr().out
    assert not (tmp_path / "done.json").exists()


def test_a_cell_is_tried_once_unless_it_is_asked_for_again(tmp_path: Path) -> None:
    """Else one that takes longer than a run would stand in the way of all others for ever."""
    filed(tmp_path, "digits-fc", "care", "timeout")
    filed(tmp_path, "digits-fc", "noop")
    filed(tmp_path, "digits-cnn", "prdnn", "failed")
    given = Namespace(profile="smoke", cell_seconds=60.0, retry=False, options=["--seeds", "0"], listed=None)
    words = campaign.command("digits-fc", given, tmp_path)
    assert words[words.index("--deselect") + 1] == "benchmarks/test_repair.py::test_repair[digits-fc-care-s0]"
    assert words.count("--deselect") == 1
    assert words[words.index("--time-limit") + 1] == "60.0"
    assert words[-2:] == ["--seeds", "0"]
    given.retry = True
    assert "--deselect" not in campaign.command("digits-fc", given, tmp_path)


def test_what_is_small_goes_along_and_the_next_machine_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records before weights, small before large, within the limit; submodels stay behind; joined,
    it is a state.
    """
    sizes = {
        "records/records.jsonl": 900,
        "records/cells/a/repaired.safetensors": 3000,
        "cache/big.safetensors": 9000,
        "cache/small.safetensors": 2000,
        "cache/half.part/state.pt": 2500,
        "cache/submodels/x.safetensors": 10,
        "compiled/kernel": 10,
        "log.txt": 50,
    }
    for name, size in sizes.items():
        (tmp_path / "state" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "state" / name).write_bytes(bytes(size))
    along, left = chosen(tmp_path / "state", 14_000)
    assert [p.as_posix() for p in along] == [
        "log.txt",
        "records/records.jsonl",
        "cache/small.safetensors",
        "cache/half.part/state.pt",
        "records/cells/a/repaired.safetensors",
    ]
    assert [p.as_posix() for p in left] == ["cache/big.safetensors"]
    listed, _ = packed(tmp_path / "state", tmp_path / "pieces", 8000, 14_000)
    assert max(p.stat().st_size for p in (tmp_path / "pieces").iterdir()) <= 8000
    there = join(listed, tmp_path / "there")
    assert there.name == "state"
    assert sorted(p.relative_to(there) for p in there.rglob("*") if p.is_file()) == sorted(along)


@pytest.mark.slow
def test_records_are_collected(tmp_path: Path) -> None:
    """A real stage: its records and tables lie in the state's folder."""
    words = ["--state", str(tmp_path), "--minutes", "30", "--profile", "smoke", "--stage", "digits-fc"]
    assert campaign.main([*words, "--", "--method", "noop,lookup", "--seeds", "0"]) == 0
    assert len((tmp_path / "records" / "records.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "records" / "table1.md").exists()


LIST = """
profile = "smoke"
reports = "reports/nowhere"

[[row]]
dataset = "digits"
model = "fc"
methods = ["noop", "random"]
seeds = [0]

[[row]]
dataset = "digits"
model = "fc"
methods = ["lookup"]
seeds = [0, 1]
"""
HERE = ("CPU (here)", "AVX512")


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, stage_list.Row]:
    """Two rows of one column."""
    (tmp_path / "list.toml").write_text(LIST)
    return stage_list.read(tmp_path / "list.toml").rows


def made(key: str, device: str = HERE[0], **more: object) -> Record:
    """A record of that cell and processor."""
    facts = {"device": device, "cpu_capability": HERE[1], "dirty": False, **more}
    return Record(Case.parse(key), "repaired", provenance=facts)


def test_a_row_is_done_when_each_of_its_cells_has_a_record(rows: dict[str, stage_list.Row]) -> None:
    """Whatever the record says, unless it is asked for again."""
    row = rows["1-digits-fc"]
    assert stage_list.left(row, []) == ["digits-fc-noop-s0", "digits-fc-random-s0"]
    failed = Record(Case.parse("digits-fc-random-s0"), "timeout")
    assert stage_list.left(row, [made("digits-fc-noop-s0"), failed]) == []
    assert stage_list.left(row, [made("digits-fc-noop-s0"), failed], retry=True) == ["digits-fc-random-s0"]


def test_a_column_waits_for_the_processor_that_began_it(rows: dict[str, stage_list.Row]) -> None:
    """Numbers of two kinds of processors do not stand in one column; a column that nobody began may
    begin here.
    """
    row = rows["1-digits-fc"]
    assert stage_list.waits_for(row, [], HERE) == ""
    assert stage_list.waits_for(row, [made("digits-fc-noop-s0")], HERE) == ""
    assert stage_list.waits_for(row, [made("digits-fc-noop-s0", "CPU (other)")], HERE) == "CPU (other) AVX512"
    assert stage_list.waits_for(row, [made("digits-cnn-noop-s0", "CPU (other)")], HERE) == ""
    anywhere = made("digits-fc-noop-s0", "CPU (other)")
    anywhere.provenance["arithmetic"] = "portable"
    assert stage_list.waits_for(row, [anywhere], HERE) == ""


def test_the_cells_of_a_row_are_asked_for_one_by_one_and_only_those_that_are_left(
    tmp_path: Path, rows: dict[str, stage_list.Row]
) -> None:
    """`--method finetune` alone would also select its variants."""
    append(tmp_path / "records" / "records.jsonl", made("digits-fc-noop-s0"))
    found = stage_list.Listed("smoke", "reports/nowhere", rows)
    given = Namespace(profile="gpu", cell_seconds=60.0, retry=False, options=[], listed=found, models=None)
    words = campaign.command("1-digits-fc", given, tmp_path)
    assert [w for w in words if "test_repair" in w] == [
        "benchmarks/test_repair.py::test_repair[digits-fc-random-s0]"
    ]
    assert words[words.index("--profile") + 1] == "smoke"


def test_the_committed_list_names_each_cell_once() -> None:
    """And its models are files, or have a training."""
    found = stage_list.read(campaign.ROOT / "benchmarks" / "cifar_cpu.toml").rows.values()
    keys = [key for row in found for key in row.keys]
    assert len(keys) == len(set(keys))
    assert all(training_of(row.dataset, row.model) for row in found if row.model)


def test_a_model_file_of_the_list_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row names file and folder; exit code 2."""
    (tmp_path / "list.toml").write_text(LIST.replace('model = "fc"', 'file = "mine.pt"'))
    words = [
        "--state",
        str(tmp_path / "state"),
        "--list",
        str(tmp_path / "list.toml"),
        "--models",
        str(tmp_path),
    ]
    assert campaign.main(words) == 2
    assert "mine.pt" in capsys.readouterr().err


def test_records_are_brought_to_the_repository_once_with_their_tables(tmp_path: Path) -> None:
    """A second call adds nothing; a record of a checkout with changes is refused."""
    source, folder = tmp_path / "records", tmp_path / "reports"
    folder.mkdir()
    append(source / "records.jsonl", made("digits-fc-noop-s0"))
    assert collect.main([str(source), str(folder)]) == collect.main([str(source), str(folder)]) == 0
    assert len((folder / "records.jsonl").read_text().splitlines()) == 1
    assert (folder / "table1.md").exists()
    append(source / "records.jsonl", made("digits-fc-random-s0", dirty=True))
    assert collect.main([str(source), str(folder)]) == 2


@pytest.mark.slow
def test_a_list_is_run_and_resumed(
    tmp_path: Path, rows: dict[str, stage_list.Row], capsys: pytest.CaptureFixture[str]
) -> None:
    """A real list, row by row; the second run has nothing left to do."""
    words = [
        "--state",
        str(tmp_path / "state"),
        "--minutes",
        "30",
        "--list",
        str(tmp_path / "list.toml"),
        "--nice",
        "1",
    ]
    assert campaign.main(words) == 0
    filed_keys = [
        json.loads(line)["key"]
        for line in (tmp_path / "state" / "records" / "records.jsonl").read_text().splitlines()
    ]
    assert filed_keys == [key for row in rows.values() for key in row.keys]
    assert campaign.main(words) == 0
    assert "done after" in capsys.readouterr().out
