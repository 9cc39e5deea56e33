"""The connection to a Ray cluster: its start or the way to it, its nodes, and the refusal of nodes
that differ from the controller.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from airepair.engines import node, shipping
from airepair.engines.bulletin import lives
from airepair.errors import UsageError, one_line
from airepair.host.arithmetic.setup import is_set, settings
from airepair.runner.cell import CellSpec

STORE = 200 * 2**20  # bytes of a local cluster's object store; what does not fit is spilled to the disk
CARRIED = ("AIREPAIR_TOOLS", "AIREPAIR_NODE_CACHE")  # of the controller's environment
AGAIN = 1.0  # seconds between two looks at whether a node that does not answer is dead
PATIENCE = 120.0  # seconds for a node's first process, which imports torch


@dataclass(frozen=True)
class Cluster:
    """It says which cluster is used (None: one of this machine, for this run), and what a cell
    takes of it.

    At most `most` cells run at once. `wait`: seconds without any node for cells after which the run
    stops. `retries` of a cell whose node died.
    """

    address: str | None = None
    gpus: float = 0
    cpus: float = 1
    most: int | None = None
    wait: float = 300.0
    retries: int = 2

    def connect(self, specs: Sequence[CellSpec]) -> None:
        """Connects this process, or starts a cluster of this machine; every process of a cell gets
        this process's code.

        UsageError if there is no cluster, and for own code of the cells that is not found.
        """
        variables = {k: os.environ[k] for k in CARRIED if k in os.environ} | (settings() if is_set() else {})
        local = (
            {}
            if self.address
            else {"num_cpus": self.most, "object_store_memory": STORE, "include_dashboard": False}
        )
        with tempfile.TemporaryDirectory(prefix="airepair-code-") as code, _signals_kept():
            shipping.stage_code(Path(code), specs)
            env = {
                "working_dir": code,
                "env_vars": variables | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            }
            try:
                ray.init(  # without "local" Ray would join any cluster that runs here
                    address=self.address or "local",
                    runtime_env=env,
                    log_to_driver=False,
                    logging_level="ERROR",
                    **local,
                )
            except (ConnectionError, RuntimeError, RayError) as error:
                raise UsageError(
                    f"no Ray cluster at {self.address or 'this machine'}: {one_line(error)}"
                ) from error

    def live_nodes(self) -> dict[str, int]:
        """How many cells each live node has room for; nodes without room for one are left out."""
        found = {}
        for about in ray.nodes():
            room = about["Resources"].get("CPU", 0) / self.cpus
            if self.gpus:
                room = min(room, about["Resources"].get("GPU", 0) / self.gpus)
            if about["Alive"] and room >= 1:
                found[about["NodeID"]] = int(room)
        return found

    def refuse_other_nodes(self, facts: Mapping[str, str], say: Callable[[str], object]) -> None:
        """Raises UsageError for a node with other versions. One that joins later is refused by its
        first cell.

        A node that has died is left out with a sentence: Ray names it among the living for some
        seconds, a frozen one for more than a minute.
        """
        for name, question in {name: ask(name, node.facts) for name in self.live_nodes()}.items():
            try:
                theirs = self._answer(name, question)
            except RayError as error:
                raise UsageError(f"node {name[:8]} cannot run cells: {one_line(error)}") from error
            if theirs is None:
                say(f"node {name[:8]} died before it ran a cell; the others run them")
                continue
            if wrong := node.different(facts, theirs):
                raise UsageError(
                    f"node {name[:8]} differs from the controller: {wrong}; accepted: "
                    f"the same versions on every node"
                )

    def _answer(self, name: str, question: Any) -> Mapping[str, str] | None:
        """What the node answers, None if it is dead. RayError if it lives and does not answer.

        A question to a frozen node has no end of its own, and one that did not reach its node says
        nothing yet: Ray's list of nodes decides.
        """
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return dict(ray.get(question, timeout=AGAIN))
            except TaskUnschedulableError:
                return None
            except (NodeDiedError, GetTimeoutError) as error:
                if name not in self.live_nodes():
                    return None
                if time.monotonic() > end:
                    raise
                if isinstance(error, NodeDiedError):
                    time.sleep(AGAIN)
                    question = ask(name, node.facts)


def ask(name: str, what: Callable[[], Any] = lives) -> Any:
    """Asks that node a question, which takes no room from a cell; `answer` reads how it ended."""
    task = ray.remote(num_cpus=0, max_retries=0)(what)
    return task.options(scheduling_strategy=only(name)).remote()


def answer(question: Any) -> bool | None:
    """Returns whether the node lives that was asked; None while that is open."""
    if not ray.wait([question], timeout=0)[0]:
        return None
    try:
        ray.get(question)
    except RayError:
        return False
    return True


def only(name: str) -> NodeAffinitySchedulingStrategy:
    """Returns the strategy that runs a task on that node and no other."""
    return NodeAffinitySchedulingStrategy(name, soft=False)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; afterwards it means again what it meant before."""
    kept = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            with suppress(ValueError, TypeError):  # not in the main thread, or set outside Python
                signal.signal(number, handler)
