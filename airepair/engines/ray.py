"""The engine of a Ray cluster: this process submits cells as tasks, and results come back by value. No
shared folder is needed.

Ray's own retries are off: they run a method that ends its process four times, and cannot tell a
dead node (the cell runs again elsewhere) from a dead process (the cell has crashed). The controller
tells them apart, and only it files results.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import exceptions as failures

from airepair.engines import node, shipping
from airepair.engines.baselines import Baselines, SubjectKey, baseline_files
from airepair.engines.bulletin import Bulletin, Report
from airepair.engines.local import Hear
from airepair.engines.protocol import Failure, Finished, Ticket
from airepair.engines.ray_cluster import Cluster, answer, ask, only
from airepair.engines.ray_task import Job, Parts, run_job
from airepair.errors import AirepairError, UsageError, one_line
from airepair.runner.cell import CellResult, CellSpec, Deaf, Listener
from airepair.runner.provenance import commit

STEP = 1.0  # seconds between two looks at reports and nodes
FRESH = 20  # cells per GPU process: Ray's own 1 loads torch and compiles kernels anew for each
DEAD = (
    failures.NodeDiedError,
    failures.WorkerCrashedError,
    failures.ObjectLostError,
    failures.ActorDiedError,
)


class NoNodes(AirepairError):
    """The cluster has had no node for a cell for too long."""


class RayEngine:
    """Runs cells on a Ray cluster.

    `hear` gives the listener of a cell, `say` hears a sentence about nodes.
    """

    def __init__(
        self,
        cluster: Cluster,
        specs: Sequence[CellSpec],
        cache: Path,
        *,
        hear: Hear = lambda _: Deaf(),
        say: Callable[[str], object] = print,
    ) -> None:
        """Connects, or starts a cluster of this machine; `specs` name the user's own code.
        UsageError if a node differs from this machine.
        """
        self.cluster, self.cache, self.hear, self.say = cluster, cache, hear, say
        self.queue, self.running = deque[Job](), dict[Any, Job]()
        self.doubts: list[tuple[Job, str, Any]] = []  # lost cells, why, and the question to their node
        self.ended, self.open = dict[Ticket, CellResult | Failure](), set[Ticket]()
        self.baselines, self.made = Baselines(), dict[SubjectKey, str | Failure]()
        self.parts, self.reports, self.listeners = Parts(), dict[str, Report](), dict[str, Listener]()
        self.spoilt = set[tuple[str, int]]()  # processes whose state a method has changed for good
        self.count, self.looked, self.last_node, self.slots = 0, 0.0, time.monotonic(), 1
        self.facts, self.commit = node.facts(), commit()
        cluster.connect(specs)
        try:
            cluster.refuse_other_nodes(self.facts, say)
            options: dict[str, Any] = {"max_retries": 0, "num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
            self.task: Any = ray.remote(**options, **({"max_calls": FRESH} if cluster.gpus else {}))(run_job)
            here = only(ray.get_runtime_context().get_node_id())
            self.bulletin: Any = ray.remote(num_cpus=0)(Bulletin).options(scheduling_strategy=here).remote()
        except BaseException:
            ray.shutdown()
            raise

    def submit(self, spec: CellSpec) -> Ticket:
        """Queues the cell; those that come first start first."""
        ticket = Ticket(self.count, str(spec.case))
        self.count += 1
        self.baselines.want(spec)
        self.queue.append(Job(spec, ticket))
        self.open.add(ticket)
        return ticket

    def wait(self, tickets: Sequence[Ticket], timeout: float | None = None) -> list[Finished]:
        """Returns those of the cells that have ended.

        NoNodes if the cluster has had no node for them for too long.
        """
        end = time.monotonic() + timeout if timeout is not None else None
        while True:
            self._pump(STEP if end is None else max(0.0, min(STEP, end - time.monotonic())))
            found = [t for t in tickets if t in self.ended]
            if found or not self.open.intersection(tickets) or (end is not None and time.monotonic() >= end):
                return [Finished(t, self.ended.pop(t)) for t in found]

    def close(self, force: bool = False) -> None:
        """Ends this process's job, and with it every process that ran its cells; a local cluster
        ends as well.
        """
        while self.open and not force:
            self._pump(STEP)
        ray.shutdown()

    def _pump(self, seconds: float) -> None:
        """Starts what can start, and takes what has ended within the seconds."""
        for key, spec in self.baselines.startable():
            self._start(Job(spec, Ticket(-1, f"subject of {spec.case}"), key))
        room = (self.cluster.most or 2 * self.slots) - len(self.running)
        for job in [j for j in self.queue if self._subject(j) is not None][: max(0, room)]:
            self.queue.remove(job)
            self._start(job)
        if not self.running:
            time.sleep(seconds)
        ready = ray.wait(list(self.running), timeout=seconds)[0] if self.running else []
        if ready:
            self._take_reports()  # a cell may have ended before its first report was read
        for ref in ready:
            self._take(self.running.pop(ref), ref)
        if time.monotonic() - self.looked > STEP:
            self._look()

    def _subject(self, job: Job) -> str | Failure | None:
        """The digest of the cell's subject ("" if it is the user's own file), why there is none, or
        None while it is being made.
        """
        key = SubjectKey.of(job.spec)
        return "" if key is None else self.made.get(key)

    def _start(self, job: Job) -> None:
        if job.subject is not None:
            subject: str | Failure | None = self.parts.put(baseline_files(self.cache, job.subject))
        else:
            subject = self._subject(job)
        if not isinstance(subject, str):
            return self._end(job, subject or Failure("failed", "it has no subject"))
        self.listeners[job.ticket.key] = self.hear(job.spec) if job.subject is None else Deaf()
        task = self.task.options(name=job.ticket.key)
        shipment = self.parts.shipment(job.spec, subject)
        self.running[task.remote(job, shipment, self.bulletin, self.facts)] = job
        return None

    def _take(self, job: Job, ref: Any) -> None:
        try:
            found = ray.get(ref)
        except UsageError:  # the node differs
            raise
        except failures.LocalRayletDiedError as error:
            raise NoNodes("the Ray node of this machine died, and with it the way to the cluster") from error
        except failures.OutOfMemoryError as error:
            found = Failure("out of memory", f"host memory: {one_line(error)}")
        except DEAD as error:
            self.doubts.append((job, type(error).__name__, None))
            return
        except failures.RayError as error:
            found = Failure("failed", f"Ray: {one_line(error, 2000)}")
        self._end(job, found)

    def _end(self, job: Job, found: Any) -> None:
        """Keeps a cell's end, or a subject's files."""
        report = self.reports.pop(job.ticket.key, {})
        self.bulletin.forget.remote(job.ticket.key)
        self.listeners.pop(job.ticket.key, None)
        if job.subject is not None:
            if not isinstance(found, Failure):
                shipping.lay(found, self.cache)
            failed = (
                replace(found, reason=f"its subject: {found.reason}") if isinstance(found, Failure) else None
            )
            self.baselines.end(job.subject)
            self.made[job.subject] = failed or self.parts.put(found)
            return
        if isinstance(found, CellResult):
            if found.lost and "pid" in report:
                self.spoilt.add((report["node"], report["pid"]))
            head, dirty = self.commit  # the nodes have this process's code, and no checkout
            provenance = {**found.record.provenance, "commit": head, "dirty": dirty}
            found = replace(found, record=replace(found.record, provenance=provenance))
        self.ended[job.ticket] = found
        self.open.discard(job.ticket)

    def _take_reports(self) -> None:
        """Takes what running cells report, and passes it on."""
        for key, report in ray.get(self.bulletin.changed.remote()).items():
            old, self.reports[key] = self.reports.get(key, {}), report
            if (listener := self.listeners.get(key)) is None:
                continue
            if "before" in report and "before" not in old:
                listener.before(*report["before"])
            listener.progress(*report.get("progress", (f"on node {report['node'][:8]}", 0, 0, math.nan)))

    def _look(self) -> None:
        """Hears what running cells report, decides about those that were lost, and counts the nodes."""
        self.looked = time.monotonic()
        self._take_reports()
        live = self.cluster.live_nodes()
        doubts, self.doubts = self.doubts, []
        for job, kind, question in doubts:
            self._decide(job, kind, question, live)
        self.slots = sum(live.values())
        if live or not self.open:
            self.last_node = self.looked
        elif self.looked - self.last_node > self.cluster.wait:
            raise NoNodes(
                f"no node of the cluster has had room for a cell for {self.cluster.wait:g} s (--ray-wait)"
            )

    def _decide(self, job: Job, kind: str, question: Any, live: Mapping[str, int]) -> None:
        """A process that died on a living node was ended by its cell; a cell whose node died runs again.

        A node that died is named among the living for some seconds, so it is asked.
        """
        report = self.reports.get(job.ticket.key, {})
        where = report.get("node", "") if report.get("attempt") == job.attempt else ""
        lives = None if question is None else answer(question)
        if (where, report.get("pid")) in self.spoilt:
            self.queue.appendleft(job)
        elif kind == "NodeDiedError" or where not in live or lives is False:
            if job.attempt > self.cluster.retries:
                self._end(job, Failure("crashed", f"its node died {job.attempt} times"))
                return
            self.say(
                f"{job.ticket.key}: attempt {job.attempt} was lost with its node ({kind}); it runs again"
            )
            again = replace(job, attempt=job.attempt + 1)
            self._start(again) if job.subject else self.queue.appendleft(again)
        elif lives:
            last = (
                [f"{phase} {step}/{steps}" for phase, step, steps, _ in [report["progress"]]]
                if "progress" in report
                else []
            )
            self._end(job, Failure("crashed", "the worker process died while it ran this cell", tuple(last)))
        else:
            self.doubts.append((job, kind, ask(where) if question is None else question))
