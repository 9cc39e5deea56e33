"""What a data set is called in cases and folders. Free of torch and numpy."""

from __future__ import annotations

import re
from pathlib import Path


def name_of(path: Path) -> str:
    """Returns a user's file or folder of data as a part of a case's name: lower-case letters,
    digits and underscores.
    """
    return re.sub(r"[^a-z0-9]+", "_", path.resolve().stem.lower()).strip("_") or "own"


def short_name(dataset: str) -> str:
    """Returns the data set's name in cases: the file's or folder's own for `npz:PATH` and
    `folder:PATH`.
    """
    if dataset.startswith(("npz:", "folder:")):
        return name_of(Path(dataset.partition(":")[2]).expanduser())
    return dataset
