"""Files and folders that appear whole. Free of torch, so that what only reports may use it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airepair.errors import UsageError


@contextmanager
def replacing(path: Path, *, keep_name: bool = False) -> Iterator[Path]:
    """Gives a path beside `path`: the file or folder that the block puts there takes the place of
    `path` if the block ends well, and vanishes otherwise. A reader sees the old content or the new.

    `keep_name`: for writers that go by a file's suffix; the name is kept, in a folder of its own.
    UsageError if there is no folder for it.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if keep_name:
            part.mkdir()
        content = part / path.name if keep_name else part
        yield content
        os.replace(content, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(data)
