"""The images and labels of a data set as plain arrays, whatever file they came from, checked before anything is made of them. Free of torch."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair.errors import UsageError, one_line

MAX_BYTES = 16 << 30  # of an unpacked npz: nothing that a benchmark of images holds in memory is larger
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Arrays:
    """x: N x H x W or N x H x W x C (uint8, or float in [0, 1]); y: N integers; the test set may be absent. `where` is the file or folder."""

    x_train: Array
    y_train: Array
    x_test: Array | None
    y_test: Array | None
    where: str
    classes: tuple[str, ...] = ()

    def contents(self) -> str:
        """SHA-256 over images and labels (as uint8), training set first."""
        sha = hashlib.sha256()
        for part in (self.x_train, self.y_train, self.x_test, self.y_test):
            if part is not None:
                sha.update(np.ascontiguousarray(part if part.ndim > 1 else part.astype(np.uint8)).tobytes())
        return sha.hexdigest()


def read_npz(path: Path) -> Arrays:
    """`x_train y_train [x_test y_test] [classes]` of an npz file. UsageError, one line, for anything else; objects are never unpickled."""
    found = read_arrays(path, ("x_train", "y_train", "x_test", "y_test", "classes"))
    names = ", ".join(sorted(found)) or "none of its arrays"
    if not {"x_train", "y_train"} <= found.keys() or ("x_test" in found) != ("y_test" in found):
        raise UsageError(f"{path} holds {names}; accepted: x_train, y_train, x_test, y_test (uint8 images, N x H x W or N x H x W x C)")
    classes = tuple(str(c) for c in found["classes"].reshape(-1)) if "classes" in found else ()
    arrays = Arrays(found["x_train"], _labels(found["y_train"]), found.get("x_test"), _labels(found.get("y_test")), str(path), classes)
    check(arrays)
    return arrays


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Those of the named arrays that the npz file has. UsageError, one line, for a file that is none, too large, or holds objects."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise UsageError(f"{path} unpacks to {size:,} bytes; accepted: up to {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in names if k in file.files}
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is not a readable npz file of arrays: {one_line(error, 160)}") from None


def _labels(y: Any) -> Any:
    """Keras keeps CIFAR labels as N x 1."""
    return y[:, 0] if y is not None and y.ndim == 2 and y.shape[1] == 1 else y


def check(arrays: Arrays, ends: tuple[str, str] = ("_train", "_test")) -> None:
    """UsageError where images or labels are of a kind that cannot be meant; `ends`: what the arrays' names have behind x and y."""
    for end, x, y in zip(ends, (arrays.x_train, arrays.x_test), (arrays.y_train, arrays.y_test), strict=True):
        if x is None or y is None:
            continue
        if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)) or not x.size:
            raise UsageError(
                f"{arrays.where}: x{end} has shape {x.shape}; accepted: N x H x W or N x H x W x C with 1 or 3 channels, N > 0"
            )
        if x.shape[1:] != arrays.x_train.shape[1:]:
            raise UsageError(f"{arrays.where}: test images are {x.shape[1:]}, training images {arrays.x_train.shape[1:]}")
        if x.dtype != np.uint8 and not (np.issubdtype(x.dtype, np.floating) and float(x.min()) >= 0 and float(x.max()) <= 1):
            raise UsageError(f"{arrays.where}: x{end} is {x.dtype}{_range(x)}; accepted: uint8, or floats in [0, 1]")
        if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
            raise UsageError(f"{arrays.where}: y{end} is {y.dtype} of shape {y.shape}; accepted: {len(x)} integers")
        if int(y.min()) < 0 or (arrays.classes and int(y.max()) >= len(arrays.classes)) or int(y.max()) > 9_999:
            raise UsageError(
                f"{arrays.where}: labels {int(y.min())}..{int(y.max())}; accepted: 0..{max(1, len(arrays.classes) or 10_000) - 1}"
            )


def _range(x: Array) -> str:
    return f" in {float(x.min()):.4g}..{float(x.max()):.4g}" if np.issubdtype(x.dtype, np.number) else ""
