"""What the engine of a Ray cluster makes of a node's silence, with Ray's answers pretended: the real
ones need a cluster (test_ray.py).
"""

import math
from collections.abc import Sequence
from inspect import isfunction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from airepair.case import Case
from airepair.engines import node
from airepair.engines.bulletin import Bulletin
from airepair.engines.protocol import Failure, Ticket
from airepair.errors import UsageError
from airepair.runner.cell import CellResult, CellSpec
from tests.report_records import record

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'airepair[ray]'")
from ray import exceptions as failures  # noqa: E402

from airepair.engines import ray as ray_engine  # noqa: E402
from airepair.engines import ray_cluster  # noqa: E402
from airepair.engines.ray import RayEngine  # noqa: E402
from airepair.engines.ray_task import Job  # noqa: E402

DEAD = failures.TaskUnschedulableError("the node doesn't exist any more")
UNREACHED = failures.NodeDiedError("dead or unreachable")
SILENT = failures.GetTimeoutError("timed out")
OURS = {"torch": "2"}


class PretendRay:
    """Ray, with nodes that answer one question after the other as `answers` says; None is no answer
    yet, an error is raised.
    """

    def __init__(self, **answers: Sequence[Any]) -> None:
        self.answers = {name: list(found) for name, found in answers.items()}

    def nodes(self) -> list[dict[str, Any]]:
        """Ray names the dead ones, too, until it has noticed: here after their last answer."""
        alive = [name for name, left in self.answers.items() if left]
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1}} for name in alive]

    def remote(self, **options: Any) -> Any:
        """A task whose reference is the node's name."""
        task = SimpleNamespace(
            options=lambda scheduling_strategy: SimpleNamespace(remote=lambda: scheduling_strategy)
        )
        return lambda what: task if isfunction(what) else pytest.fail(f"Ray takes no {what}")

    def get(self, name: str, timeout: float | None = None) -> Any:
        """The node's next answer."""
        found = self.answers[name].pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, names: list[str], timeout: float) -> tuple[list[str], list[str]]:
        """Those that have answered."""
        (name,) = names
        if self.answers[name][0] is None:
            self.answers[name].pop(0)
            return [], names
        return names, []


def pretend(monkeypatch: pytest.MonkeyPatch, **answers: Sequence[Any]) -> None:
    """Puts it in the place of Ray."""
    monkeypatch.setattr(ray_cluster, "ray", PretendRay(**answers))
    monkeypatch.setattr(ray_cluster, "only", lambda name: name)
    monkeypatch.setattr(ray_cluster, "AGAIN", 0.0)


def test_without_an_address_no_running_cluster_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray would join one that it finds on this machine, or the one that RAY_ADDRESS names."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray_cluster, "ray", SimpleNamespace(init=lambda **words: given.update(words)))
    ray_cluster.Cluster().connect([])
    assert given["address"] == "local"


def test_a_node_that_has_died_is_left_out_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray named it among the living: the run begins with the others, and does not end with exit
    code 4.
    """
    said: list[str] = []
    frozen = [SILENT, SILENT, SILENT]
    pretend(monkeypatch, killed=[DEAD], unreached=[UNREACHED, UNREACHED, DEAD], frozen=frozen, alive=[OURS])
    ray_cluster.Cluster().refuse_other_nodes(OURS, said.append)
    assert said == [
        "node killed died before it ran a cell; the others run them",
        "node unreache died before it ran a cell; the others run them",
        "node frozen died before it ran a cell; the others run them",
    ]


def test_a_node_that_cannot_run_cells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with another version, one whose process cannot start, and one that lives and is not reached."""
    pretend(monkeypatch, alive=[{"torch": "1"}])
    with pytest.raises(UsageError, match=r"node alive differs from the controller: torch 1 \(here 2\)"):
        ray_cluster.Cluster().refuse_other_nodes(OURS, print)
    pretend(monkeypatch, alive=[failures.RuntimeEnvSetupError("no disk")])
    with pytest.raises(UsageError, match=r"node alive cannot run cells: .*no disk"):
        ray_cluster.Cluster().refuse_other_nodes(OURS, print)
    monkeypatch.setattr(ray_cluster, "PATIENCE", -1.0)
    for silence, said in ((UNREACHED, "dead or unreachable"), (SILENT, "timed out")):
        pretend(monkeypatch, alive=[silence, OURS])
        with pytest.raises(UsageError, match=f"node alive cannot run cells: .*{said}"):
            ray_cluster.Cluster().refuse_other_nodes(OURS, print)


@pytest.mark.parametrize(("last", "crashed"), [(4711, True), (DEAD, False)], ids=["alive", "dead"])
def test_a_lost_process_is_a_crash_if_its_node_answers(
    monkeypatch: pytest.MonkeyPatch, last: Any, crashed: bool
) -> None:
    """However long the answer takes: no number of seconds stands for it. Without an answer, since
    the node is dead, the cell runs again.
    """
    pretend(monkeypatch, node=[None, None, None, last])
    case, ended, again = Case("digits", "fc", "noop", 0), list[Failure](), list[Job]()
    job = Job(CellSpec(case, "smoke"), Ticket(0, str(case)))
    engine: Any = RayEngine.__new__(RayEngine)
    engine.cluster, engine.spoilt, engine.say = ray_cluster.Cluster(), set(), print
    engine.reports = {str(case): {"node": "node", "pid": 1, "attempt": 1}}
    engine.queue = SimpleNamespace(appendleft=again.append)
    engine._end = lambda _, found: ended.append(found)
    engine.doubts = [(job, "WorkerCrashedError", None)]
    for _ in range(5):
        assert (ended, again) == ([], [])
        engine._decide(*engine.doubts.pop(), {"node": 1})
    assert engine.doubts == []
    assert [end.status for end in ended] == (["crashed"] if crashed else [])
    assert [job.attempt for job in again] == ([] if crashed else [2])


def test_a_cell_that_ends_the_cuda_context_has_its_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing more is asked of the device, and the process runs no other cell."""
    case, own = Case("digits", "fc", "noop", 0), node.Process()
    result = CellResult(record(str(case)), lost=("CUDA context",))
    monkeypatch.setattr(node, "process", lambda: own)
    monkeypatch.setattr(node, "_received", lambda *_: CellSpec(case, "smoke", device="cuda"))
    monkeypatch.setattr(node.Local, "_run", lambda *_: result)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: pytest.fail("the device was asked"))
    assert node.run(node.Shipment(b"", lambda _: {}), tmp_path, lambda _: None) is result
    assert own.lost


def test_a_quick_cell_that_spoils_its_process_is_known_to_have_done_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends before a look at the reports: the one that names its process is read with its result,
    or the process's next cell would count as crashed.
    """
    bulletin = Bulletin()
    bulletin.put("digits-fc-noop-s0", {"node": "node", "pid": 4711, "attempt": 1})
    case = Case("digits", "fc", "noop", 0)
    job = Job(CellSpec(case, "smoke"), Ticket(0, str(case)))
    engine: Any = RayEngine.__new__(RayEngine)
    engine.commit = ("c0ffee", False)
    engine.baselines = SimpleNamespace(startable=tuple)
    engine.cluster, engine.slots, engine.queue = ray_cluster.Cluster(), 1, []
    engine.spoilt, engine.reports, engine.listeners, engine.ended = set(), {}, {}, {}
    engine.open, engine.looked = {job.ticket}, math.inf
    engine.running = {"its result": job}
    engine.bulletin = SimpleNamespace(
        **{word: SimpleNamespace(remote=getattr(bulletin, word)) for word in ("changed", "forget")}
    )
    result = CellResult(record(str(case)), lost=("inference mode",))
    answers = SimpleNamespace(
        wait=lambda refs, timeout: (refs, []), get=lambda ref: result if ref == "its result" else ref
    )
    monkeypatch.setattr(ray_engine, "ray", answers)
    engine._pump(0.0)
    assert engine.spoilt == {("node", 4711)}
    assert set(engine.ended) == {job.ticket}
