"""Record files: whole lines appended under a lock; read line by line, so that one bad line costs no other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from airepair.errors import UsageError
from airepair.host.signals import finishing
from airepair.host.validation import json_value
from airepair.records.record import Record
from airepair.records.standing import standing

CELLS = "cells"  # the folder of the cells' own files, beside the records
TORN = ".torn"  # what a crash left of a line lies in this file beside the records
BLOCK = 1 << 16


@dataclass(frozen=True)
class Found:
    """Holds what files have: the records that stand, remarks about what was left out, and one sentence
    per line that is no record.
    """

    records: list[Record]
    remarks: list[str]
    refused: list[str]


def append(path: Path, record: Record) -> None:
    """Appends the record: one whole line under a lock, then fsync. OSError if the disk is full
    or read-only.

    What an earlier crash left of a line is cut off first and kept beside the file: joined to ours
    it would make both unreadable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with finishing(), FileLock(f"{path}.lock"):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _write(handle, (record.to_json() + "\n").encode(), _mend(path, handle))
        finally:
            os.close(handle)


def mended(path: Path) -> int:
    """Returns the size of a record file after what a crash left of its last line was cut off; 0 if
    there is no file. OSError as `append`.
    """
    if not path.exists():
        return 0
    with FileLock(f"{path}.lock"):
        handle = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            return _mend(path, handle)
        finally:
            os.close(handle)


def since(stream: IO[bytes], start: int) -> list[Record]:
    """Returns the records of an open file from the byte `start` on, in their order; what is no
    record is left to `scan`.
    """
    stream.seek(start)
    found = []
    for line in stream:
        with suppress(UsageError):
            found.append(Record.from_json(line.strip()))
    return found


def _write(handle: int, data: bytes, end: int) -> None:
    """All of the bytes, or none.

    (A buffered file would write what is left of them when it is closed, behind the cut.)
    """
    try:
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, end)
        raise


def _mend(path: Path, handle: int) -> int:
    """Where the last whole line ends.

    A record that lacks its line end only gets it; half a record is kept aside and cut off.
    """
    end = os.fstat(handle).st_size
    start, tail = end, b""
    while start and b"\n" not in tail:
        step = min(BLOCK, start)
        start -= step
        tail = os.pread(handle, step, start) + tail
    tail = tail[tail.rfind(b"\n") + 1 :]
    if not tail.strip():
        return end
    if _whole(tail):
        _write(handle, b"\n", end)
        return end + 1
    with path.with_name(path.name + TORN).open("ab") as aside:
        aside.write(tail + b"\n")
        aside.flush()
        os.fsync(aside.fileno())
    os.ftruncate(handle, end - len(tail))
    return end - len(tail)


def _whole(line: bytes) -> bool:
    """Whether the line is a record or at least a whole JSON object: not what a crash leaves. (That may
    end with an inner brace.)
    """
    try:
        return isinstance(json_value(line)[0], dict)
    except UsageError:
        return False


def scan(paths: Iterable[Path], *, whole: bool = False) -> Found:
    """Returns what the files or folders (`*.jsonl`) hold; UsageError only for what is no file. A
    line that is no record is named, the rest is read. An unfinished last line is what a crash leaves,
    and a remark; with `whole` it is no record.
    """
    files = record_files(paths)
    remarks: list[str] = []
    refused: list[str] = []
    # one after the other: of many records of one cell only one is held
    cut = refused if whole else remarks
    kept, left_out = standing(record for file in files for record in _records(file, remarks, refused, cut))
    return Found(kept, [*remarks, *left_out], refused)


def _records(file: Path, remarks: list[str], refused: list[str], cut: list[str]) -> Iterator[Record]:
    """The file's records in their order; what is none is added to the refused or the cut lines."""
    for number, line, is_whole in _lines(file):
        try:
            yield Record.from_json(line)
        except UsageError as error:
            if not is_whole and not _whole(line):
                cut.append(f"{file}:{number}: an unfinished last line was left out")
            else:
                refused.append(f"{file}:{number}: {error}")
    torn = file.with_name(file.name + TORN)
    if torn.exists():
        remarks.append(f"{torn} keeps what a crash left of a line of {file.name}")


def read(paths: Iterable[Path], *, whole: bool = False) -> tuple[list[Record], list[str]]:
    """Returns the records that stand and remarks on what was left out; UsageError that names the
    first line that is no record (`whole` as in `scan`).
    """
    found = scan(paths, whole=whole)
    if found.refused:
        more = f" ({len(found.refused) - 1} more lines are no records)" if found.refused[1:] else ""
        raise UsageError(found.refused[0] + more)
    return found.records, found.remarks


def _lines(file: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Number and bytes of each line that is not empty, and whether its line end is there."""
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line.strip(), line.endswith(b"\n")
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}; accepted: a record file (JSON lines)"
        ) from error


def record_files(paths: Iterable[Path]) -> list[Path]:
    """Returns the files themselves, and those of the folders. UsageError if there are none."""
    wanted = list(paths)
    files: list[Path] = []
    for path in wanted:
        if path.is_dir():
            files += sorted(path.glob("*.jsonl")) or sorted(path.glob("*/*.jsonl"))
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path} does not exist; accepted: a record file (.jsonl) or a folder of them")
    if not files:
        raise UsageError(f"no record file (.jsonl) in {', '.join(map(str, wanted))}")
    return files
