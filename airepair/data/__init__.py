"""The data sets, one file each. A new one is its file and its line here; other packages use the entry
point `airepair.datasets`.

A registered thing is a function without arguments that returns a `Source`. This page loads without torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airepair import paths
from airepair.data.catalogue import OFFICIAL
from airepair.registry import Registry

if TYPE_CHECKING:
    from airepair.data.source import Source
    from airepair.types import Dataset

DATASETS = Registry(
    "data set",
    "airepair.datasets",
    {
        "digits": "airepair.data.digits:source",
        "mnist": "airepair.data.mnist:mnist",
        "fashion_mnist": "airepair.data.mnist:fashion_mnist",
        "cifar10": "airepair.data.cifar:cifar10",
        "cifar100": "airepair.data.cifar:cifar100",
    },
)

# The paper's spellings, and other usual ones, without hyphens and in lower case.
SPELLINGS = {
    "fmnist": "fashion_mnist",
    "fashionmnist": "fashion_mnist",
    "cifar_10": "cifar10",
    "cifar_100": "cifar100",
}


def registered_name(text: str) -> str:
    """Returns the registered name of a spelling: fmnist, Fashion-MNIST, CIFAR-10; what stands
    behind a plus, and a user's own data, stay.
    """
    if text.startswith(("npz:", "folder:")):
        return text
    plain, plus, environment = text.partition("+")
    name = plain.lower().replace("-", "_")
    return SPELLINGS.get(name, name) + plus + environment


def short_name(dataset: str) -> str:
    """Returns the data set's name in cases and folders: of `npz:PATH` and `folder:PATH` the file's
    or folder's own, in lower-case letters, digits and underscores; never that of a registered one.
    """
    kind, _, place = dataset.partition(":")
    if kind not in ("npz", "folder"):
        return dataset
    stem = Path(place).expanduser().resolve().stem.lower()
    name = re.sub(r"[^a-z0-9]+", "_", stem).strip("_") or "own"
    return f"{name}_file" if name in DATASETS.names() else name


def load(name: str, *, seed: int = 0, trained_on: str = "split") -> Dataset:
    """The data set divided into its four splits by `seed`, for a subject that has seen `trained_on`
    (partition.py says what may stand there).

    `name` is registered, or `npz:PATH` or `folder:PATH`. UsageError for an unknown name,
    Unavailable if its files are not found.
    """
    from airepair.data.partition import divide_for

    return divide_for(whole(name), trained_on, seed)


def whole(name: str) -> Source:
    """Returns the data set as it lies on the disk, undivided."""
    if name.startswith(("npz:", "folder:")):
        from airepair.data import user_data

        return user_data.source(name, short_name(name))
    found: Source = DATASETS.get(name)()
    return found


def get(name: str, progress: Callable[[str, int, int], None] = lambda *_: None) -> str:
    """Fetches an official data set unless its files are there, and returns where they lie.
    progress(file, bytes so far, bytes in all).
    """
    from airepair.data import official_files

    return (
        official_files.get(name, paths.data(), progress).where
        if name in OFFICIAL
        else f"nothing to fetch for {DATASETS.check(name)}"
    )


def absent(name: str) -> str:
    """Returns the sentence that names the files and the folder to add if an official set is not
    found, else "".

    Nothing is read.
    """
    from airepair.data import official_files

    return (
        official_files.absent(OFFICIAL[name], paths.data())
        if name in OFFICIAL and official_files.place(name, paths.data()) is None
        else ""
    )
