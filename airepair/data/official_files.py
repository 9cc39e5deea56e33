"""An official data set's files: found in torchvision's layout or as `<name>.npz`, fetched, checked.

Free of torch.
"""

from __future__ import annotations

import gzip
import math
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from airepair.data.arrays import Array, Arrays, check, read_npz
from airepair.data.catalogue import IDX, OFFICIAL, Official
from airepair.data.download import Progress, fetch
from airepair.errors import Unavailable, UsageError
from airepair.host.atomic import write_atomically
from airepair.host.digest import md5_of


def read(name: str, root: Path) -> Arrays:
    """Returns the data set's arrays from the first layout that is there.

    Unavailable, in one sentence, if there is none.
    """
    official = OFFICIAL[name]
    if official.members:
        folder = _pickles_at(official, root)
        if folder:
            return _read_pickles(official, folder)
    else:
        folder = _idx_at(official, root)
        if folder:
            return _read_idx(folder)
    npz = root / f"{name}.npz"
    if npz.exists():
        return read_npz(npz)
    raise Unavailable(absent(official, root))


def place(name: str, root: Path) -> Path | None:
    """Returns the folder, archive or npz that `read` would take; None if there is none. Nothing is
    read or unpacked.
    """
    official = OFFICIAL[name]
    if not official.members:
        found = _idx_at(official, root)
    elif all((root / official.folder / m).exists() for m, _ in official.members):
        found = root / official.folder
    else:
        archive = root / official.files[0].path
        found = archive if archive.exists() else None
    npz = root / f"{name}.npz"
    return found or (npz if npz.exists() else None)


def partial(name: str, root: Path) -> str:
    """Which files of torchvision's layout are missing where some of them are there: "" if all
    are, or none.
    """
    official = OFFICIAL[name]
    if official.members:
        folders: tuple[Path, ...] = (root / official.folder,)
        wanted = {m: [m] for m, _ in official.members}
        if (root / official.files[0].path).exists():  # the archive holds them all
            return ""
    else:
        folders, wanted = _idx_folders(official, root), {n: [n, f"{n}.gz"] for n in IDX}
    for folder in folders:
        missing = [n for n, names in wanted.items() if not any((folder / file).exists() for file in names)]
        if 0 < len(missing) < len(wanted):
            return f"{folder} lacks {', '.join(missing)}"
    return ""


def absent(official: Official, root: Path) -> str:
    """Returns the sentence that names the files and the folder to add."""
    npz = f"{official.name}.npz (x_train, y_train, x_test, y_test)"
    if official.members:
        own = f"{official.files[0].path} (or its folder {official.folder}) or {npz} into {root}"
    else:
        own = f"{', '.join(IDX)} (packed or not) into {root / official.folder}, or {npz} into {root}"
    lacking = partial(official.name, root)
    start = f"{official.name} not found{f' ({lacking})' if lacking else ''}"
    return (
        f"{start}: run `airepair data get {official.name}`, or put {own} (AIREPAIR_DATA names another folder)"
    )


def get(name: str, root: Path, progress: Progress = lambda *_: None) -> Arrays:
    """Returns the data set's arrays, fetched where they are not found."""
    official = OFFICIAL[name]
    try:
        return read(name, root)
    except Unavailable:
        pass
    for file in official.files:
        target = fetch(file.urls, root / file.path, file.md5, progress=progress)
        if official.members:
            _unpack(official, target, root)
    return read(name, root)


def note(name: str, arrays: Arrays) -> str:
    """What a record must say of these files: "" if every image and label is official."""
    official = OFFICIAL[name]
    if official.members and Path(arrays.where).is_dir():  # unpickled after their md5 sums matched
        return ""
    found = arrays.contents()
    if found == official.contents:
        return ""
    said = (
        "not the official images and labels"
        if official.contents
        else "not checked against the official images"
    )
    return dict(official.known).get(found, f"{Path(arrays.where).name}: {said} (SHA-256 {found[:16]})")


def _idx_at(official: Official, root: Path) -> Path | None:
    """torchvision's folder, or a folder named like the data set ("fashion-mnist"), if all four
    files are there, packed or not.
    """
    return next(
        (
            f
            for f in _idx_folders(official, root)
            if all((f / n).exists() or (f / f"{n}.gz").exists() for n in IDX)
        ),
        None,
    )


def _idx_folders(official: Official, root: Path) -> tuple[Path, ...]:
    names = (
        official.folder,
        official.folder.partition("/")[0],
        official.name,
        official.name.replace("_", "-"),
    )
    return tuple(root / name for name in names)


def _read_idx(folder: Path) -> Arrays:
    x_train, y_train, x_test, y_test = (
        _idx(folder / n if (folder / n).exists() else folder / f"{n}.gz") for n in IDX
    )
    arrays = Arrays(x_train, y_train, x_test, y_test, str(folder))
    check(arrays)
    return arrays


def _idx(file: Path) -> Array:
    """An idx file (LeCun): two zero bytes, 8 (uint8), the number of dimensions, their sizes as
    big-endian int32, the bytes.
    """
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} is damaged: {error}; delete it and fetch it again") from None
    dimensions = raw[3] if len(raw) > 3 and raw[:3] == b"\0\0\x08" else 0
    shape = (
        tuple(int(n) for n in np.frombuffer(raw[4 : 4 + 4 * dimensions], ">i4"))
        if len(raw) >= 4 + 4 * dimensions
        else ()
    )
    if not shape or len(raw) != 4 + 4 * dimensions + math.prod(shape):
        raise UsageError(
            f"{file} is not a complete idx file of bytes ({len(raw):,} bytes); delete it and fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _pickles_at(official: Official, root: Path) -> Path | None:
    folder = root / official.folder
    if not all((folder / name).exists() for name, _ in official.members):
        archive = root / official.files[0].path
        if not archive.exists():
            return None
        _unpack(official, archive, root)
    return folder


def _unpack(official: Official, archive: Path, root: Path) -> None:
    """Unpacks the known members of a verified archive, each whole."""
    if md5_of(archive) != official.files[0].md5:
        raise UsageError(
            f"{archive} has md5 {md5_of(archive)}, the official one {official.files[0].md5}; "
            f"delete it and fetch it again"
        )
    with tarfile.open(archive) as tar:
        for name, _ in official.members:
            member = tar.extractfile(f"{official.folder}/{name}")
            assert member is not None  # the md5 sum matched
            write_atomically(root / official.folder / name, member.read())


def _read_pickles(official: Official, folder: Path) -> Arrays:
    train = [_batch(folder / name, md5) for name, md5 in official.members if not name.startswith("test")]
    test = [_batch(folder / name, md5) for name, md5 in official.members if name.startswith("test")]
    (x_train, y_train), (x_test, y_test) = _joined(train), _joined(test)
    return Arrays(x_train, y_train, x_test, y_test, str(folder))


def _batch(file: Path, md5: str) -> dict[str, Any]:
    found = md5_of(file)
    if found != md5:
        raise UsageError(
            f"{file} has md5 {found}, the official one {md5}; a pickle that is not the official file is "
            f"not opened"
        )
    batch: dict[str, Any] = pickle.loads(file.read_bytes(), encoding="latin1")  # verified above
    return batch


def _joined(batches: list[dict[str, Any]]) -> tuple[Array, Array]:
    x = np.concatenate([b["data"] for b in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    y = np.concatenate([b.get("labels", b.get("fine_labels")) for b in batches])
    return np.ascontiguousarray(x), y.astype(np.uint8)
