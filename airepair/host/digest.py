"""SHA-256 digests, in hexadecimal: the one place where anything is hashed. Free of torch.

(The MD5 sums of official data sets are here as well: whoever published them chose that.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 20  # bytes that are read at once


def of_parts(parts: Iterable[bytes | memoryview]) -> str:
    """Returns the digest of the parts, one after the other."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def of_text(text: str) -> str:
    """Returns the digest of the text in UTF-8."""
    return of_parts([text.encode()])


def of_json(value: Any) -> str:
    """Returns the digest of a JSON value; the order of keys does not count."""
    return of_text(json.dumps(value, sort_keys=True))


def of_files(files: Iterable[Path]) -> str:
    """Returns the digest over the bytes of the files, one after the other, in the order of their
    paths.

    OSError if one cannot be read.
    """
    return of_parts(block for file in sorted(files) for block in _blocks(file))


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block


def md5_of(file: Path) -> str:
    """Returns the MD5 sum of a file, which the publishers of data sets state."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
