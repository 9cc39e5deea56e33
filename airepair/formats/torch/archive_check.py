"""Do the tensors of a torch program's archive have as many bytes as they claim? torch.jit.load takes a
claim at its word and reads past the end.

The pickles inside are read by an unpickler that knows no class: every name becomes an inert
stand-in, so that nothing of the file is run.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from airepair.errors import UsageError, one_line


def check_records(path: Path) -> None:
    """Raises UsageError if a storage of data.pkl or constants.pkl is absent from the archive, or
    shorter there than it should be.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {e.filename: e.file_size for e in archive.infolist()}
        for name in sizes:
            folder, _, last = name.rpartition("/")
            if last not in ("data.pkl", "constants.pkl"):
                continue
            for key, wanted in _claims(archive.read(name), path).items():
                there = sizes.get(f"{folder}/{last.removesuffix('.pkl')}/{key}", 0)
                if there < wanted:
                    raise UsageError(
                        f"{path} is damaged: its tensor {key} should have {wanted} bytes, {there} are there"
                    )


def check_program(path: Path, program: Any) -> None:
    """Raises UsageError if an exported program's weights are less than its tensors: torch.export.load
    makes up what an empty part lacks.
    """
    with zipfile.ZipFile(path) as archive:
        there = sum(
            e.file_size
            for e in archive.infolist()
            if "/data/weights/" in e.filename and not e.filename.endswith(".json")
        )
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in program.state_dict.values()
    }
    if sum(storages.values()) > there:
        raise UsageError(
            f"{path} is damaged: its tensors should have {sum(storages.values())} bytes, {there} are there"
        )


def _claims(data: bytes, path: Path) -> dict[str, int]:
    """Storage -> bytes, as the pickle has it."""
    reader = _Reader(io.BytesIO(data))
    try:
        reader.load()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is damaged: {one_line(error, 120)}") from None
    return reader.claims


class _Anything:
    """Stands for every class and its objects."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> _Anything:
        return self

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, *_: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Of a list."""

    def extend(self, _: Any) -> None:
        """Of a list."""


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.claims: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        return type(name, (_Anything,), {})

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[4], int):
            kind = getattr(torch, getattr(pid[1], "__name__", ""), None)
            size = kind(0).element_size() if isinstance(kind, type) and hasattr(kind, "element_size") else 1
            self.claims[str(pid[2])] = pid[4] * size
        return _Anything()
