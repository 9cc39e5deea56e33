"""A toy subject, trained in a fraction of a second: small enough for a unit test, imperfect enough to repair.

Four classes of 1 x 8 x 8 images: a bright bar in one of four places, under noise. A share of the
training labels of classes 2 and 3 is swapped, so that the subject confuses them on clean data and
more of the same training does not help.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from airepair.case import Case
from airepair.methods.noop import Noop
from airepair.runner.cell import CellSpec
from airepair.runner.events import Events
from airepair.runner.loading import Loaded
from airepair.runner.prepared import prepared
from airepair.runner.repair import whole_task
from airepair.training.best_state import fit
from airepair.types import Dataset, Limit, Meter, Recipe, Robustness, Split, Subject, Task, without_meter

CLASSES = ("north", "south", "east", "west")
RECIPE = Recipe(lr=0.1, batch_size=32, epochs=25)
Architecture = Literal["mlp", "cnn", "plain"]


def images(n: int, seed: int) -> Split:
    """Returns `n` clean labelled images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % len(CLASSES)
    x = 0.35 * torch.rand(n, 1, 8, 8, generator=generator)
    for k, (rows, columns) in enumerate(
        [((1, 3), (1, 7)), ((5, 7), (1, 7)), ((1, 7), (5, 7)), ((1, 7), (3, 5))]
    ):
        x[y == k, :, rows[0] : rows[1], columns[0] : columns[1]] += 0.22
    return Split(x.clamp(0, 1), y)


def swap_labels(y: Tensor, share: float, seed: int) -> Tensor:
    """Returns the labels with a share of classes 2 and 3 exchanged."""
    flip = (torch.rand(len(y), generator=torch.Generator().manual_seed(seed)) < share) & (y >= 2)
    return torch.where(flip, 5 - y, y)


def architecture(kind: Architecture) -> nn.Module:
    """Returns an untrained network: "mlp" and "cnn" have batch norm, "plain" is fully connected
    ReLU without it.
    """
    if kind == "plain":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)
        )
    if kind == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4))
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


def dataset() -> Dataset:
    """Returns the toy data set: 160 train (labels partly swapped), 120 repair, 80 validation, 120
    test images.
    """
    train = images(160, 1)
    return Dataset(
        name="toy",
        classes=CLASSES,
        groups=((0, 1), (2, 3)),
        train=Split(train.x, swap_labels(train.y, 0.45, 5)),
        repair=images(120, 2),
        validation=images(80, 3),
        test=images(120, 4),
        robustness=Robustness(1.6, 0.1, 1.0, "toy"),
        digests={"toy": "made here"},
    )


def subject(kind: Architecture = "mlp", seed: int = 0) -> Subject:
    """Returns the toy network trained on the toy data, with its early checkpoint."""
    data = dataset()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = architecture(kind)
    generator = torch.Generator().manual_seed(seed)
    fit(module, data.train, None, Recipe(lr=RECIPE.lr, batch_size=32, epochs=1), generator)
    early = copy.deepcopy(module)
    fit(module, data.train, None, RECIPE, generator)
    return Subject(
        f"toy-{kind}",
        module.eval(),
        data,
        RECIPE,
        "split",
        {"kind": "toy", "seed": seed},
        {"early": early.eval()},
    )


def task(kind: Architecture = "mlp", seed: int = 0) -> Task:
    """What a method sees of the toy subject: the harness's own task, without its meter."""
    case = Case("toy", kind, "noop", seed)
    ready = prepared(CellSpec(case=case, profile="none"), Loaded(subject(kind)), Noop())
    found = whole_task(ready, Events(Limit(), lambda *_: None))
    for module in (found.module, *found.checkpoints.values()):
        without_meter(module)
    return replace(found, meter=Meter())
