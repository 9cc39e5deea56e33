"""Which format is this? By content, never by ending; sizes and archives are checked before any
library touches the file. Loads no torch.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from pathlib import Path

from airepair.errors import UsageError

MAX_BYTES = 2 << 30  # protobuf's own limit; no image classifier of this benchmark comes near
_HDF5, _ZIP, _LEGACY = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x80"


def sniff(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """Returns the format of a model file: a key of FORMATS.

    UsageError if it is absent, empty, too big, damaged or unknown.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, max_bytes)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    size = path.stat().st_size
    if size == 0:
        raise UsageError(f"{path} is empty")
    if size > max_bytes:
        raise UsageError(f"{path} has {size / 1e9:.1f} GB; at most {max_bytes / 1e9:.1f} GB are read")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_HDF5):
        return "keras-h5"
    if head.startswith(_ZIP):
        return _archive(path, max_bytes)
    if _safetensors(path, head, size):
        return "safetensors"
    if head.startswith(_LEGACY):
        return "torch"
    kind = _protobuf(path, size)
    if kind == "savedmodel":
        raise UsageError(f"{path} is the graph of a SavedModel; give its folder: {path.parent}")
    if kind:
        return kind
    raise UsageError(
        f"{path} is none of the formats that are read: torch, safetensors, Keras, TensorFlow, "
        f"ONNX (or it is damaged)"
    )


def _folder(path: Path, max_bytes: int) -> str:
    if not (path / "saved_model.pb").is_file():
        raise UsageError(f"{path} is a folder without saved_model.pb; a SavedModel was expected")
    total = 0
    for root, folders, files in os.walk(path):
        for name in folders + files:
            entry = Path(root) / name
            if entry.is_symlink():
                raise UsageError(f"{entry} is a symbolic link; a SavedModel with links is not read")
            total += entry.stat().st_size if entry.is_file() else 0
    if total > max_bytes:
        raise UsageError(f"{path} has {total / 1e9:.1f} GB; at most {max_bytes / 1e9:.1f} GB are read")
    if _protobuf(path / "saved_model.pb", (path / "saved_model.pb").stat().st_size) != "savedmodel":
        raise UsageError(f"{path / 'saved_model.pb'} is not a SavedModel (or it is damaged)")
    return "savedmodel"


def _archive(path: Path, max_bytes: int) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise UsageError(f"{path} is a damaged or truncated archive: {error}") from None
    names = [e.filename for e in entries]
    unpacked = sum(e.file_size for e in entries)
    if unpacked > max_bytes or len(entries) > 100_000:
        raise UsageError(
            f"{path} unpacks to {unpacked / 1e9:.1f} GB in {len(entries)} parts; "
            f"at most {max_bytes / 1e9:.1f} GB are read"
        )
    _intact(path)
    for name in names:
        if name.startswith(("/", "\\")) or ".." in Path(name.replace("\\", "/")).parts:
            raise UsageError(f"{path} holds a part with an unsafe name: {name!r}")
    if "model.weights.h5" in names and "config.json" in names:
        return "keras"
    if any(n.endswith(("serialized_exported_program.json", "models/model.json")) for n in names):
        return "exported"
    if any(n.endswith("/data.pkl") for n in names):
        return "torchscript" if any("/code/" in n for n in names) else "torch"
    raise UsageError(
        f"{path} is an archive, but of no model format that is read (first parts: "
        f"{', '.join(names[:3]) or 'none'})"
    )


def _intact(path: Path) -> None:
    """Raises UsageError if a part's checksum is wrong: not every reader looks."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        struct.error,
    ) as error:
        raise UsageError(f"{path} is a damaged or truncated archive: {error}") from None
    if broken:
        raise UsageError(f"{path} is a damaged archive: the checksum of {broken!r} is wrong")


def _safetensors(path: Path, head: bytes, size: int) -> bool:
    if len(head) < 10 or head[8:9] != b"{":
        return False
    (length,) = struct.unpack("<Q", head[:8])
    if length > min(size - 8, 100_000_000):
        raise UsageError(f"{path} looks like safetensors, but its header is damaged or the file truncated")
    try:
        with path.open("rb") as file:
            file.seek(8)
            return isinstance(json.loads(file.read(length)), dict)
    except (ValueError, RecursionError):
        raise UsageError(f"{path} looks like safetensors, but its header is damaged") from None


def _protobuf(path: Path, size: int) -> str:
    """The kind of a protobuf message by the numbers and types of its outermost fields; "" if
    they fit none (or run past the end).
    """
    fields: dict[int, int] = {}
    with path.open("rb") as file:
        while (at := file.tell()) < size:
            try:
                key = _varint(file.read(10), 0)
                file.seek(at + key[1])
                number, wire = key[0] >> 3, key[0] & 7
                if wire == 0:
                    value = _varint(file.read(10), 0)
                    file.seek(at + key[1] + value[1])
                elif wire == 2:
                    length = _varint(file.read(10), 0)
                    end = at + key[1] + length[1] + length[0]
                    if end > size:
                        return ""
                    file.seek(end)
                else:
                    return ""
            except (IndexError, ValueError):
                return ""
            if fields.setdefault(number, wire) != wire or number not in range(1, 27) or number == 0:
                return ""
    if fields.get(1) == 0 and fields.get(7) == 2:
        return "onnx"
    if fields.get(1) == 0 and fields.get(2) == 2 and set(fields) <= {1, 2}:
        return "savedmodel"
    # field 3 of a graph is a number; of a MetaGraphDef (TF1's .meta, whose weights are elsewhere)
    # it is a message
    return (
        "frozen-pb" if fields.get(1) == 2 and set(fields) <= {1, 2, 3, 4, 5} and fields.get(3, 0) == 0 else ""
    )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, i + 1
    raise ValueError("varint too long")
