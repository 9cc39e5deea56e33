"""Runs that are killed, stopped, starved or misled, on cells without networks (tests/rig): nothing
finished is lost, nothing is doubled.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airepair.records import Record, append, read, scan
from tests import rig
from tests.runner.test_reliability import gone, lines, record, until

pytestmark = pytest.mark.slow
EVERY = "0,1,2,3,4,5"


def once(seeds: str) -> dict[str, int]:
    """One line for each cell."""
    return {rig.key(int(seed)): 1 for seed in seeds.split(",")}


def began(folder: Path, seed: int) -> bool:
    """Whether the cell has begun in some process."""
    place = folder / "out" / "started"
    return place.exists() and f"{rig.key(seed)} " in place.read_text()


def process_of(folder: Path, seed: int) -> int:
    """The process that runs the cell."""
    return int(re.findall(rf"{rig.key(seed)} (\d+)", (folder / "out" / "started").read_text())[-1])


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system of that size lies there for the time of the block; the test is skipped where
    mounting is refused.
    """
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=False
    ).returncode:
        pytest.skip("mounting a small file system is refused here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def workers(folder: Path) -> set[int]:
    """The processes that ran cells so far."""
    return {
        int(pid) for pid in re.findall(r" (\d+)$", (folder / "out" / "started").read_text(), re.MULTILINE)
    }


def interrupted(folder: Path, how: signal.Signals, *words: str, group: bool, times: int = 1) -> str:
    """Sends the signal while the cell of seed 2 sleeps; what was printed.

    The run must have ended as an interrupted one does.
    """
    process = rig.start(folder, "--seeds", EVERY, "--out", "out", *words)
    try:
        assert until(lambda: began(folder, 2) and len(lines(folder / "out")) >= 2)
        for _ in range(times):
            os.killpg(process.pid, how) if group else process.send_signal(how)
            time.sleep(0.5)
        text, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 2, text
    return text


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["serial", "n2"])
def test_ctrl_c_prints_the_tables_and_how_to_resume(
    tmp_path: Path, words: tuple[str, ...], times: int
) -> None:
    """Once and twice, to the whole process group as a terminal sends it: exit code 2, tables, the
    open cells by name, and --resume does the rest.
    """
    rig.lay(tmp_path, {2: "sleep:60"})
    text = interrupted(tmp_path, signal.SIGINT, *words, group=True, times=times)
    assert "airepair: the verdict" in text
    assert re.search(r"selected cells have neither a record nor a reason: .*digits-fc-noop-s2", text), text
    assert "--resume" in text
    assert all(gone(pid) for pid in workers(tmp_path))
    assert "crashed" not in {r.status for r in read([tmp_path / "out" / "records.jsonl"])[0]}
    rig.lay(tmp_path, {})
    assert rig.run(tmp_path, "--seeds", EVERY, "--out", "out", "--resume", *words).returncode == 0
    assert lines(tmp_path / "out") == once(EVERY)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("group", [False, True], ids=["controller", "group"])
def test_sigterm_and_sighup_end_a_run_as_ctrl_c_does(
    tmp_path: Path, how: signal.Signals, group: bool
) -> None:
    """Under -n 2, sent to the controller or to all of its processes: tables, how to resume, no cell
    that is called crashed, no process left.
    """
    rig.lay(tmp_path, {2: "sleep:60"})
    text = interrupted(tmp_path, how, "-n", "2", group=group)
    assert "airepair: the verdict" in text
    assert "--resume" in text
    assert "crashed" not in {r.status for r in read([tmp_path / "out" / "records.jsonl"])[0]}
    assert all(gone(pid) for pid in workers(tmp_path))


def test_a_killed_controller_leaves_no_worker_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL under -n 2, resumed at once: the workers end within two seconds, and each cell has
    one record.
    """
    rig.lay(tmp_path, dict.fromkeys(range(6), "sleep:1"))
    process = rig.start(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2")
    assert until(lambda: began(tmp_path, 2))
    process.kill()
    process.wait()  # its output is open until the workers have ended
    pids = workers(tmp_path)
    again = rig.start(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2", "--resume")
    assert all(gone(pid) for pid in pids)
    process.communicate()
    text, _ = again.communicate(timeout=300)
    assert again.returncode == 0, text
    assert lines(tmp_path / "out") == once(EVERY)


def test_a_stopped_worker_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGSTOP of a worker for some seconds, then SIGCONT: the run ends green, with one record for
    each cell.
    """
    rig.lay(tmp_path, {2: "sleep:2"})
    process = rig.start(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2")
    try:
        assert until(lambda: began(tmp_path, 2))
        pid = process_of(tmp_path, 2)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(pid, signal.SIGCONT)
        text, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, text
    assert lines(tmp_path / "out") == once(EVERY)


def test_a_stopped_worker_ends_with_its_controller(tmp_path: Path) -> None:
    """SIGSTOP of a worker, SIGKILL of the controller: the worker is gone within two seconds."""
    rig.lay(tmp_path, {2: "sleep:60"})
    process = rig.start(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2")
    assert until(lambda: began(tmp_path, 2))
    pid = process_of(tmp_path, 2)
    os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert gone(pid)
    process.communicate()


@pytest.mark.parametrize("how", ["kill", "segfault"])
def test_a_worker_that_dies_in_a_cell_costs_that_cell(tmp_path: Path, how: str) -> None:
    """SIGKILL or a segmentation fault: its record says crashed, with the scores before; the others
    are there.
    """
    rig.lay(tmp_path, {3: how})
    found = rig.run(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2")
    assert found.returncode == 1
    assert lines(tmp_path / "out") == once(EVERY)
    records = {r.key: r for r in read([tmp_path / "out" / "records.jsonl"])[0]}
    assert [k for k, r in records.items() if r.status == "crashed"] == [rig.key(3)]
    assert records[rig.key(3)].before == {"accuracy": 0.5}


def test_a_worker_that_dies_before_its_scores_has_none_of_an_earlier_run(tmp_path: Path) -> None:
    """The cell failed in the run that this one resumes, and left its scores before."""
    rig.lay(tmp_path, {1: "fail"})
    rig.run(tmp_path, "--seeds", "0,1", "--out", "out")
    rig.lay(tmp_path, {1: "early-kill"})
    rig.run(tmp_path, "--seeds", "0,1", "--out", "out", "-n", "2", "--resume")
    (found,) = (r for r in read([tmp_path / "out" / "records.jsonl"])[0] if r.status == "crashed")
    assert (found.key, found.before) == (rig.key(1), {})


def test_a_worker_that_dies_after_filing_has_its_record(tmp_path: Path) -> None:
    """The cell was finished and stays so: it is not called crashed, and it has one line."""
    rig.lay(tmp_path, {3: "kill-after"})
    found = rig.run(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2")
    assert lines(tmp_path / "out") == once(EVERY)
    assert {r.status for r in read([tmp_path / "out" / "records.jsonl"])[0]} == {"repaired"}
    assert "crashed while running" in found.stdout


def test_the_ninth_death_of_a_worker_costs_no_other_cell(tmp_path: Path) -> None:
    """Under -n 2 xdist gives up after eight deaths: here ten cells kill their worker, and the two
    that are queued behind them run.
    """
    rig.lay(tmp_path, dict.fromkeys(range(10), "kill"))
    seeds = ",".join(map(str, range(12)))
    found = rig.run(tmp_path, "--seeds", seeds, "--out", "out", "-n", "2", "-q")
    assert lines(tmp_path / "out") == once(seeds), found.stdout
    statuses = [r.status for r in read([tmp_path / "out" / "records.jsonl"])[0]]
    assert sorted(statuses) == ["crashed"] * 10 + ["repaired"] * 2


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["serial", "n2"])
def test_a_record_that_cannot_be_read_costs_its_own_cell(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Its test fails with one line, the other cells run, and the tables have them."""
    rig.lay(tmp_path, {1: "range"})
    found = rig.run(tmp_path, "--seeds", "0,1,2", "--out", "out", *words)
    assert "INTERNALERROR" not in found.stdout
    assert found.returncode == 1
    assert "1 failed, 2 passed" in found.stdout
    assert "no record: after.accuracy is 1.5; accepted: a number from 0 to 1" in found.stdout
    assert sorted(r.case.seed for r in scan([tmp_path / "out" / "records.jsonl"]).records) == [0, 2]


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["serial", "n2"])
def test_a_removed_output_folder_is_written_again(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The folder vanishes in mid-run: at the end the file has every cell once, and the number that
    is printed is the file's.
    """
    rig.lay(tmp_path, {3: "remove"})
    found = rig.run(tmp_path, "--seeds", EVERY, "--out", "out", *words)
    assert lines(tmp_path / "out") == once(EVERY), found.stdout
    assert "was removed during the run" in found.stdout
    assert "(6 records)" in found.stdout


@pytest.mark.parametrize("place", ["with space", "Größe 数 é"])
def test_paths_with_spaces_and_unicode(tmp_path: Path, place: str) -> None:
    """The suite, its output and the temporary folder lie in such a path."""
    folder = tmp_path / place
    rig.lay(folder, {1: "kill"})
    (folder / "tmp").mkdir()
    rig.run(folder, "--seeds", "0,1,2", "--out", f"{place} out", "-n", "2", TMPDIR=str(folder / "tmp"))
    assert lines(folder / f"{place} out") == once("0,1,2")
    assert (folder / f"{place} out" / "leaderboard.html").exists()


def test_a_full_temporary_folder_costs_no_record(tmp_path: Path) -> None:
    """TMPDIR is a full file system of its own: every cell has its record, and the exit code says
    what could not be done.
    """
    rig.lay(tmp_path, {})
    small = tmp_path / "small"
    small.mkdir()
    with small_disk(small, "64k"):
        with pytest.raises(OSError, match="space"):
            (small / "filler").write_bytes(b"x" * 1_000_000)
        found = rig.run(tmp_path, "--seeds", EVERY, "--out", "out", "-n", "2", TMPDIR=str(small))
        assert found.returncode == 0, found.stdout + found.stderr
        assert lines(tmp_path / "out") == once(EVERY)


def test_a_full_disk_of_results_is_said_and_leaves_whole_lines(tmp_path: Path) -> None:
    """The output folder fills up: the run fails; what is in the file is whole, and with more room
    --resume does the rest, but for the tables.
    """
    rig.lay(tmp_path, {})
    out = tmp_path / "out"
    out.mkdir()
    with small_disk(out, "120k"):
        (out / "filler").write_bytes(b"x" * 80_000)
        seeds = ",".join(map(str, range(12)))
        found = rig.run(tmp_path, "--seeds", seeds, "--out", "out")
        assert found.returncode == 1, found.stdout
        missing = once(seeds).keys() - lines(out).keys()
        assert missing
        assert "No space left" in found.stdout
        (out / "filler").unlink()
        again = rig.run(tmp_path, "--seeds", seeds, "--out", "out", "--resume")
        assert lines(out) == once(seeds)
        assert again.returncode == 1, again.stdout
        assert "cannot write the reports" in again.stdout


def test_a_clock_that_jumps_back_loses_nothing(tmp_path: Path) -> None:
    """Each run's clock is an hour before the last one's: backups stand side by side, a resumed run
    keeps what is there.
    """
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian's package faketime)")
    rig.lay(tmp_path, {})
    for hours, words in enumerate(
        [("--seeds", "0"), ("--seeds", "1"), ("--seeds", "1,2", "--resume", "-n", "2")]
    ):
        clock = {"LD_PRELOAD": str(library), "FAKETIME": f"-{hours}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        found = rig.run(tmp_path, "--out", "out", *words, **clock)
        assert found.returncode == 0, found.stdout + found.stderr
    assert lines(tmp_path / "out") == once("1,2")
    (aside,) = (tmp_path / "out" / "previous").glob("*.jsonl")
    assert [Record.from_json(line).case.seed for line in aside.read_bytes().splitlines()] == [0]


LOOK = """
import sys, time
from pathlib import Path
from airepair.records.lookup import Lookup
start = time.process_time()
look = Lookup(Path(sys.argv[1]))
found = sum(len(look.of(f"digits-fc-noop-s{seed}")) for seed in (0, 20099))
(peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(found, time.process_time() - start, peak)
"""


def test_200_megabytes_of_records_are_resumed(tmp_path: Path) -> None:
    """A worker finds its cells among 200 MB of other records within seconds and in little memory;
    the last line is torn.
    """
    rig.lay(tmp_path, {})
    out = tmp_path / "out"
    append(out / "records.jsonl", record(0))
    with (out / "records.jsonl").open("ab") as file:
        for seed in range(20_000, 20_100):
            file.write(record(seed, provenance={"bulk": "x" * 2_000_000}).to_json().encode() + b"\n")
        torn = record(30_000, provenance={"bulk": "x"}).to_json().encode()[:200]
        file.write(torn)
    assert (out / "records.jsonl").stat().st_size > 200_000_000
    found = subprocess.run(
        [sys.executable, "-c", LOOK, str(out / "records.jsonl")],
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    records, seconds, kilobytes = found.stdout.split()
    assert records == "2"
    assert float(seconds) < 5
    assert int(kilobytes) < 150_000
    ran = rig.run(
        tmp_path, "--seeds", "0,1", "--out", "out", "-n", "2", "--resume", "--report", "none", "-rs"
    )
    assert ran.returncode == 0, ran.stdout
    assert "stands" in ran.stdout
    kept = {r.case.seed for r in read([out / "records.jsonl"])[0]}
    assert len(kept) == 102
    assert (out / "records.jsonl.torn").read_bytes() == torn + b"\n"


TRAINER = """
import sys, time
from dataclasses import replace
from pathlib import Path
import torch
from airepair import data
from airepair.subjects.baseline import trained
from airepair.host.tensor_cache import digest_of_module as digest
from tests.runner.test_reliability import SHORT
def show(phase, step, *_):
    print("training", flush=True)
    time.sleep(600 if sys.argv[2] == "hang" else 0)
torch.set_num_threads(1)
print("ready", flush=True)
print(digest(trained("digits-fc", data.load("digits"), "fc", SHORT, 0, Path(sys.argv[1]), show).module), flush=True)
"""


def test_of_two_processes_that_want_one_baseline_one_is_killed(tmp_path: Path) -> None:
    """The one that trains is killed: the other one, which waited, trains it, and a third reads it."""

    def begin(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", TRAINER, str(tmp_path), how]
        return subprocess.Popen(command, cwd=rig.ROOT, stdout=subprocess.PIPE, text=True)

    with begin("hang") as first:
        assert first.stdout is not None
        assert [first.stdout.readline(), first.stdout.readline()] == ["ready\n", "training\n"]
        with begin("go") as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "ready\n"
            time.sleep(3)
            first.kill()
            *steps, mine = second.communicate(timeout=300)[0].split()
    assert set(steps) == {"training"}
    with begin("go") as third:
        assert third.communicate(timeout=300)[0].split() == ["ready", mine]
