"""The text of packed bits (right_answers.py), read and counted without numpy: records are checked
before a process chooses its arithmetic, and numpy chooses its kernels when it is imported
(airepair/host/arithmetic/setup.py).
"""

from __future__ import annotations

import base64
import binascii
import zlib

from airepair.errors import UsageError

MOST = 10_000_000  # test images of one data set


def read(text: str) -> tuple[bytes, int]:
    """Returns the packed bytes and the number of bits. UsageError for a text that
    right_answers.pack has not made.

    A text from a stranger costs no more memory than its number of bits says, which is limited.
    """
    count, _, body = text.partition(":")
    try:
        size = int(count)
        if not 0 <= size <= MOST:
            raise ValueError(f"{size:,} answers are more than {MOST:,}, or fewer than none")
        wanted = -(-size // 8)
        packed = zlib.decompressobj().decompress(base64.b64decode(body, validate=True), wanted + 1)
        if len(packed) != wanted:
            raise ValueError(f"{'more' if len(packed) > wanted else len(packed)} bytes for {size:,} answers")
    except (ValueError, binascii.Error, zlib.error) as error:
        raise UsageError(
            f"{text[:40]!r} is not a list of right answers ({error}); accepted: "
            f"what a record of airepair holds"
        ) from None
    return packed, size


def length(text: str) -> int:
    """How many bits there are."""
    return read(text)[1]


def ones(text: str) -> int:
    """How many of them are set; the last byte's padding does not count."""
    packed, size = read(text)
    return (int.from_bytes(packed, "big") >> (8 * len(packed) - size)).bit_count()
