"""What the controller sends to a node of a Ray cluster, and what the node does with it.

A job's files lie in the object store of Ray, each once, and belong to the controller: no node's
death takes them away.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from typing import Any

import ray

from airepair.data.transport import files_of
from airepair.engines import node, shipping
from airepair.engines.baselines import SubjectKey
from airepair.engines.bulletin import Report
from airepair.engines.protocol import Ticket
from airepair.errors import UsageError
from airepair.host.orphans import end_with_parent
from airepair.runner.cell import CellSpec


@dataclass(frozen=True)
class Job:
    """It is a cell, or the training of a subject if `subject` is given."""

    spec: CellSpec
    ticket: Ticket
    subject: SubjectKey | None = None
    attempt: int = 1


class Parts:
    """It holds the files of jobs in the object store, by their digest."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}

    def put(self, files: shipping.Files) -> str:
        """Stores the files once; their digest, "" if there are none."""
        if not files:
            return ""
        name = shipping.digest(files)
        if name not in self.stored:
            self.stored[name] = ray.put(dict(files))
        return name

    def shipment(self, spec: CellSpec, subject: str) -> node.Shipment:
        """Returns the cell with all that it needs elsewhere; `subject` is a digest."""
        parts = (subject, self.put(shipping.user_files(spec)), self.put(files_of(spec.data)))
        fetch = partial(_fetch, {digest: self.stored[digest] for digest in parts if digest})
        return node.Shipment(spec.to_json(), fetch, *parts)


def _fetch(stored: Mapping[str, Any], digest: str) -> Any:
    return ray.get(stored[digest])


@once
def end_with_node() -> None:
    """From now on this process ends with its raylet. Ray itself leaves it running for good if the
    node was frozen, given up, and ended when it went on.
    """
    end_with_parent(os.getppid())


def run_job(job: Job, shipment: node.Shipment, bulletin: Any, expected: Mapping[str, str]) -> Any:
    """Runs on a node: reports where it runs, then trains or runs the cell.

    UsageError on a node that differs from the controller.
    """

    def tell(report: Report) -> None:
        # waited for: a method may end the process in its next line
        ray.get(bulletin.put.remote(job.ticket.key, report))

    end_with_node()
    where = ray.get_runtime_context().get_node_id()
    tell({"node": where, "pid": os.getpid(), "attempt": job.attempt})
    if node.process().lost:
        os._exit(70)
    if wrong := node.different(expected, node.facts()):
        raise UsageError(f"node {where[:8]} ({os.uname().nodename}) differs from the controller: {wrong}")
    folder = node.node_folder(where)
    return node.run(shipment, folder, tell) if job.subject is None else node.train(shipment, folder)
