"""Images that a user hands in beside the data set: inputs to repair with their wanted labels, or
inputs whose answers must not change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from airepair.data.arrays import Array, Arrays, check, class_names, listed, read_arrays
from airepair.data.folders import read_folder
from airepair.data.images import split_of
from airepair.data.user_data import KINDS
from airepair.errors import UsageError
from airepair.types import Split

NAMES = {"x": "x", "y": "y", "x_train": "x", "y_train": "y"}  # of arrays in an npz file, and what they are


def read_inputs(
    text: str, classes: tuple[str, ...], shape: tuple[int, int, int], *, labelled: bool = True
) -> Split:
    """Returns the images of `npz:PATH` (x, y or x_train, y_train) or `folder:PATH` (class folders)
    with labels in the order of `classes`.

    With `labelled=False` labels may be absent, and are then 0. UsageError for images of another
    shape and labels outside the classes.
    """
    kind, _, place = text.partition(":")
    path = Path(place).expanduser()
    if kind not in KINDS or not place:
        raise UsageError(
            f"{text!r} names no images; accepted: npz:PATH (arrays x and y) or folder:PATH (class "
            f"folders of images)"
        )
    if not path.exists():
        raise UsageError(
            f"{path} does not exist; accepted: "
            f"{'an npz file' if kind == 'npz' else 'a folder of class folders of images'}"
        )
    x, y, names = _npz(path, labelled) if kind == "npz" else _folder(path)
    x = _channels_last(x, shape)
    if not labelled:
        y, names = np.zeros(len(x), np.int64), ()
    check(Arrays(x, y, None, None, str(path), names or classes), ("", ""))
    split = split_of(x, _in_order(y, names, classes, path))
    found = (int(split.x.shape[1]), int(split.x.shape[2]), int(split.x.shape[3]))
    if found != shape:
        raise UsageError(
            f"{path}: its images are {_size(found)}, the data set's {_size(shape)} (channels x height x "
            f"width); accepted: the same"
        )
    return split


def _channels_last(x: Array, shape: tuple[int, int, int]) -> Array:
    """N x C x H x W, which torch and `airepair solve` take, and flat vectors of grey images as N x
    H x W x C; anything else as it is.
    """
    if x.shape[1:] == shape and shape != (*shape[1:], shape[0]):
        return x.transpose(0, 2, 3, 1)
    flat = shape[0] == 1 and x.ndim == 2 and x.shape[1] == shape[1] * shape[2]
    return x.reshape(-1, *shape[1:], 1) if flat else x


def _size(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))


def _npz(path: Path, labelled: bool) -> tuple[Array, Array, tuple[str, ...]]:
    found, held = read_arrays(path, (*NAMES, "classes"))
    arrays = {NAMES[k]: v for k, v in found.items() if k in NAMES}
    if "x" not in arrays or (labelled and "y" not in arrays):
        needed = "x (uint8 images, N x H x W, N x H x W x C or N x C x H x W)" + (
            " and y (their wanted labels)" if labelled else ""
        )
        raise UsageError(f"{path} holds {listed(held)}; accepted: {needed}")
    y = arrays.get("y", np.zeros(len(arrays["x"]), np.int64))
    return arrays["x"], y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y, class_names(found)


def _folder(path: Path) -> tuple[Array, Array, tuple[str, ...]]:
    found = read_folder(path)
    if found.x_test is not None:
        raise UsageError(
            f"{path} is divided into a training and a test part; accepted: class folders of images, "
            f"PATH/<class>/<image>"
        )
    return found.x_train, found.y_train, found.classes


def _in_order(y: Array, names: tuple[str, ...], classes: tuple[str, ...], path: Path) -> Array:
    """Labels by the file's own names as labels by `classes`."""
    strange = [n for n in names if n not in classes]
    if strange:
        listed = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
        raise UsageError(f"{path}: {strange[0]!r} is not a class of the data set; accepted: {listed}")
    return np.array([classes.index(n) for n in names], np.int64)[y] if names else y
