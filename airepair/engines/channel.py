"""Messages between a cell's process and the one that waits for it: MessagePack over a socket, each
behind its length. Free of torch.

Nothing that is received can run code, as a pickle could.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgspec

HEAD = 8  # bytes of a length
CHUNK = 1 << 18


class Channel:
    """It is one end of the socket; `closed` once the other end is."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self.buffer, self.closed = end, bytearray(), False

    def send(self, *message: Any) -> None:
        """Sends a message; OSError if nobody can receive it any more."""
        content = msgspec.msgpack.encode(message)
        self.end.sendall(len(content).to_bytes(HEAD, "big") + content)

    def receive(self) -> list[Any]:
        """Returns the next message, waited for; EOFError if the other end closes before it is whole."""
        while (message := self._first()) is None:
            part = self.end.recv(CHUNK)
            if not part:
                raise EOFError("the other process has ended")
            self.buffer += part
        return message

    def arrived(self) -> Iterator[list[Any]]:
        """Yields the whole messages that are there now; half of one is no message."""
        try:
            while part := self.end.recv(CHUNK, socket.MSG_DONTWAIT):
                self.buffer += part
            self.closed = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.closed = True
        try:
            while (message := self._first()) is not None:
                yield message
        except msgspec.DecodeError:  # a method wrote to a handle that is not its own
            self.closed = True
            self.buffer.clear()

    def close(self) -> None:
        """Closes this end."""
        self.end.close()

    def _first(self) -> list[Any] | None:
        end = HEAD + int.from_bytes(self.buffer[:HEAD], "big")
        if len(self.buffer) < HEAD or len(self.buffer) < end:
            return None
        found: list[Any] = msgspec.msgpack.decode(self.buffer[HEAD:end])
        del self.buffer[:end]
        return found
