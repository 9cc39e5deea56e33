"""A TensorFlow file as a Frozen graph, whichever of the two containers holds it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError

from airepair.errors import UsageError
from airepair.formats.tensorflow.graph import Frozen, frozen_file
from airepair.formats.tensorflow.saved_model import saved


def load(path: Path, kind: str, max_bytes: int) -> Frozen:
    """Returns the frozen graph in a .pb file or a SavedModel folder.

    UsageError for damage, for operations that are not allowed, for too much of anything.
    """
    file, most = path / "saved_model.pb" if kind == "savedmodel" else path, min(max_bytes, 512 << 20)
    if file.stat().st_size > most:
        raise UsageError(
            f"{path}: the graph has {file.stat().st_size / 1e6:.0f} MB; at most {most / 1e6:.0f} MB are read"
        )
    try:
        if kind == "savedmodel":
            return saved(path, file.read_bytes())
        return frozen_file(path, file.read_bytes())
    except DecodeError:
        raise UsageError(f"{path} is damaged or truncated (its protobuf cannot be parsed)") from None
