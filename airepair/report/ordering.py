"""In which order data sets, models and methods stand, and how they are titled: the paper's order
first, then the alphabet.
"""

from __future__ import annotations

import re

from airepair.case import split_variant, with_variant

DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
}
MODELS = {"resnet18": "ResNet18", "resnet34": "ResNet34", "resnet50": "ResNet50", "cnn": "CNN", "fc": "FC"}
CONTROLS = {"noop": "noop", "finetune": "finetune", "random": "random", "retrain": "retrain"}
PAPER_METHODS = {"apricot": "Apricot", "deeprepair": "DeepRepair", "dl2": "DL2"}
CATEGORIES = ("control", "retraining", "direct weight modification", "architecture extension")

Column = tuple[str, str]  # data set, model


def _parted(model: str) -> tuple[str, str]:
    """The architecture, and what stands behind it: a fault, or what sets the column apart."""
    plain = re.split(r"[+\[]", model, maxsplit=1)[0]
    return plain, model[len(plain) :]


def _rank(name: str, known: dict[str, str]) -> tuple[int, str]:
    return (list(known).index(name) if name in known else len(known), name)


def column_rank(column: Column) -> tuple[object, ...]:
    """Sorts columns: the paper's data sets, then others; within one, the paper's models, then others."""
    dataset, model = column
    plain, rest = _parted(model)
    return (*_rank(dataset, DATASETS), *_rank(plain, MODELS), rest)


def method_rank(method: str) -> tuple[object, ...]:
    """Sorts rows: controls, the paper's methods, others; the bare method before its variants."""
    plain, rest = split_variant(method)
    return (*_rank(plain, CONTROLS | PAPER_METHODS), rest)


def category_rank(category: str) -> tuple[int, str]:
    """Sorts the categories of the paper, controls first."""
    return (CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES), category)


def dataset_title(name: str) -> str:
    """Returns the data set as a heading names it."""
    return DATASETS.get(name, name)


def model_title(name: str) -> str:
    """Returns the model as a heading names it; what follows a plus (a fault) or a bracket (what
    differs) stays.
    """
    plain, rest = _parted(name)
    return MODELS.get(plain, plain) + rest


def method_title(name: str) -> str:
    """Returns the method as a row names it; its variant stays."""
    plain, rest = split_variant(name)
    return with_variant(PAPER_METHODS.get(plain, plain), rest)
