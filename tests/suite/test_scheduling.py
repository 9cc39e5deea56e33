"""The order of cells under xdist: the longest expected first, and no worker committed to more than
the cell that it runs.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airepair.records import read
from fixtures import scheduling
from tests import rig


class Node:
    """A worker that notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: list[int]) -> None:
        """Tests to run."""
        self.sent += indices

    def shutdown(self) -> None:
        """The end."""
        self.shutting_down = True


def scheduler(
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[float],
    nodes: int,
    name: str = "test_repair[digits-fc-noop-s{}]",
) -> Any:
    """One whose cells are expected to take so long."""
    ids = [f"benchmarks/test_repair.py::{name.format(i)}" for i in range(len(seconds))]
    known = SimpleNamespace(seconds=dict(zip(ids, seconds, strict=True)))
    monkeypatch.setattr(scheduling, "estimate", lambda *_: known)
    options = {"maxschedchunk": None, "tx": ["popen"] * nodes, "px": [], "numprocesses": nodes}
    config: Any = SimpleNamespace(
        getoption=options.get, getvalue=options.get, option=SimpleNamespace(**options), invocation_params=None
    )
    found = scheduling._scheduler(config, None)
    workers = [Node() for _ in range(nodes)]
    for worker in workers:
        found.add_node(worker)
        found.add_node_collection(worker, ids)
    found.schedule()
    return found, workers


def test_each_worker_has_one_cell_and_the_longest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next cell is chosen when a worker is free, so no short cell waits behind a long one."""
    found, (a, b) = scheduler(monkeypatch, [1, 9, 5, 7, 3], 2)
    assert (a.sent, b.sent) == ([1, -1], [3, -1])
    found.mark_test_complete(b, 3)
    assert b.sent == [3, -1, 2, -1]
    found.mark_test_complete(b, -1)
    found.mark_test_complete(b, 2)
    found.mark_test_complete(b, -1)
    found.mark_test_complete(b, 4)
    assert b.sent == [3, -1, 2, -1, 4, -1, 0]
    assert b.shutting_down  # the last cell has no next one to wait for
    found.mark_test_complete(a, 1)
    assert a.shutting_down
    assert a.sent == [1, -1]


def test_fewer_cells_than_workers_end_the_idle_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have nothing to wait for."""
    _, (a, b) = scheduler(monkeypatch, [1], 2)
    assert (a.sent, b.sent) == ([0], [])
    assert a.shutting_down
    assert b.shutting_down


@pytest.mark.parametrize(("done", "crashed"), [(0, "s1]"), (1, None)])
def test_a_dead_worker_costs_the_cell_that_it_ran(
    monkeypatch: pytest.MonkeyPatch, done: int, crashed: str | None
) -> None:
    """One that died between two cells had not begun the second: another worker gets it."""
    found, (a, _) = scheduler(monkeypatch, [1, 9, 5, 7, 3], 2)
    if done:
        found.mark_test_complete(a, 1)
        assert found.node2pending[a] == [-1, 2, -1]
    item = found.remove_node(a)
    assert item is None if crashed is None else item.endswith(crashed)
    assert found.pending == [2, 4, 0]  # no pause among them


def test_other_tests_are_sent_two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their fixtures may belong to different modules, which a pause would tear down."""
    found, (a, b) = scheduler(monkeypatch, [0, 0, 0, 0, 0], 2, "test_x[{}]")
    assert (a.sent, b.sent) == ([0, 2], [1, 3])
    found.mark_test_complete(a, 0)
    assert a.sent == [0, 2, 4]
    assert a.shutting_down


@pytest.mark.slow
def test_a_short_cell_does_not_wait_behind_a_long_one(tmp_path: Path) -> None:
    """In a real run: one worker takes the long cell and nothing else, a worker that dies in between
    costs its own cell.
    """
    rig.lay(tmp_path, {0: "sleep:6", 1: "kill"})
    out = tmp_path / "out"
    out.mkdir()
    durations = {f"test_repair.py::test_repair[{rig.key(s)}]": 9.0 if s == 0 else 1.0 for s in range(6)}
    (out / "durations.json").write_text(json.dumps(durations))
    done = rig.run(tmp_path, "--seeds", "0,1,2,3,4,5", "--out", "out", "-n", "2", "-v")
    started = re.findall(rf"{rig.key(0)[:-1]}(\d) (\d+)", (out / "started").read_text())
    of_long = [seed for seed, pid in started if pid == dict(started)["0"]]
    assert of_long == ["0"], done.stdout
    status = {r.key: r.status for r in read([out / "records.jsonl"])[0]}
    assert status == {rig.key(s): "crashed" if s == 1 else "repaired" for s in range(6)}
