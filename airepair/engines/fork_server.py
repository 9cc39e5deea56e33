"""The process from which those of cells are forked: torch is loaded in it once.

It reads requests from a socket, one cell at a time: a byte with two handles, the cell's channel and
the pipe for its output. It answers with lines: `pid N` when the cell has its process, `ended N`
when that is gone and nothing that it started is left. The one that asks starts it with `Server`.
Free of torch until it loads it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module

import psutil

from airepair.host.orphans import end_with_parent

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
CELL = "airepair.engines.cell_process"
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from airepair.engines.fork_server import serve; serve(*map(int, sys.argv[2:]))"
)
PATIENCE = 10.0  # seconds for the processes that a cell left behind to go after SIGKILL


class Server:
    """It is the fork server, as its parent sees it. `preload`: it loads torch; else each cell does,
    as CUDA needs it.
    """

    def __init__(self, *, preload: bool) -> None:
        self.control, theirs = socket.socketpair()
        numbers = [str(n) for n in (theirs.fileno(), os.getpid(), int(preload))]
        words = [sys.executable, "-c", START, json.dumps(sys.path), *numbers]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is for the run, which then ends this
        )
        theirs.close()
        self.rest = b""

    def fork(self, channel: socket.socket, output: int) -> None:
        """Asks for a process with these handles; they are closed here."""
        socket.send_fds(self.control, [b"c"], [channel.fileno(), output])
        channel.close()
        os.close(output)

    def answers(self) -> Iterator[tuple[str, int]]:
        """What it has said since; ("gone", 0) if it has ended."""
        try:
            part = self.control.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionResetError:
            part = b""
        *lines, self.rest = (self.rest + part).split(b"\n")
        for line in lines:
            word, number = line.decode().split()
            yield word, int(number)
        if not part:
            yield "gone", 0

    def end(self) -> None:
        """Ends it, and with it the process of a cell that still runs."""
        self.control.close()
        self.process.kill()
        self.process.wait()


def serve(handle: int, parent: int, preload: int) -> None:
    """Runs in the server until its parent closes the socket or ends."""
    end_with_parent(parent)
    if sys.platform == "linux":  # a process below this one whose parent ends becomes this one's child
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=handle)
    if preload:
        import_module(CELL).load()
    while True:
        word, handles, _, _ = socket.recv_fds(control, 1, 2)
        if not word:
            return
        server, pid = os.getpid(), os.fork()
        if not pid:
            control.close()
            import_module(CELL).main(server, *handles)  # does not return
        for number in handles:
            os.close(number)
        control.sendall(f"pid {pid}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _clear(pid)
        control.sendall(f"ended {code}\n".encode())


def _clear(group: int) -> None:
    """Ends all that a cell left behind: its process group, and on Linux whatever it started, since a
    process without a parent becomes this one's child.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return
