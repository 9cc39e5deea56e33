"""An official data set on its way to another machine: its files here, and its folder there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from airepair import paths
from airepair.data.catalogue import IDX, OFFICIAL
from airepair.data.official_files import place


def files_of(name: str) -> Mapping[str, bytes]:
    """Returns the files of an official data set as this machine has them, by their path below its
    folder.

    No files for another data set, or if this machine lacks them.
    """
    plain, root = name.partition("+")[0], paths.data()
    if plain not in OFFICIAL or (found := place(plain, root)) is None:
        return {}
    if found.is_file():
        return {found.relative_to(root).as_posix(): found.read_bytes()}
    members = {m for m, _ in OFFICIAL[plain].members} | {n + end for n in IDX for end in ("", ".gz")}
    files = sorted(f for f in found.rglob("*") if f.is_file() and f.name in members)
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in files}


def is_here(name: str) -> bool:
    """Whether this machine has the files of the data set, or it needs none."""
    plain = name.partition("+")[0]
    return plain not in OFFICIAL or place(plain, paths.data()) is not None


@contextmanager
def read_from(folder: Path, name: str) -> Iterator[None]:
    """Reads the data set from `folder` meanwhile, unless this machine has its own files."""
    if is_here(name):
        yield
    else:
        with paths.data_in(folder):
            yield
