"""The images and labels of a data set as plain arrays, whatever file they came from, checked before
anything is made of them. Free of torch.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair.errors import UsageError, one_line, printable
from airepair.host.digest import of_parts

MAX_BYTES = 16 << 30  # of an unpacked npz: nothing that a benchmark of images holds in memory is larger
Array = NDArray[Any]
# Array of an npz file -> part and role here: the names of Keras, and of MedMNIST.
NAMES = {f"{role}_{part}": (part, role) for part in ("train", "val", "test") for role in "xy"} | {
    f"{part}_{name}": (part, role)
    for part in ("train", "val", "test")
    for name, role in (("images", "x"), ("labels", "y"))
}
ACCEPTED = (
    "x_train, y_train, x_test, y_test (uint8 images, N x H x W or N x H x W x C), "
    "or MedMNIST's train_images, train_labels, ..."
)
LISTED = 12  # arrays of a file, in an error


@dataclass(frozen=True, eq=False)
class Arrays:
    """It holds x: N x H x W or N x H x W x C (uint8, or float in [0, 1]); y: N integers; the test
    set may be absent. `where` is the file or folder.
    """

    x_train: Array
    y_train: Array
    x_test: Array | None
    y_test: Array | None
    where: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def contents(self) -> str:
        """Returns the SHA-256 over images and labels (as uint8), training set first."""
        parts = (self.x_train, self.y_train, self.x_test, self.y_test)
        return of_parts(
            np.ascontiguousarray(part if part.ndim > 1 else part.astype(np.uint8)).tobytes()
            for part in parts
            if part is not None
        )


def read_npz(path: Path) -> Arrays:
    """Reads `x_train y_train [x_test y_test] [classes]` of an npz file, or MedMNIST's `train_images
    train_labels ...`.

    UsageError, one line, for anything else; objects are never unpickled.
    """
    found, held = read_arrays(path, (*NAMES, "classes"))
    named = {NAMES[k]: v for k, v in found.items() if k in NAMES}
    parts = {
        part: (named[part, "x"], _labels(named[part, "y"]))
        for part, role in named
        if role == "x" and (part, "y") in named
    }
    if "train" not in parts or 2 * len(parts) != len(found.keys() - {"classes"}):
        raise UsageError(f"{path} holds {listed(held)}; accepted: {ACCEPTED}")
    return assembled(parts, str(path), class_names(found))


def class_names(found: Mapping[str, Array]) -> tuple[str, ...]:
    """Returns the names in the array `classes`, of text or of bytes; none if there is no such array."""
    names = found["classes"].reshape(-1).tolist() if "classes" in found else []
    return tuple(c.decode(errors="backslashreplace") if isinstance(c, bytes) else str(c) for c in names)


def assembled(
    parts: Mapping[str, tuple[Array, Array]],
    where: str,
    classes: tuple[str, ...],
    notes: tuple[str, ...] = (),
    val: str = "val",
) -> Arrays:
    """Returns the Arrays of "train" and maybe "val" and "test", checked; `val` is what the
    validation part is called in the file.

    If there is no test set, the validation images are the test set. If there is one, they are appended
    to the training images: whoever trained with this division chose by them. A note says which.
    """
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = (
        parts.get(k, (None, None)) for k in ("train", "val", "test")
    )
    assert x_train is not None
    assert y_train is not None
    if x_val is None or y_val is None:
        arrays = Arrays(x_train, y_train, x_test, y_test, where, classes, notes)
        check(arrays)
        return arrays
    validated = Arrays(x_train, y_train, x_val, y_val, where, classes, (*notes, f"{val} is the test set"))
    check(validated, ("_train", "_val"))
    if x_test is None:
        return validated
    if x_train.dtype != x_val.dtype:
        raise UsageError(
            f"{where}: training images are {x_train.dtype}, validation images {x_val.dtype}; accepted: "
            f"one type for both"
        )
    told = (
        f"{val} ({len(x_val):,} images) stands behind the {len(x_train):,} training images and counts "
        f"as training data"
    )
    x, y = np.concatenate([x_train, x_val]), np.concatenate([y_train, y_val])
    arrays = Arrays(x, y, x_test, y_test, where, classes, (*notes, told))
    check(arrays)
    return arrays


def listed(names: tuple[str, ...]) -> str:
    """Returns the arrays of a file, for an error."""
    return (
        ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
        or "no arrays"
    )


def read_arrays(path: Path, names: tuple[str, ...]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Returns those of the named arrays that the npz file has, and the names of all its arrays.

    UsageError, one line, for a file that is none, too large, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            raise UsageError(f"{path} unpacks to {size:,} bytes; accepted: up to {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in names if k in file.files}, tuple(printable(k) for k in file.files)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{path} is not a readable npz file of arrays: {one_line(error, 160)}") from None


def _labels(y: Any) -> Any:
    """Keras keeps CIFAR labels as N x 1."""
    return y[:, 0] if y is not None and y.ndim == 2 and y.shape[1] == 1 else y


def check(arrays: Arrays, ends: tuple[str, str] = ("_train", "_test")) -> None:
    """Raises UsageError if images or labels are of a kind that cannot be meant; `ends`: what the
    arrays' names have behind x and y.
    """
    twice = [c for k, c in enumerate(arrays.classes) if c in arrays.classes[:k]]
    if twice:
        raise UsageError(
            f"{arrays.where}: class {twice[0]!r} appears {arrays.classes.count(twice[0])} times; "
            f"accepted: one name per class"
        )
    for end, x, y in zip(ends, (arrays.x_train, arrays.x_test), (arrays.y_train, arrays.y_test), strict=True):
        if x is None or y is None:
            continue
        if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)) or not x.size:
            raise UsageError(
                f"{arrays.where}: x{end} has shape {x.shape}; accepted: N x H x W or N x H x W x C with "
                f"1 or 3 channels, N > 0"
            )
        if x.shape[1:] != arrays.x_train.shape[1:]:
            raise UsageError(
                f"{arrays.where}: test images are {x.shape[1:]}, training images {arrays.x_train.shape[1:]}"
            )
        if x.dtype != np.uint8 and not (
            np.issubdtype(x.dtype, np.floating) and float(x.min()) >= 0 and float(x.max()) <= 1
        ):
            raise UsageError(
                f"{arrays.where}: x{end} is {x.dtype}{_range(x)}; accepted: uint8, or floats in [0, 1]"
            )
        if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
            raise UsageError(
                f"{arrays.where}: y{end} is {y.dtype} of shape {y.shape}; accepted: {len(x)} integers"
            )
        if (
            int(y.min()) < 0
            or (arrays.classes and int(y.max()) >= len(arrays.classes))
            or int(y.max()) > 9_999
        ):
            raise UsageError(
                f"{arrays.where}: labels {int(y.min())}..{int(y.max())}; accepted: "
                f"0..{max(1, len(arrays.classes) or 10_000) - 1}"
            )


def _range(x: Array) -> str:
    return f" in {float(x.min()):.4g}..{float(x.max()):.4g}" if np.issubdtype(x.dtype, np.number) else ""
