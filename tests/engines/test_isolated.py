"""Cells in processes of their own: what they leave is what a cell here leaves, and whatever a method
does to its process costs its own cell only.
"""

import json
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from airepair.case import Case
from airepair.engines import isolated as engine_module
from airepair.engines.channel import Channel
from airepair.engines.fork_server import Server
from airepair.engines.isolated import Isolated
from airepair.engines.limits import MIB, Limits, Output, bytes_of, failure_of_exit
from airepair.engines.local import Local
from airepair.engines.protocol import Engine, Failure
from airepair.errors import UsageError
from airepair.runner.cell import CellResult, CellSpec, Deaf
from tests.runner.test_reliability import gone, until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the module's baselines."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Where methods write process ids."""
    return tmp_path / "pids"


@pytest.fixture(scope="module")
def engine(cache: Path) -> Iterator[Isolated]:
    """With a limit of 1 GiB, and one second's grace; one for the module, whatever its cells do."""
    found = Isolated(cache, Limits(memory=1024 * MIB, output=MIB, grace=1.0))
    yield found
    found.close(force=True)


def spec(method: str, options: dict[str, Any] | None = None, **more: Any) -> CellSpec:
    """A cell of digits' fully connected network."""
    return CellSpec(Case("digits", "fc", method, 0), "smoke", options or {}, keep_weights=True, **more)


def hostile(name: str, mark: Path, **more: Any) -> CellSpec:
    """A cell of a hostile method."""
    options = {"mark": str(mark)} | more.pop("options", {})
    return spec(f"tests.hostile_methods:{name}", options, **more)


def run(engine: Engine, cell: CellSpec) -> CellResult | Failure:
    """Runs the cell to its end."""
    (found,) = engine.wait([engine.submit(cell)])
    return found.end


def failed(engine: Engine, cell: CellSpec) -> Failure:
    """The failure of a cell that has one."""
    found = run(engine, cell)
    assert isinstance(found, Failure), found
    return found


def all_gone(mark: Path, count: int = 1) -> bool:
    """Whether the processes that a method named have ended."""
    pids = [int(pid) for pid in mark.read_text().split()]
    assert len(pids) == count
    return all(gone(pid, 0.1) for pid in pids)


def compared(result: CellResult | Failure) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A result without its times and what it cost."""
    assert isinstance(result, CellResult), result
    record = json.loads(result.record.to_json())
    del record["cost"], record["provenance"]["time"]
    for phase in record["phases"]:
        phase["seconds"] = 0
    return record, {k: v for k, v in result.files.items() if k in ("predictions.npz", "repaired.safetensors")}


@pytest.mark.parametrize(
    ("method", "options"),
    [("noop", {}), ("finetune", {"epochs": 2}), ("random", {}), ("arachne", {"generations": 2})],
)
def test_an_isolated_cell_leaves_what_a_cell_here_leaves(
    engine: Isolated, cache: Path, method: str, options: dict[str, Any]
) -> None:
    """Record, predictions and weights, bit for bit; only times and costs differ."""
    theirs, ours = run(engine, spec(method, options)), run(Local(cache), spec(method, options))
    assert compared(theirs) == compared(ours)
    assert compared(theirs)[1].keys() == {"predictions.npz", "repaired.safetensors"}
    assert isinstance(theirs, CellResult)
    assert theirs.record.cost["seconds"] > 0
    assert "cost.jsonl" in theirs.files


def test_a_cell_is_heard_while_it_runs(engine: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores before, once, and where the repair is."""
    heard: list[tuple[str, Any]] = []

    class Hears(Deaf):
        def progress(self, phase: str, step: int, steps: int, loss: float) -> None:
            heard.append(("progress", phase))

        def before(self, scores: Any, missing: Any) -> None:
            heard.append(("before", scores["accuracy"]))

    monkeypatch.setattr(engine, "hear", lambda _: Hears())
    result = run(engine, spec("finetune", {"epochs": 1}))
    assert isinstance(result, CellResult)
    assert [about for kind, about in heard if kind == "before"] == [result.record.before["accuracy"]]
    assert "progress" in {kind for kind, _ in heard}


@pytest.mark.parametrize("name", ["Swallows", "LoopsInC"])
def test_a_method_that_no_time_out_ends_is_ended_by_force(engine: Isolated, mark: Path, name: str) -> None:
    """It swallows every exception and ignores SIGTERM, or stays in native code: `timeout`, and its
    process is gone.
    """
    start = time.monotonic()
    found = failed(engine, hostile(name, mark, seconds=1.0))
    assert (found.status, found.reason) == (
        "timeout",
        "the limit of 1 s passed and the method went on; it was ended by force",
    )
    assert time.monotonic() - start < 60
    assert all_gone(mark)
    assert found.log == (("nothing stops me",) if name == "Swallows" else ())


@pytest.mark.parametrize("child", [False, True], ids=["itself", "a process that it starts"])
def test_a_method_that_takes_too_much_memory_is_ended(engine: Isolated, mark: Path, child: bool) -> None:
    """3 GB under a limit of 1 GB: `out of memory` that says host, long before the machine is short of it."""
    found = failed(engine, hostile("Greedy", mark, options={"child": child}))
    assert found.status == "out of memory"
    assert found.reason.startswith("host memory: ")
    assert found.reason.endswith("MiB used, the limit is 1,024 MiB")
    assert all_gone(mark)


def test_a_segmentation_fault_is_named_with_the_end_of_the_log(engine: Isolated, mark: Path) -> None:
    """The record says which signal, and where Python was."""
    found = failed(engine, hostile("Segfault", mark))
    assert (found.status, found.reason) == ("crashed", "killed by SIGSEGV")
    assert "reading address 0" in found.log
    assert any("Segmentation fault" in line for line in found.log)
    assert any("hostile_methods.py" in line for line in found.log)
    assert all_gone(mark)


def test_a_process_that_ends_without_a_result_has_crashed(engine: Isolated, mark: Path) -> None:
    """os._exit(0) is no success."""
    found = failed(engine, hostile("Leaves", mark))
    assert (found.status, found.reason) == (
        "crashed",
        "its process ended with exit code 0 before it had a result",
    )
    assert all_gone(mark)


def test_of_50_mb_of_output_the_end_is_kept(engine: Isolated, mark: Path) -> None:
    """The cell is repaired; its record says how much was printed, and the file holds 1 MiB."""
    found = run(engine, hostile("Talks", mark))
    assert isinstance(found, CellResult)
    assert found.record.status == "repaired"
    assert found.record.notes[-1] == (
        "the cell printed 50,000,013 bytes; the last 1,048,576 are in output.txt"
    )
    assert len(found.files["output.txt"]) == MIB
    assert found.files["output.txt"].endswith(b"x\nthat was all\n")
    assert all_gone(mark)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_no_process_that_a_method_started_is_left(engine: Isolated, mark: Path) -> None:
    """One in a session of its own whose parent has ended is ended with its cell; the cell is repaired."""
    found = run(engine, hostile("Parent", mark))
    assert isinstance(found, CellResult)
    assert found.record.status == "repaired"
    assert all_gone(mark, 2)


def test_bad_input_and_what_is_missing_are_told_apart(engine: Isolated) -> None:
    """As in this process: a failure with the words of the error."""
    found = failed(engine, spec("finetune", {"epochs": -1}))
    assert found.status == "failed"
    assert "finetune.epochs=-1 is out of range" in found.reason


def test_after_any_end_the_next_cell_runs(engine: Isolated, mark: Path) -> None:
    """Also after the process died from which cells are forked, between two cells or in the middle of one."""
    assert failed(engine, hostile("Leaves", mark)).status == "crashed"
    assert isinstance(run(engine, hostile("Polite", mark)), CellResult)
    assert engine.server is not None
    engine.server.process.kill()
    engine.server.process.wait()
    result = run(engine, hostile("Polite", mark))
    assert isinstance(result, CellResult)
    assert result.files["output.txt"] == b"a word of the method's own\n"
    server, seen = engine.server.process, len(mark.read_text())
    killer = threading.Thread(
        target=lambda: (until(lambda: len(mark.read_text()) > seen, 60), server.kill()), daemon=True
    )
    killer.start()
    found = failed(engine, hostile("Swallows", mark))
    killer.join()
    assert found.reason == "the process that it was forked from died, and it with it"
    assert isinstance(run(engine, hostile("Polite", mark)), CellResult)


def test_an_error_of_the_listener_ends_the_cell(
    engine: Isolated, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, say: the error passes, and no process stays."""

    class Full(Deaf):
        def before(self, scores: Any, missing: Any) -> None:
            raise OSError("no space")

    monkeypatch.setattr(engine, "hear", lambda _: Full())
    with pytest.raises(OSError, match="no space"):
        run(engine, hostile("Swallows", mark))
    assert engine.server is None
    assert not psutil.Process().children(recursive=True)


def test_a_killed_parent_leaves_no_process(cache: Path, mark: Path) -> None:
    """SIGKILL of the process that waits for a cell: the cell and the fork server end within two seconds."""
    code = f"""
        from pathlib import Path
        from airepair.engines.isolated import Isolated
        from tests.engines.test_isolated import hostile, run
        run(Isolated(Path({str(cache)!r})), hostile("Swallows", Path({str(mark)!r})))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    try:
        assert until(lambda: mark.exists() and bool(mark.read_text()), 120)
        below = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
    finally:
        process.kill()
        process.wait()
    assert len(below) == 2
    assert all(gone(pid) for pid in below)


def test_on_cuda_each_cell_has_a_fresh_process(
    cache: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has forked cannot use CUDA: nothing is loaded before the fork, and the server
    ends with the cell, so that the GPU's memory is free.
    """
    made: list[Server] = []

    class Watched(Server):
        def __init__(self, *, preload: bool) -> None:
            assert not preload
            super().__init__(preload=preload)
            made.append(self)

    monkeypatch.setattr(engine_module, "Server", Watched)
    engine = Isolated(cache)
    for _ in range(2):
        found = failed(engine, replace(hostile("Polite", mark), device="cuda:7"))
        assert "--device cuda:7: torch" in found.reason
    assert len(made) == 2
    assert all(server.process.poll() is not None for server in made)


@pytest.mark.parametrize(
    ("code", "kills", "log", "status", "reason"),
    [
        (-11, 0, (), "crashed", "killed by SIGSEGV"),
        (-9, 0, (), "crashed", "killed by SIGKILL"),
        (-9, 1, (), "out of memory", "host memory: the kernel ended the cell's process (SIGKILL)"),
        (-11, 1, (), "crashed", "killed by SIGSEGV"),
        (-6, 0, ("std::bad_alloc",), "out of memory", "host memory: an allocation failed in native code"),
        (-6, 0, (), "crashed", "killed by SIGABRT"),
        (-40, 0, (), "crashed", "killed by signal 40"),
        (3, 0, (), "crashed", "its process ended with exit code 3 before it had a result"),
    ],
)
def test_an_exit_is_told_by_its_signal(
    code: int, kills: int, log: tuple[str, ...], status: str, reason: str
) -> None:
    """The kernel's own kills for want of memory are told from a kill by hand."""
    assert failure_of_exit(code, kills, log) == Failure(status, reason, log)  # type: ignore[arg-type]


def test_output_is_bounded_and_its_last_lines_are_readable() -> None:
    """Whatever the parts are; control characters are spelled out."""
    output = Output(10)
    for part in (b"one\n", b"two\n", b"three\x1b\n"):
        output.add(part)
    assert output.content() == b"wo\nthree\x1b\n"[-10:]
    assert output.total == 15
    assert output.last()[-1] == "three\\x1b"
    assert Output(100).remark() == ""


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_no_size_is_refused(value: float) -> None:
    """With the option's name."""
    assert bytes_of(None, MIB, "--x") is None
    assert bytes_of(1.5, MIB, "--x") == 1_572_864
    with pytest.raises(UsageError, match=r"--x .* is out of range; accepted: a number above 0"):
        bytes_of(value, MIB, "--x")


def test_half_a_message_and_garbage_are_no_messages() -> None:
    """A process that dies in mid-message leaves none; one that wrote what is no message is heard no more."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    other = Channel(theirs)
    other.send("progress", [1])
    theirs.sendall((100).to_bytes(8, "big") + b"half")
    assert list(channel.arrived()) == [["progress", [1]]]
    assert not channel.closed
    theirs.close()
    assert list(channel.arrived()) == []
    assert channel.closed
    channel.close()
    ours, theirs = socket.socketpair()
    theirs.sendall((1).to_bytes(8, "big") + b"\xc1")
    channel = Channel(ours)
    assert list(channel.arrived()) == []
    assert channel.closed
    channel.close()
    theirs.close()
