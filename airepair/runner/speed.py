"""Measures how many images per second networks train at here, on one thread: `python -m airepair.runner.speed
cifar100 resnet18w16 resnet18`.

Prints a JSON list, a number for each network. Random images: only their shape matters. `-` is the
model file whose ModelSource comes pickled on the standard input.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Sequence

import torch
from torch import nn

from airepair.host.arithmetic.precision import mark
from airepair.models import build
from airepair.subjects.recipes import training_of
from airepair.subjects.user_model.load import bring
from airepair.training.best_state import CrossEntropy, optimizer_of
from airepair.training.step import Stepper, augmentation
from airepair.types import Recipe, Split

SHAPES = {"cifar10": (10, (3, 32, 32)), "cifar100": (100, (3, 32, 32))}
IMAGES = 64  # a step's
SECONDS = 1.0


def network(dataset: str, model: str, classes: int, shape: tuple[int, int, int]) -> tuple[nn.Module, Recipe]:
    """Returns a network of the registry, or the brought one, and the recipe that it is trained by."""
    if model == "-":
        source = pickle.load(sys.stdin.buffer)
        subject, _ = bring(source, dataset, profile="none", device=torch.device("cpu"))
        return subject.module, subject.recipe
    module = mark(build(model, dataset, classes, shape), dataset, torch.device("cpu"))
    return module, training_of(dataset, model).recipe


def images_per_second(dataset: str, model: str) -> float:
    """Of training steps with the recipe's optimiser, after one that warms up."""
    classes, shape = SHAPES.get(dataset, (10, (1, 28, 28)))
    module, recipe = network(dataset, model, classes, shape)
    generator = torch.Generator().manual_seed(0)
    data = Split(
        torch.randint(0, 256, (IMAGES, *shape), generator=generator, dtype=torch.uint8),
        torch.arange(IMAGES) % classes,
    )
    index = torch.arange(IMAGES)
    step = Stepper(
        module, optimizer_of(module, recipe), CrossEntropy(0.0), augmentation("none"), generator, plain=True
    )
    with step:
        step(data, index, 0.0)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            step(data, index, 0.0)
            done += IMAGES
        return done / (time.perf_counter() - start)


def main(words: Sequence[str]) -> None:
    """Measures the networks that are named after the data set."""
    torch.set_num_threads(1)
    print(json.dumps([images_per_second(words[0], model) for model in words[1:]]))


if __name__ == "__main__":
    main(sys.argv[1:])
