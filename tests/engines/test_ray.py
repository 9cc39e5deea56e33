"""Cells on a Ray cluster of two nodes on the loopback interface: what is killed, frozen or refused
loses and doubles nothing.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from airepair.data import load
from airepair.engines.ray_environment import environment
from airepair.models import build
from airepair.records import Record, read
from tests.runner.test_reliability import gone, lines, until

pytest.importorskip("ray", reason="Ray is not installed: pip install 'airepair[ray]'")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WAITS = "digits-fc-mine:Waits-s{}"
ENVIRONMENT = environment(None) | {
    "RAY_memory_monitor_refresh_ms": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": "1",
}


class Nodes:
    """A head without room for cells, and nodes with room for one each, by the process ids of their
    raylets.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.ray_nodes"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=surroundings(), stdin=pipe, stdout=pipe, text=True
        )
        self.address: str = self._answer()
        self.live: list[int] = []

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(next(line for line in self.process.stdout if line[0] in '"0123456789'))

    def add(self, **variables: str) -> int:
        """One node more, whose processes have these variables as well."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(variables) + "\n")
        self.process.stdin.flush()
        self.live.append(self._answer())
        return self.live[-1]

    def send(self, raylet: int, how: signal.Signals) -> None:
        """A signal to every process of the node, as when its machine goes; some may have ended."""
        with suppress(psutil.NoSuchProcess):
            for process in [psutil.Process(raylet), *psutil.Process(raylet).children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(how)

    def kill(self, raylet: int) -> None:
        """The node is gone."""
        self.live.remove(raylet)
        self.send(raylet, signal.SIGKILL)

    def close(self) -> None:
        """Nothing of it stays."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.communicate("end\n", timeout=60)
        for process in psutil.wait_procs(children, timeout=10)[1]:
            process.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """One cluster for the module."""
    found = Nodes()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """The cluster with two nodes: one that Ray has given up has ended itself."""
    cluster.live = [raylet for raylet in cluster.live if not gone(raylet, 0.1)]
    while len(cluster.live) < 2:
        cluster.add()
    return cluster


@pytest.fixture(autouse=True)
def no_run_is_left() -> Iterator[None]:
    """A test that fails before its run has ended takes no node away from the next one."""
    yield
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if str(ROOT / "benchmarks") in process.cmdline():
                process.kill()


def surroundings(**more: str) -> dict[str, str]:
    """The environment of a process that uses Ray."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "RAY_"))}
    return kept | ENVIRONMENT | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | more


class Run:
    """`pytest benchmarks --engine ray` in a user's folder that holds mine.py."""

    def __init__(
        self, folder: Path, *words: str, address: str | None, engine: str = "ray", out: str = "out"
    ) -> None:
        shutil.copyfile(ROOT / "tests" / "ray_methods.py", folder / "mine.py")
        own = {"AIREPAIR_CACHE": str(folder / "cache"), "AIREPAIR_NODE_CACHE": str(folder / "nodes")}
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(ROOT / "benchmarks"),
            "-c",
            str(ROOT / "pyproject.toml"),
            "--rootdir",
            str(ROOT),
        ]
        there = ["--engine", engine, *(["--ray-address", address] if address else [])]
        cells = ["--dataset", "digits", "--no-ablations", "--device", "cpu", "--out", out]
        cells += [] if "--pretrained" in words else ["--model", "fc"]
        self.out = folder / out
        self.process = subprocess.Popen(
            [*command, *there, *cells, *words],
            cwd=folder,
            env=surroundings(**own),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def end(self, seconds: float = 600) -> tuple[int, str]:
        """Its exit code and what it printed."""
        try:
            text, _ = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        return self.process.returncode, text

    def reaches(self, condition: Callable[[], bool], seconds: float = 600) -> bool:
        """Waits for the condition; False as soon as the run has ended without it."""
        until(lambda: condition() or self.process.poll() is not None, seconds)
        return condition()

    def working(self) -> dict[str, str]:
        """The cells that run now, with where they are."""
        found = {}
        for file in (self.out / "live").glob("ray-*.json"):
            with suppress(FileNotFoundError):  # its cell has just ended
                content = json.loads(file.read_bytes())
                found[content["cell"]] = content["phase"]
        return found

    def records(self) -> dict[str, Record]:
        """What was filed."""
        return {r.key: r for r in read([self.out])[0]}


SIX = [WAITS.format(seed) for seed in range(6)]


def waiting(seconds: float, seeds: str = "0,1,2,3,4,5") -> list[str]:
    """Cells that wait so long."""
    return ["--method", "mine:Waits", "--set", f"mine:Waits.seconds={seconds}", "--seeds", seeds]


def holding(folder: Path) -> list[str]:
    """Cells of which two end at once, and the others when `go_on` is called."""
    (folder / "hold").mkdir()
    return [*waiting(1), "--set", f"mine:Waits.hold={folder / 'hold'}"]


def both_hold(run: Run, folder: Path) -> bool:
    """Waits until two cells are filed and both nodes run one that does not end."""
    return run.reaches(lambda: (folder / "hold" / "began-3").exists() and len(lines(run.out)) >= 2)


def go_on(folder: Path) -> None:
    """Every cell may end."""
    (folder / "hold" / "go").touch()


def each_once(run: Run, keys: list[str]) -> None:
    """One line per cell, all of them repaired."""
    assert lines(run.out) == dict.fromkeys(keys, 1)
    assert {r.status for r in run.records().values()} == {"repaired"}


def tasks(of: int | None = None) -> list[int]:
    """The processes that run cells or wait for one, on every node or on that of one raylet."""
    names = ("ray::run_job", "ray::IDLE", "ray::digits")
    return [
        p.pid
        for p in psutil.process_iter(["cmdline", "environ"])
        if " ".join(p.info["cmdline"] or ()).startswith(names)
        and (of is None or (p.info["environ"] or {}).get("RAY_RAYLET_PID") == str(of))
    ]


def test_a_killed_node_costs_its_cells_another_attempt(nodes: Nodes, tmp_path: Path) -> None:
    """SIGKILL of one of two nodes while both run a cell: each of six cells has one record, and the
    run says which ran again.
    """
    run = Run(tmp_path, *holding(tmp_path), address=nodes.address)
    assert both_hold(run, tmp_path)
    nodes.kill(nodes.live[0])
    go_on(tmp_path)
    code, text = run.end()
    assert code == 0, text
    each_once(run, SIX)
    assert re.search(
        r"airepair: digits-fc-mine:Waits-s\d: attempt 1 was lost with its node \(\w+\); it runs again", text
    )


@pytest.mark.parametrize("seconds", [60, 110])
def test_a_frozen_node_loses_and_doubles_nothing(nodes: Nodes, tmp_path: Path, seconds: int) -> None:
    """SIGSTOP of a whole node in mid-run, SIGCONT later: each cell has one record, whether Ray has
    given the node up or not. If it has, none of the node's processes of cells outlives it.
    """
    run = Run(tmp_path, *holding(tmp_path), address=nodes.address)
    assert both_hold(run, tmp_path)
    frozen = nodes.live[0]
    nodes.send(frozen, signal.SIGSTOP)
    go_on(tmp_path)
    time.sleep(seconds)
    nodes.send(frozen, signal.SIGCONT)
    code, text = run.end()
    assert code == 0, text
    each_once(run, SIX)
    if "runs again" in text:  # Ray has given the node up, which ends itself at some time
        assert until(lambda: gone(frozen, 0.1), 120)
        assert until(lambda: not tasks(of=frozen), 10)


def test_a_method_that_ends_its_process_is_crashed_and_not_tried_again(nodes: Nodes, tmp_path: Path) -> None:
    """Its record has the scores before; the other cells are repaired, each once."""
    run = Run(tmp_path, "--method", "mine:Ends,mine:Waits", "--seeds", "0,1", address=nodes.address)
    code, text = run.end()
    assert code == 1, text
    found = run.records()
    assert lines(run.out) == dict.fromkeys(
        [f"digits-fc-mine:{m}-s{s}" for m in ("Ends", "Waits") for s in (0, 1)], 1
    )
    for seed in (0, 1):
        crashed = found[f"digits-fc-mine:Ends-s{seed}"]
        assert (crashed.status, crashed.reason) == (
            "crashed",
            "the worker process died while it ran this cell",
        )
        assert 0.5 < crashed.before["accuracy"] < 1
        assert found[WAITS.format(seed)].status == "repaired"
    assert "runs again" not in text


def test_a_process_that_a_method_changed_for_good_runs_no_other_cell(nodes: Nodes, tmp_path: Path) -> None:
    """The cells after it run in new processes, and none of them is called crashed."""
    run = Run(tmp_path, "--method", "mine:Spoils,mine:Waits", "--seeds", "0,1,2", address=nodes.address)
    code, text = run.end()
    assert code == 1, text
    found = {key: r.status for key, r in run.records().items()}
    assert found == {
        f"digits-fc-mine:{m}-s{s}": end
        for m, end in (("Spoils", "failed"), ("Waits", "repaired"))
        for s in range(3)
    }
    assert set(lines(run.out).values()) == {1}


def test_a_killed_controller_leaves_no_cell_and_is_resumed(nodes: Nodes, tmp_path: Path) -> None:
    """SIGKILL: soon no process of a cell is there, and --resume runs the other cells, each once."""
    words = holding(tmp_path)
    run = Run(tmp_path, *words, address=nodes.address)
    assert both_hold(run, tmp_path)
    run.process.kill()
    run.process.communicate()
    assert until(lambda: not tasks(), 60), tasks()
    kept = lines(run.out)
    go_on(tmp_path)
    again = Run(tmp_path, *words, "--resume", address=nodes.address)
    code, text = again.end()
    assert code == 0, text
    assert f"{6 - len(kept)} passed, {len(kept)} skipped" in text
    each_once(again, SIX)


def test_ctrl_c_prints_the_tables_and_how_to_resume(nodes: Nodes, tmp_path: Path) -> None:
    """Exit code 2; finished cells are kept, the others are named, no cell goes on."""
    run = Run(tmp_path, *holding(tmp_path), address=nodes.address)
    assert both_hold(run, tmp_path)
    run.process.send_signal(signal.SIGINT)
    code, text = run.end()
    assert code == 2, text
    assert "airepair: the verdict" in text
    assert re.search(r"selected cells have neither a record nor a reason: digits-fc-mine:Waits", text)
    assert "the same command with --resume runs the other cells" in text
    assert until(lambda: not tasks(), 60), tasks()
    each_once(run, list(lines(run.out)))


def test_a_time_limit_holds_on_a_node(nodes: Nodes, tmp_path: Path) -> None:
    """The cell ends as `timeout`, with its scores before."""
    run = Run(tmp_path, *waiting(60, "0"), "--time-limit", "2", address=nodes.address)
    code, text = run.end()
    assert code == 1, text
    (record,) = run.records().values()
    assert record.status == "timeout"
    assert record.before["accuracy"] > 0.5


def test_without_any_node_the_run_ends_and_says_how_to_resume(nodes: Nodes, tmp_path: Path) -> None:
    """Both nodes die, --ray-wait 10: exit code 2 soon after, with tables; with a new node --resume
    does the rest, each cell once.
    """
    words = holding(tmp_path)
    run = Run(tmp_path, *words, "--ray-wait", "10", address=nodes.address)
    assert both_hold(run, tmp_path)
    for raylet in list(nodes.live):
        nodes.kill(raylet)
    code, text = run.end()
    assert code == 2, text
    assert "no node of the cluster has had room for a cell for 10 s (--ray-wait)" in text
    assert "airepair: the verdict" in text
    assert "the same command with --resume runs the other cells" in text
    kept = list(lines(run.out))
    each_once(run, kept)
    nodes.add()
    go_on(tmp_path)
    again = Run(tmp_path, *words, "--resume", address=nodes.address)
    code, text = again.end()
    assert code == 0, text
    each_once(again, SIX)


def test_a_node_with_other_versions_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    """One line names the node's version and the controller's, before any cell."""
    other = tmp_path / "other" / "scipy-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 0.0.1\n")
    odd = nodes.add(PYTHONPATH=f"{other.parent}:{ROOT}")
    try:
        code, text = Run(tmp_path, *waiting(0, "0"), address=nodes.address).end()
    finally:
        nodes.kill(odd)
    assert code == 4, text
    assert re.search(r"node \w{8} differs from the controller: scipy 0\.0\.1 \(here [\d.]+\)", text)
    assert not (tmp_path / "out" / "cells").exists()


def test_a_brought_file_and_its_inputs_travel(nodes: Nodes, tmp_path: Path) -> None:
    """A model file, the TOML file beside it, --failing and --keep: the record is the one that they
    give here, and the node read copies.
    """
    words = ["--method", "memit", "--seeds", "0", *brought(tmp_path)]
    afar = Run(tmp_path, *words, address=nodes.address)
    code, text = afar.end()
    assert code == 0, text
    near = Run(tmp_path, *words, address=None, engine="local", out="here")
    code, text = near.end()
    assert code == 0, text
    (key,) = near.records()
    assert compared(afar.records()[key]) == compared(near.records()[key])
    copies = {p.parent.name + "/" + p.name for p in (tmp_path / "nodes").glob("*/files/*/*/*")}
    assert copies == {"model/My-net.pt", "model/My-net.toml", "failing/wrong.npz", "keep/right.npz"}


def brought(folder: Path) -> list[str]:
    """Writes a digits network that wants pixels in 0..255, and inputs that it gets wrong and right;
    the options that name them.
    """
    digits, net = load("digits"), build("fc", "digits", 10, (1, 8, 8))
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(net(digits.train.images() * 255), digits.train.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(net.eval().state_dict(), folder / "My-net.pt")
    (folder / "My-net.toml").write_text(
        'input_range = "0..255"\ntrained_on = "split of seed 0"\nnet_arch = "fc"\n'
    )
    with torch.no_grad():
        right = net(digits.repair.images() * 255).argmax(1) == digits.repair.y
    x = (digits.repair.images() * 255).round().to(torch.uint8)[:, 0].numpy()
    np.savez(folder / "wrong.npz", x=x[~right.numpy()], y=digits.repair.y[~right].numpy())
    np.savez(folder / "right.npz", x=x[right.numpy()][:20])
    return ["--pretrained", "My-net.pt", "--failing", "npz:wrong.npz", "--keep", "npz:right.npz"]


@pytest.mark.usefixtures("cluster")  # one that runs here already is not joined
def test_equal_records_here_and_on_a_cluster_of_this_machine(tmp_path: Path) -> None:
    """noop, random, finetune and its control cells of digits-fc: all that a record says but times and
    where; meanwhile nothing listens outside the loopback interface.
    """
    words = ["--method", "noop,random,finetune", "--set", "finetune.epochs=2", "--seeds", "0"]
    before = listening()
    afar = Run(tmp_path, *words, "--keep-models", "all", address=None)
    assert afar.reaches(lambda: bool(afar.working())), afar.end()[1]
    opened = listening() - before
    code, text = afar.end()
    assert code == 0, text
    assert opened
    assert {host for host, _ in opened} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, opened
    assert until(lambda: not listening() - before, 60), "the cluster of this machine ends with its run"
    near = Run(tmp_path, *words, "--keep-models", "all", address=None, engine="local", out="here")
    assert near.end()[0] == 0
    ours, theirs = near.records(), afar.records()
    assert ours.keys() == theirs.keys()
    assert {f"digits-fc-{m}-s0" for m in ("noop", "random", "finetune")} < ours.keys()
    for key in ours:
        assert compared(theirs[key]) == compared(ours[key])
        for name in ("repaired.safetensors", "predictions.npz"):
            assert (afar.out / "cells" / key / name).read_bytes() == (
                near.out / "cells" / key / name
            ).read_bytes()


def compared(record: Record) -> dict[str, Any]:
    """A record without its times."""
    found: dict[str, Any] = json.loads(record.to_json())
    del found["cost"], found["provenance"]["time"]
    for phase in found["phases"]:
        phase["seconds"] = 0
    return found


def listening() -> set[tuple[str, int]]:
    """The addresses on which somebody listens."""
    return {
        (c.laddr.ip, c.laddr.port) for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN
    }


def test_nobody_at_the_address_is_said_within_ten_seconds(tmp_path: Path) -> None:
    """One line, a usage error, before any test is collected; how long pytest needs to start here is
    another matter.
    """
    start = time.monotonic()
    Run(tmp_path, "--markers", address=None, engine="local").end()
    usual = time.monotonic() - start
    start = time.monotonic()
    code, text = Run(tmp_path, *waiting(0, "0"), address="127.0.0.1:9").end()
    assert code == pytest.ExitCode.USAGE_ERROR
    assert text.strip().splitlines()[-1].startswith("ERROR: --ray-address 127.0.0.1:9: nobody listens there")
    assert time.monotonic() - start < 10 + usual
