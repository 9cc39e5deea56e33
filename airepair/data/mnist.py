"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey images of 28 x
28 pixels, ten classes.

Groups (protocol): MNIST even and odd; Fashion-MNIST upper wear, trousers, shoes, bag. Robustness
constants: DL2's run.sh.
"""

from __future__ import annotations

from airepair import paths
from airepair.data.images import splits_of
from airepair.data.official_files import note, read
from airepair.data.source import Source
from airepair.types import Robustness

DIGITS = tuple("0123456789")
FASHION = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
ROBUSTNESS = Robustness(7.8, 2.9, 0.2, "DL2, run.sh, MNIST and Fashion-MNIST")


def mnist() -> Source:
    """MNIST has 60,000 + 10,000 images of 1 x 28 x 28.

    Unavailable if its files are not found.
    """
    return _source("mnist", DIGITS, ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9)))


def fashion_mnist() -> Source:
    """Fashion-MNIST has 60,000 + 10,000 images of 1 x 28 x 28.

    Unavailable if its files are not found.
    """
    return _source("fashion_mnist", FASHION, ((0, 2, 3, 4, 6), (1,), (5, 7, 9), (8,)))


def _source(name: str, classes: tuple[str, ...], groups: tuple[tuple[int, ...], ...]) -> Source:
    arrays = read(name, paths.data())
    train, test = splits_of(arrays)
    said = note(name, arrays)
    return Source(name, classes, groups, train, test, ROBUSTNESS, notes=(said,) if said else ())
