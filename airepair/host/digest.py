"""SHA-256 digests, in hexadecimal, of texts, JSON values and files.

(Of tensors: tensor_cache.py; of splits: airepair/data/splits.py.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BLOCK = 1 << 20  # bytes that are read at once


def of_text(text: str) -> str:
    """Of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_json(value: Any) -> str:
    """Of a JSON value; the order of keys does not count."""
    return of_text(json.dumps(value, sort_keys=True))


def of_files(files: Iterable[Path]) -> str:
    """Over the bytes of the files, one after the other, in the order of their paths.

    OSError if one cannot be read.
    """
    sha = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                sha.update(block)
    return sha.hexdigest()
