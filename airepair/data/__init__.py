"""The data sets, one file each. A new one is its file and its line here; other packages use the entry point `airepair.datasets`.

A registered thing is a function without arguments that returns a `Source`. This page loads without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airepair.registry import Registry

if TYPE_CHECKING:
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


def load(name: str) -> Dataset:
    """The data set divided into its four splits. UsageError for an unknown name, Unavailable where its files are not at hand."""
    from airepair.data.splits import divide

    return divide(DATASETS.get(name)())
