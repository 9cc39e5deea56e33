"""The engine of child processes: each cell runs in one of its own, forked from a process that has
torch loaded, or a fresh one on CUDA; the next begins when it has ended.

What a method does to its process then costs its own cell alone. A cell that passes a limit is ended
by force, and nothing that it started is left (airepair/engines/fork_server.py).
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from airepair.engines.channel import Channel
from airepair.engines.fork_server import Server
from airepair.engines.limits import MIB, Limits, Output, failure_of_exit, kernel_kills
from airepair.engines.local import Hear, failure_of
from airepair.engines.memory_watch import too_much
from airepair.engines.protocol import Failure, Finished, Ticket
from airepair.engines.queue import Queue
from airepair.errors import UsageError
from airepair.records import Record
from airepair.runner.cell import CellResult, CellSpec, Deaf, Listener
from airepair.runner.cost import descendants

TICK = 0.1  # seconds between two looks at limits
SOFT = 2.0  # seconds between SIGTERM and SIGKILL
CHUNK, PARTS = 1 << 16, 64  # bytes of output that are read at once, and how often before limits are looked at
OUTPUT = "output.txt"  # in the cell's folder: what it printed


class Isolated:
    """Runs each cell in a process of its own, when it is waited for. `hear` gives a cell's listener."""

    def __init__(self, cache: Path, limits: Limits = Limits(), *, hear: Hear = lambda _: Deaf()) -> None:  # noqa: B008 (frozen)
        self.cache, self.limits, self.hear = cache, limits, hear
        self.queue = Queue()
        self.server: Server | None = None

    def submit(self, spec: CellSpec) -> Ticket:
        """Queues the cell."""
        return self.queue.put(spec)

    def wait(self, tickets: Sequence[Ticket], timeout: float | None = None) -> list[Finished]:
        """Runs the first of the cells that has not run; a timeout does not interrupt it."""
        taken = self.queue.take(tickets)
        return [] if taken is None else [Finished(taken[0], self._run(taken[1]))]

    def close(self, force: bool = False) -> None:
        """Forgets what has not run, and ends the process that cells are forked from."""
        self.queue.clear()
        if self.server is not None:
            self.server.end()
            self.server = None

    def _run(self, spec: CellSpec) -> CellResult | Failure:
        fresh = spec.device.startswith("cuda")
        if self.server is None or self.server.process.poll() is not None:
            self.server = Server(preload=not fresh)
        cell = _Running(self.server, self.limits, spec, self.hear(spec))
        job = {"spec": spec.to_json(), "cache": str(self.cache), "gpu_memory": self.limits.gpu_memory}
        try:
            cell.run(job)
        except BaseException:  # Ctrl-C, or a listener that cannot write
            cell.abort()
            self.close()
            raise
        if fresh or cell.orphaned:
            self.close()
        return cell.outcome()


class _Running:
    """A cell that runs, seen from here. `ended` is its exit code, `forced` why it was ended by force."""

    def __init__(self, server: Server, limits: Limits, spec: CellSpec, listener: Listener) -> None:
        self.server, self.limits, self.spec, self.listener = server, limits, spec, listener
        ours, theirs = socket.socketpair()
        self.output, write = os.pipe()
        self.channel, self.printed = Channel(ours), Output(limits.output)
        server.fork(theirs, write)
        self.pid = 0
        self.kills = kernel_kills()
        self.began: float | None = None  # of the repair, while it runs
        self.kill_at, self.next_look = 0.0, 0.0
        self.ended: int | None = None
        self.orphaned = False
        self.forced: Failure | None = None
        self.message: tuple[str, Any] | None = None

    def run(self, job: dict[str, Any]) -> None:
        """Until its process and all that it started have ended."""
        os.set_blocking(self.output, False)
        try:
            with selectors.DefaultSelector() as ready:
                for source in (self.channel.end, self.output, self.server.control):
                    ready.register(source, selectors.EVENT_READ)
                with suppress(BrokenPipeError):  # it died at once: its exit says how
                    self.channel.send(job)
                while self.ended is None:
                    for key, _ in ready.select(TICK):
                        if not self._heard(key.fileobj):
                            ready.unregister(key.fileobj)
                    self._look()
                self._hear()
                self._read()
        finally:
            self.channel.close()
            os.close(self.output)

    def outcome(self) -> CellResult | Failure:
        """What it left: a result even if it was ended by force after it had sent one."""
        kind, content = self.message or ("", {})
        if kind == "result":
            try:
                return self._result(content)
            except UsageError as error:
                return failure_of(error)
        log = self.printed.last()
        if kind == "failure":
            return Failure(content[0], content[1], log)
        if self.forced is not None:
            return replace(self.forced, log=log)
        if self.orphaned:
            return Failure("crashed", "the process that it was forked from died, and it with it", log)
        return failure_of_exit(self.ended or 0, kernel_kills() - self.kills, log)

    def abort(self) -> None:
        """Ends it, and waits until nothing of it is left."""
        self.kill(signal.SIGKILL)
        end = time.monotonic() + SOFT
        while self.pid and self.ended is None and time.monotonic() < end:
            self._answered()
            time.sleep(0.01)

    def kill(self, how: signal.Signals) -> None:
        """A signal to the cell's process group; SIGKILL also to what it started outside of that."""
        if not self.pid or self.ended is not None:
            return
        below = descendants(self.pid) if how == signal.SIGKILL else []
        for end, pid in ((os.killpg, self.pid), *((os.kill, p) for p in (self.pid, *below))):
            with suppress(ProcessLookupError, PermissionError):
                end(pid, how)

    def _heard(self, source: Any) -> bool:
        """Takes what a source has; whether it may have more."""
        if source is self.channel.end:
            return self._hear()
        if source is self.server.control:
            return self._answered()
        return self._read()

    def _hear(self) -> bool:
        for kind, content in self.channel.arrived():
            if kind == "progress":
                self.listener.progress(*content)
            elif kind == "before":
                self.listener.before(*content)
            elif kind == "log":
                self.listener.log(content)
            elif kind == "repair":
                self.began = time.monotonic() if content else None
            else:
                self.message = (kind, content)
        return not self.channel.closed

    def _read(self) -> bool:
        for _ in range(PARTS):
            try:
                part = os.read(self.output, CHUNK)
            except BlockingIOError:
                break
            if not part:
                return False
            self.printed.add(part)
        return True

    def _answered(self) -> bool:
        for word, number in self.server.answers():
            if word == "pid":
                self.pid = number
            elif word == "ended":
                self.ended = number
            else:
                self.kill(signal.SIGKILL)
                self.ended, self.orphaned = -signal.SIGKILL, True
        return self.ended is None

    def _look(self) -> None:
        """Ends a cell that has passed a limit: by SIGTERM, then by SIGKILL; at once if memory is short."""
        now = time.monotonic()
        if not self.pid or self.ended is not None or now < self.next_look:
            return
        self.next_look = now + TICK
        if self.forced is not None:
            if now > self.kill_at:
                self.kill(signal.SIGKILL)
            return
        seconds, grace = self.spec.seconds, self.limits.grace
        if seconds is not None and self.began is not None and now - self.began > seconds + grace:
            reason = f"the limit of {seconds:g} s passed and the method went on; it was ended by force"
            self.forced, self.kill_at = Failure("timeout", reason), now + SOFT
            self.kill(signal.SIGTERM)
        elif used := too_much(self.pid, self.limits.memory):
            most = self.limits.memory or 0
            reason = f"host memory: {used // MIB:,} MiB used, the limit is {most // MIB:,} MiB"
            self.forced, self.kill_at = Failure("out of memory", reason), now
            self.kill(signal.SIGKILL)

    def _result(self, content: dict[str, Any]) -> CellResult:
        record, files = Record.from_json(content["record"]), dict(content["files"])
        if self.printed.total:
            files[OUTPUT] = self.printed.content()
        if remark := self.printed.remark():
            record = replace(record, notes=(*record.notes, remark))
        return CellResult(record, files, dict(content["models"]), tuple(content["lines"]))
