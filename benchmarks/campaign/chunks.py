"""Large files and folders cut into pieces with digests, and put together again: for machines that take
only so much at a time. Free of torch.

`NAME.pieces.json` names the pieces `NAME.000`, `NAME.001`, ... with their sizes and SHA-256, and
the digest of the whole. A folder travels as an uncompressed tar archive.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from airepair.errors import UsageError, one_line

PIECE = 60 * 2**20  # bytes


def split(source: Path, out: Path, size: int = PIECE) -> Path:
    """Cuts a file or folder into pieces of at most `size` bytes in the folder `out`; the path of
    their list.
    """
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    if size < 1:
        raise UsageError(f"pieces of {size} bytes; accepted: 1 or more")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as packed:
        if source.is_dir():
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(source, arcname=source.name)
            packed.seek(0)
            pieces = list(_cut(packed, out, source.name, size))
        else:
            with source.open("rb") as stream:
                pieces = list(_cut(stream, out, source.name, size))
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update((out / piece["file"]).read_bytes())
    found = {"name": source.name, "folder": source.is_dir(), "sha256": whole.hexdigest(), "pieces": pieces}
    listed = out / f"{source.name}.pieces.json"
    listed.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return listed


def _cut(stream: BinaryIO, out: Path, name: str, size: int) -> Iterator[dict[str, Any]]:
    number, content = 0, stream.read(size)
    while content or number == 0:
        file = f"{name}.{number:03}"
        (out / file).write_bytes(content)
        yield {"file": file, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        number, content = number + 1, stream.read(size)


def join(listed: Path, out: Path) -> Path:
    """Puts the pieces of a list together in the folder `out` and returns the file or folder.

    UsageError for a missing or changed piece, or if it exists.
    """
    name, folder, wanted, pieces = _read(listed)
    target = out / name
    if target.exists():
        raise UsageError(f"{target} exists; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=out, prefix=".pieces-") as work:
        packed = Path(work) / "whole"
        with packed.open("wb") as stream:
            for piece in pieces:
                content = _piece(listed.parent, piece)
                whole.update(content)
                stream.write(content)
        if whole.hexdigest() != wanted:
            raise UsageError(f"{listed}: the pieces do not make the whole (its SHA-256 differs)")
        if folder:
            with tarfile.open(packed) as archive:
                _unpack(archive, Path(work), listed)
            packed = Path(work) / name
        os.replace(packed, target)
    return target


def _unpack(archive: tarfile.TarFile, work: Path, listed: Path) -> None:
    """Extracts what stays within `work`. Python before 3.11.4 has no filter for that: there anything but
    folders and regular files within `work` is a UsageError.
    """
    if hasattr(tarfile, "data_filter"):
        archive.extractall(work, filter="data")
        return
    for member in archive.getmembers():
        inside = (work / member.name).resolve().is_relative_to(work.resolve())
        if not inside or not (member.isfile() or member.isdir()):
            raise UsageError(f"{listed}: {member.name!r} is no file or folder within the packed folder")
        archive.extract(member, work)


def _read(listed: Path) -> tuple[str, bool, str, list[dict[str, Any]]]:
    try:
        found = json.loads(listed.read_text(encoding="utf-8"))
        name, pieces = str(found["name"]), list(found["pieces"])
        parts = [name, *(str(p["file"]) for p in pieces)]
        if any(Path(p).name != p or p in ("", ".", "..") for p in parts):
            raise ValueError(f"a name with a folder in it: {parts}")
        return name, bool(found["folder"]), str(found["sha256"]), pieces
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{listed} is not a list of pieces: {one_line(error, 120)}") from None


def _piece(folder: Path, piece: dict[str, Any]) -> bytes:
    file = folder / str(piece["file"])
    if not file.exists():
        raise UsageError(f"{file} is missing")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != piece.get("sha256"):
        raise UsageError(f"{file} is damaged: its SHA-256 is not the one in the list")
    return content
