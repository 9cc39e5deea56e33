"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32 pixels.

Groups (protocol): CIFAR-10 vehicles and animals; CIFAR-100 its 20 superclasses, which are a
constant here because torchvision's loader and most npz files drop them. Robustness: CIFAR-10 DL2's
run.sh; CIFAR-100 has no published constants.
"""

from __future__ import annotations

from airepair import paths
from airepair.data.images import splits_of
from airepair.data.official_files import note, read
from airepair.data.source import Source
from airepair.types import Robustness

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: off
CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman",
    "worm",
)
SUPERCLASSES: dict[str, tuple[int, ...]] = {
    "aquatic mammals": (4, 30, 55, 72, 95),
    "fish": (1, 32, 67, 73, 91),
    "flowers": (54, 62, 70, 82, 92),
    "food containers": (9, 10, 16, 28, 61),
    "fruit and vegetables": (0, 51, 53, 57, 83),
    "household electrical devices": (22, 39, 40, 86, 87),
    "household furniture": (5, 20, 25, 84, 94),
    "insects": (6, 7, 14, 18, 24),
    "large carnivores": (3, 42, 43, 88, 97),
    "large man-made outdoor things": (12, 17, 37, 68, 76),
    "large natural outdoor scenes": (23, 33, 49, 60, 71),
    "large omnivores and herbivores": (15, 19, 21, 31, 38),
    "medium-sized mammals": (34, 63, 64, 66, 75),
    "non-insect invertebrates": (26, 45, 77, 79, 99),
    "people": (2, 11, 35, 46, 98),
    "reptiles": (27, 29, 44, 78, 93),
    "small mammals": (36, 50, 65, 74, 80),
    "trees": (47, 52, 56, 59, 96),
    "vehicles 1": (8, 13, 48, 58, 90),
    "vehicles 2": (41, 69, 81, 85, 89),
}
# fmt: on


def cifar10() -> Source:
    """CIFAR-10 has 50,000 + 10,000 images of 3 x 32 x 32.

    Unavailable if its files are not found.
    """
    return _source(
        "cifar10",
        CIFAR10,
        ((0, 1, 8, 9), (2, 3, 4, 5, 6, 7)),
        Robustness(13.8, 0.9, 0.04, "DL2, run.sh, CIFAR-10"),
    )


def cifar100() -> Source:
    """CIFAR-100 has 50,000 + 10,000 images of 3 x 32 x 32, in 20 superclasses.

    Unavailable if its files are not found.
    """
    return _source(
        "cifar100",
        CIFAR100,
        tuple(SUPERCLASSES.values()),
        Robustness(13.0, 0.1, 1.0, "4 % quantile of the distances on train"),
    )


def _source(
    name: str, classes: tuple[str, ...], groups: tuple[tuple[int, ...], ...], robustness: Robustness
) -> Source:
    arrays = read(name, paths.data())
    train, test = splits_of(arrays)
    said = note(name, arrays)
    return Source(name, classes, groups, train, test, robustness, notes=(said,) if said else ())
