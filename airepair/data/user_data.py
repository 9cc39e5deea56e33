"""A user's own data as a Source: `npz:PATH` (arrays.py) and `folder:PATH` (class folders of images,
folders.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from airepair.data.arrays import read_npz
from airepair.data.folders import read_folder
from airepair.data.images import robustness_of, splits_of
from airepair.data.source import Source
from airepair.errors import UsageError

KINDS = ("npz", "folder")


def source(text: str, name: str) -> Source:
    """Returns the data set of `npz:PATH` or `folder:PATH` under that name; one group a class, since
    nothing says which classes are alike.
    """
    kind, _, place = text.partition(":")
    path = Path(place).expanduser()
    if kind not in KINDS or not place:
        raise UsageError(f"{text!r} is not a user data set; accepted: npz:PATH or folder:PATH")
    if not path.exists():
        raise UsageError(
            f"{path} does not exist; accepted: "
            f"{'an npz file' if kind == 'npz' else 'a folder of class folders of images'}"
        )
    arrays = read_npz(path) if kind == "npz" else read_folder(path)
    train, test = splits_of(arrays)
    count = max(int(arrays.y_train.max()), int(arrays.y_test.max()) if arrays.y_test is not None else 0) + 1
    classes = arrays.classes or tuple(str(k) for k in range(count))
    thin = [classes[k] for k, n in enumerate(np.bincount(arrays.y_train, minlength=len(classes))) if n < 4]
    if thin or len(classes) < 2:
        which = f"class {thin[0]!r} has fewer than 4 training images" if thin else "there is one class only"
        raise UsageError(f"{path}: {which}; four splits need at least two classes and 4 images each")
    groups = tuple((k,) for k in range(len(classes)))
    return Source(name, classes, groups, train, test, robustness_of(train), notes=arrays.notes)
