"""The connection to a Ray cluster: its start or the way to it, its nodes, and the refusal of nodes
that differ from the controller.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from airepair.engines import node, shipping
from airepair.errors import UsageError, one_line
from airepair.host.arithmetic.setup import is_set, settings
from airepair.runner.cell import CellSpec

STORE = 200 * 2**20  # bytes of a local cluster's object store; what does not fit is spilled to the disk
CARRIED = ("AIREPAIR_TOOLS", "AIREPAIR_NODE_CACHE")  # of the controller's environment
PATIENCE = 120.0  # seconds for a node's first process, which imports torch


@dataclass(frozen=True)
class Cluster:
    """Which cluster (None: one of this machine, for this run), and what a cell takes of it.

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
                ray.init(
                    address=self.address, runtime_env=env, log_to_driver=False, logging_level="ERROR", **local
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

    def refuse_other_nodes(self, facts: Mapping[str, str]) -> None:
        """UsageError for a node with other versions. One that joins later is refused by its first cell."""
        ask = ray.remote(num_cpus=0, max_retries=0)(node.facts)
        refs = {name: ask.options(scheduling_strategy=only(name)).remote() for name in self.live_nodes()}
        for name, ref in refs.items():
            try:
                theirs = ray.get(ref, timeout=PATIENCE)
            except RayError as error:
                raise UsageError(f"node {name[:8]} cannot run cells: {one_line(error)}") from error
            if wrong := node.different(facts, theirs):
                raise UsageError(
                    f"node {name[:8]} differs from the controller: {wrong}; accepted: "
                    f"the same versions on every node"
                )


def only(name: str) -> NodeAffinitySchedulingStrategy:
    """On that node and no other."""
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
