"""Faults that cost no finished cell: records, state files, locks and caches (docs/reliability.md is
the table).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from airepair import data
from airepair.case import Case
from airepair.errors import UsageError
from airepair.host import tensor_cache
from airepair.host.orphans import ending_with_parent
from airepair.host.signals import finishing
from airepair.host.tensor_cache import digest_of_module as digest
from airepair.records import Record, append, read, scan
from airepair.records.lookup import Lookup
from airepair.records.tenancy import Tenancy
from airepair.runner.cell import CellResult
from airepair.runner.storage import WEIGHTS, file_before, file_result, scores_before
from airepair.subjects import baseline
from airepair.subjects.baseline import trained
from airepair.subjects.recipes import Training
from airepair.suite.folder import RunFolder
from airepair.types import Dataset, Recipe
from tests import rig

NOBODY = 65534
SHORT = Training(Recipe(epochs=2, lr=0.05, early=0.5), "test")


def record(seed: int, method: str = "noop", validation: float = 0.5, **values: object) -> Record:
    """A finished record."""
    case = Case("digits", "fc", method, seed)
    subject = {"repaired_validation_accuracy": validation}
    return Record(
        case, "repaired", before={"accuracy": 0.5}, after={"accuracy": 0.6}, subject=subject, **values
    )  # type: ignore[arg-type]


def weighted(seed: int, validation: float) -> CellResult:
    """A result with weights."""
    return CellResult(record(seed, validation=validation), {WEIGHTS: b"weights"})


def with_weights(out: Path) -> set[str]:
    """The cells whose weights are kept."""
    return {p.parent.name for p in out.glob(f"cells/*/{WEIGHTS}")}


@pytest.mark.parametrize(
    "damage", [None, b"", b"{", b"[1]", b"\xff\xfe", b'{"digits-fc": {"key": 3}}', b'{"digits-fc": []}']
)
def test_the_best_weights_are_known_without_their_file(tmp_path: Path, damage: bytes | None) -> None:
    """best.json is missing or damaged: every cell has its record, and of one subject only the best
    weights stay.
    """
    file_result(tmp_path, weighted(0, 0.7))
    place = tmp_path / "cells" / "best.json"
    place.unlink(missing_ok=True) if damage is None else place.write_bytes(damage)
    file_result(tmp_path, weighted(1, 0.6))
    assert with_weights(tmp_path) == {"digits-fc-noop-s0"}
    place.unlink(missing_ok=True) if damage is None else place.write_bytes(damage)
    file_result(tmp_path, weighted(2, 0.8))
    assert with_weights(tmp_path) == {"digits-fc-noop-s2"}
    assert len(read([tmp_path])[0]) == 3


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"before": 3}', b'{"before": {"accuracy": "x"}}', b"\x00"])
def test_a_damaged_file_of_scores_before_is_no_scores(tmp_path: Path, damage: bytes) -> None:
    """The record of a crashed cell goes without them."""
    case = Case("digits", "fc", "noop", 0)
    file_before(tmp_path, case, {"accuracy": 0.5}, {})
    assert scores_before(tmp_path, case) == {"accuracy": 0.5}
    (tmp_path / "cells" / str(case) / "before.json").write_bytes(damage)
    assert scores_before(tmp_path, case) == {}


def test_two_backups_within_a_second_are_two_files(tmp_path: Path) -> None:
    """Three runs into one folder, all within a second of the file system's clock: each run's
    records are there.
    """
    for seed in range(3):
        folder = RunFolder(tmp_path, resume=False, join=False)
        append(folder.file, record(seed))
        os.utime(folder.file, (1_700_000_000, 1_700_000_000))
        os.close(folder.tenancy.handle)
    found = sorted(p.name for p in (tmp_path / "previous").iterdir())
    assert found == ["records-20231114T221320Z-2.jsonl", "records-20231114T221320Z.jsonl"]
    kept = {r.case.seed for r in read([tmp_path / "previous"])[0]} | {
        r.case.seed for r in read([tmp_path / "records.jsonl"])[0]
    }
    assert kept == {0, 1, 2}


def test_a_run_that_does_not_resume_finds_no_cell_of_an_earlier_one(tmp_path: Path) -> None:
    """Else a crashed cell would have the earlier run's scores before, and the earlier run's best model
    would decide which weights stay. A run that resumes finds them.
    """

    def run(*results: CellResult, resume: bool = False) -> None:
        folder = RunFolder(tmp_path, resume=resume, join=False)
        for result in results:
            file_result(tmp_path, result)
        os.close(folder.tenancy.handle)

    run(weighted(0, 0.9))
    file_before(tmp_path, record(0).case, {"accuracy": 0.5}, {})
    run(weighted(1, 0.8), resume=True)
    assert with_weights(tmp_path) == {"digits-fc-noop-s0"}
    assert scores_before(tmp_path, record(0).case) == {"accuracy": 0.5}
    run(weighted(1, 0.8), weighted(2, 0.7))
    assert scores_before(tmp_path, record(0).case) == {}
    assert with_weights(tmp_path) == {"digits-fc-noop-s1"}
    (aside,) = (tmp_path / "previous").glob("cells-*")
    assert (aside / "digits-fc-noop-s0" / WEIGHTS).exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_was_removed_is_written_again(tmp_path: Path, resume: bool) -> None:
    """What was filed before the folder vanished, by this run and by an earlier one, is in the file
    at the end, once.
    """
    out = tmp_path / "out"
    append(out / "records.jsonl", record(0))
    folder = RunFolder(out, resume=resume, join=False)
    append(folder.file, record(1))
    shutil.rmtree(out)
    append(folder.file, record(2))
    (said,) = folder.make_whole([record(1), record(2), record(3)])
    assert "was removed during the run" in said
    assert sorted(r.case.seed for r in scan([folder.file]).records) == [*([0] if resume else []), 1, 2, 3]
    assert len(folder.file.read_text().splitlines()) == 3 + resume
    assert folder.make_whole([record(1)])[1:] == []


def test_records_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    """A record that only memory holds, and a place in its way that is no file: one line names it."""
    folder = RunFolder(tmp_path, resume=False, join=False)
    folder.file.unlink()
    folder.file.mkdir()
    (said,) = folder.make_whole([record(7)])
    assert said.startswith("records that are in no file: digits-fc-noop-s7 (")


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    """A process takes the locks of a folder, is killed, and leaves the files: the next one appends
    and takes the folder at once.
    """
    code = (
        "import sys, time; from pathlib import Path; from filelock import FileLock; "
        "from airepair.records.tenancy import Tenancy\n"
        "out = Path(sys.argv[1]); t = Tenancy(out); t.alone(); t.claim('digits-fc-noop-s0')\n"
        "with FileLock(f'{out}/records.jsonl.lock'):\n    print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=rig.ROOT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=rf"process {holder.pid} on .*--join"):
            Tenancy(tmp_path).alone(0.0)
        assert not Tenancy(tmp_path).claim("digits-fc-noop-s0")
        holder.kill()
    start = time.monotonic()
    mine = Tenancy(tmp_path)
    mine.alone()
    assert mine.claim("digits-fc-noop-s0")
    append(tmp_path / "records.jsonl", record(0))
    assert time.monotonic() - start < 2


ORPHAN = """
import os, subprocess, sys, time
child = "import sys, time; from airepair.host.orphans import end_with_parent as f; f(int(sys.argv[1])); print('on', flush=True); time.sleep(600)"
with subprocess.Popen([sys.executable, "-c", child, str(os.getpid())], stdout=subprocess.PIPE, text=True) as process:
    process.stdout.readline()
    print(process.pid, flush=True)
    time.sleep(600)
"""


def gone(pid: int, seconds: float = 2.0) -> bool:
    """Whether the process ends within that time (a zombie has ended)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("stopped", [False, True])
def test_no_process_outlives_its_parent(stopped: bool) -> None:
    """SIGKILL of the parent ends the child within two seconds, a child that was stopped (SIGSTOP) too."""
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True, cwd=rig.ROOT
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        if stopped:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
    assert gone(child)


HANGING = """
import os, time
from pathlib import Path
if "PYTEST_XDIST_WORKER" in os.environ:
    (Path(__file__).parent / f"worker-{os.getpid()}").touch()
    time.sleep(600)
"""


def test_a_worker_that_is_still_starting_ends_with_its_controller(tmp_path: Path) -> None:
    """SIGKILL of the controller while both workers load their first plugins: they are gone within
    two seconds, though none of their code has run that could look for it.
    """
    rig.lay(tmp_path, {})
    conftest = tmp_path / "conftest.py"
    conftest.write_text(HANGING + conftest.read_text())
    process = rig.start(tmp_path, "--seeds", "0,1", "--out", "out", "-n", "2")
    try:
        assert until(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
        process.kill()
        process.wait()  # its output is open until the workers have ended
        for place in tmp_path.glob("worker-*"):
            assert gone(int(place.name.removeprefix("worker-")))
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process asks for this itself")
def test_a_command_that_ends_with_its_parent_gets_its_words_unchanged() -> None:
    """It is the same process, and it does not start if the parent has ended already."""
    show = "import os, sys; print(os.getpid(), sys.argv[1:], flush=True)"
    command = ending_with_parent([sys.executable, "-c", show, "a b", "--c", "'"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=60)[0] == f"{process.pid} ['a b', '--c', \"'\"]\n"
    start = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    orphan = subprocess.run(
        [sys.executable, "-c", start, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (orphan.returncode, orphan.stdout) == (1, "")


TOOL = """
import sys; from pathlib import Path; from airepair.external.process import run
folder = Path(sys.argv[1])
run(["sh", "-c", "echo $$; exec sleep 600"], folder / "log", seconds=600, cwd=folder, heard=lambda line: print(line.strip(), flush=True))
"""


def test_an_external_tool_ends_with_its_cell(tmp_path: Path) -> None:
    """SIGKILL of the process that runs a cell ends the tool that it had started."""
    with subprocess.Popen(
        [sys.executable, "-c", TOOL, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=rig.ROOT
    ) as cell:
        assert cell.stdout is not None
        tool = int(cell.stdout.readline())
        cell.kill()
    assert gone(tool)


def test_an_interrupt_waits_until_the_line_is_written() -> None:
    """Ctrl-C within a filing takes effect behind it, and none is lost."""
    done = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def write() -> None:
        with finishing():
            signal.raise_signal(signal.SIGINT)
            done.append("written")

    try:
        with pytest.raises(KeyboardInterrupt):
            write()
        assert done == ["written"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


BACKGROUND = """
import os, signal
from airepair.host.signals import end_in_order
signal.signal(signal.SIGINT, signal.SIG_IGN)
end_in_order(patient=True)
os.kill(os.getpid(), signal.SIGINT)
print("goes on", flush=True)
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("ends in order", flush=True)
"""


def test_a_run_in_a_shell_s_background_ends_in_order() -> None:
    """Where Ctrl-C is ignored it stays so, and SIGTERM ends the run all the same."""
    found = subprocess.run(
        [sys.executable, "-c", BACKGROUND], cwd=rig.ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "goes on\nends in order\n"


def test_a_cell_is_found_in_a_file_that_grows(tmp_path: Path) -> None:
    """Each look sees what was appended since; lines that are no records, and one that is being
    written, count for nothing.
    """
    file = tmp_path / "records.jsonl"
    look = Lookup(file)
    assert look.of("digits-fc-noop-s0") == []
    append(file, record(0))
    assert [r.case.seed for r in look.of("digits-fc-noop-s0")] == [0]
    with file.open("ab") as stream:
        stream.write(b"no record\n" + record(1).to_json().encode()[:300])
    assert look.of("digits-fc-noop-s1") == []
    append(file, record(1))
    append(file, replace(record(0), status="failed"))
    assert [r.status for r in look.of("digits-fc-noop-s0")] == ["repaired"]
    assert [r.case.seed for r in look.of("digits-fc-noop-s1")] == [1]
    written = json.loads(record(2).to_json())
    file.write_text(file.read_text() + json.dumps(dict(sorted(written.items()))) + "\n")
    assert [r.case.seed for r in look.of("digits-fc-noop-s2")] == [2]


# The cache of baselines.


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def test_a_baseline_with_another_seed_s_content_is_not_used(
    digits: Dataset, tmp_path: Path, runs: list[int]
) -> None:
    """The file of seed 1 in the place of seed 0's, and its tensors under seed 0's words: both are
    made anew.
    """
    zero = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path)
    trained("digits-fc", digits, "fc", SHORT, 1, tmp_path)
    (mine,), (other,) = (list(tmp_path.glob(f"digits-fc-s{seed}-*.safetensors")) for seed in (0, 1))
    good = mine.read_bytes()
    mine.write_bytes(other.read_bytes())
    assert digest(trained("digits-fc", digits, "fc", SHORT, 0, tmp_path).module) == digest(zero.module)
    assert len(runs) == 3
    assert load_file(mine).keys() == load_file(other).keys()
    head = 8 + int.from_bytes(good[:8], "little")
    mine.write_bytes(good[:head] + other.read_bytes()[-(len(good) - head) :])
    assert digest(trained("digits-fc", digits, "fc", SHORT, 0, tmp_path).module) == digest(zero.module)
    assert len(runs) == 4


def test_a_reader_of_the_cache_takes_no_lock(digits: Dataset, tmp_path: Path, runs: list[int]) -> None:
    """Somebody holds the lock of a baseline that is there: it is read at once."""
    trained("digits-fc", digits, "fc", SHORT, 0, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    with FileLock(f"{file}.lock"):
        reader = threading.Thread(target=trained, args=("digits-fc", digits, "fc", SHORT, 0, tmp_path))
        reader.start()
        reader.join(60)
        assert not reader.is_alive()
    assert runs == [1]


def test_a_cache_that_cannot_be_written_is_a_remark(digits: Dataset) -> None:
    """The baseline is trained, the subject's notes say why it is not kept, and its weights are the
    usual ones.
    """
    subject = trained("digits-fc", digits, "fc", SHORT, 0, Path("/proc/airepair"))
    assert any("/proc/airepair keeps nothing: " in note for note in subject.dataset.notes)
    assert subject.origin["kind"] == "trained here"


READER = """
import os, sys
from pathlib import Path
import torch
from airepair import data
from airepair.subjects.baseline import trained
from tests.runner.test_reliability import NOBODY, SHORT
torch.set_num_threads(1)
cache, digits, trainings = Path(sys.argv[1]), data.load("digits"), []
def train(seed):
    steps = []
    subject = trained("digits-fc", digits, "fc", SHORT, seed, cache, lambda *_: steps.append(1))
    print(bool(steps), [note for note in subject.dataset.notes if "keeps nothing" in note])
train(0)
for file in cache.iterdir():
    file.chmod(0o444)
cache.chmod(0o555)
os.getuid() or os.setuid(NOBODY)
train(0)
train(1)
"""


def test_a_read_only_cache_is_read() -> None:
    """What is there is used without a remark, what is not is trained with one (in a child, since
    root may write everywhere).
    """
    with TemporaryDirectory() as folder:  # pytest's own temporary folders are closed to others
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", READER, f"{folder}/cache"]
        found = subprocess.run(command, cwd=rig.ROOT, capture_output=True, text=True, check=False)
        Path(folder, "cache").chmod(0o755)
    assert found.returncode == 0, found.stderr
    trained_first, read_again, trained_too = found.stdout.splitlines()
    assert [trained_first, read_again] == ["True []", "False []"]
    assert trained_too.startswith("True [")
    assert "PermissionError" in trained_too


def test_a_full_cache_is_a_remark(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills while the baseline is written: the subject is there with a note, and no part
    of a file stays.
    """

    def full(tensors: object, path: Path, about: object) -> None:
        Path(path).write_bytes(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_cache, "save_file", full)
    subject = trained("digits-fc", digits, "fc", SHORT, 0, tmp_path)
    assert any("is not kept: OSError: [Errno 28] No space left" in note for note in subject.dataset.notes)
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("damaged", ["state.pt", "early.pt", "no early.pt"])
def test_a_half_trained_baseline_that_is_damaged_is_trained_from_the_start(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    """The state of a killed training is damaged or incomplete: a note says so, and the weights are
    those of one that was not killed.
    """
    plan = replace(SHORT, recipe=replace(SHORT.recipe, epochs=3, early=0.3))
    whole = trained("digits-fc", digits, "fc", plan, 0, tmp_path / "whole")
    monkeypatch.setattr(baseline, "LONG", 0.0)

    def kill(phase: str, step: int, steps: int, loss: float) -> None:
        if step == 2 * steps // 3:  # the end of the second epoch, of images of all epochs
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("digits-fc", digits, "fc", plan, 0, tmp_path / "cut", kill)
    (file,) = (tmp_path / "cut").glob(f"*.part/{damaged.removeprefix('no ')}")
    file.unlink() if damaged.startswith("no") else file.write_bytes(file.read_bytes()[:100])
    again = trained("digits-fc", digits, "fc", plan, 0, tmp_path / "cut")
    assert digest(again.module) == digest(whole.module)
    assert digest(again.checkpoints["early"]) == digest(whole.checkpoints["early"])
    assert any("a half-trained baseline was dropped" in note for note in again.dataset.notes)
    assert torch.get_num_threads() == 1


# Runs of the suite's plugins on cells without networks (tests/rig).


def test_a_cell_without_record_or_reason_fails_the_run_by_name(tmp_path: Path) -> None:
    """A test that passes and files nothing is no success."""
    rig.lay(tmp_path, {1: "silent"})
    found = rig.run(tmp_path, "--seeds", "0,1", "-q", "--out", "out")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "1 of 2 selected cells have neither a record nor a reason: digits-fc-noop-s1" in found.stdout
    assert "--resume" in found.stdout


def test_a_second_run_in_the_folder_is_refused_or_joins(tmp_path: Path) -> None:
    """While a run is there: another ends with one line and exit code 4; with --join it runs the
    other cells, and each has one record.
    """
    rig.lay(tmp_path, {0: "sleep:600"})
    first = rig.start(tmp_path, "--seeds", "0,1", "--out", "out")
    try:
        started = tmp_path / "out" / "started"
        assert until(lambda: started.exists() and "-s0" in started.read_text())
        second = rig.run(tmp_path, "--seeds", "0,1", "-q", "--out", "out")
        assert second.returncode == 4, second.stdout
        assert f"another run writes into {tmp_path / 'out'} (process {first.pid} on" in second.stderr
        third = rig.run(tmp_path, "--seeds", "0,1,2", "-rs", "--out", "out", "--join")
        assert third.returncode == 0, third.stdout + third.stderr
        assert "another run of this folder runs it now" in third.stdout
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=300)
        assert lines(tmp_path / "out") == {"digits-fc-noop-s1": 1, "digits-fc-noop-s2": 1}
    finally:
        first.kill()
        first.communicate()


def test_rerun_names_what_runs_again(tmp_path: Path) -> None:
    """--rerun crashed keeps a failed cell, --resume runs it again, and another word is refused."""
    rig.lay(tmp_path, {0: "fail"})
    rig.run(tmp_path, "--seeds", "0,1", "--out", "out")
    kept = rig.run(tmp_path, "--seeds", "0,1", "-rs", "--out", "out", "--rerun", "crashed,out-of-memory")
    assert "stands (failed)" in kept.stdout
    assert lines(tmp_path / "out") == {"digits-fc-noop-s0": 1, "digits-fc-noop-s1": 1}
    rig.lay(tmp_path, {})
    rig.run(tmp_path, "--seeds", "0,1", "--out", "out", "--rerun", "failed")
    assert lines(tmp_path / "out") == {"digits-fc-noop-s0": 2, "digits-fc-noop-s1": 1}
    assert {r.status for r in read([tmp_path / "out" / "records.jsonl"])[0]} == {"repaired"}
    refused = rig.run(tmp_path, "--seeds", "0", "--out", "out", "--rerun", "repaired")
    assert refused.returncode == 4
    assert (
        "unknown status 'repaired'; accepted: failed, crashed, timeout, out-of-memory, skipped"
        in refused.stderr
    )


def until(true: Callable[[], bool], seconds: float = 300) -> bool:
    """Waits until the callable is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def lines(out: Path) -> dict[str, int]:
    """How many lines the record file has of each cell; each line must be a record."""
    found: dict[str, int] = {}
    for line in (out / "records.jsonl").read_bytes().splitlines():
        key = Record.from_json(line).key
        found[key] = found.get(key, 0) + 1
    return found


def test_each_test_that_the_page_names_is_there() -> None:
    """docs/reliability.md names a test in each row of its table, and none that does not exist."""
    page = (rig.ROOT / "docs" / "reliability.md").read_text()
    table = page[page.index("| fault |") :].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| fault |")]
    assert len(rows) > 20
    written = "".join(file.read_text() for file in (rig.ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)\(", written, re.MULTILINE))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert not set(named) - there, row
