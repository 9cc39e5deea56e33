"""bf16 autocast and channels_last on the CPU (airepair/precision.py) beside contiguous float32: speed, and accuracy over seeds."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from airepair.data import load
from airepair.errors import AirepairError
from airepair.exam import sit
from airepair.logic.parser import parse
from airepair.models import build
from airepair.models.recipes import training_of
from airepair.oracle import Hunt, Search, counterexamples
from airepair.precision import bf16_pays, lowered, mark, precision_of
from airepair.settings import profile
from airepair.subjects.trained import reduce
from airepair.training import fit
from airepair.types import Dataset

from .subjects import MNIST_CNN, SMALL_RESNET, Net
from .timing import Measure, compared

FULL_RESNET = Net("resnet18", (3, 32, 32), 64, "crop+flip")
SIZES = ((MNIST_CNN, 256), (SMALL_RESNET, 256), (FULL_RESNET, 64))
CONSTRAINT = "RobustnessG(eps=0.3, delta=0.0001)"
SEEDS = 5
DATASET, MODEL = "cifar10", "resnet18w16"


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """Training, an exam and DL2's search for each network; then the agreement on CIFAR-10, if its files are there."""
    if device.type == "cuda":
        return
    for net, n in SIZES:
        size = max(net.batch, int(n * share))
        yield from speeds(net, size, device, repeats)
    try:
        yield agreement(load(DATASET), device, share)
    except AirepairError as error:
        print(f"precision: no agreement was measured: {error}")


def speeds(net: Net, n: int, device: torch.device, repeats: int) -> Iterator[Measure]:
    """One pass of training, one exam as a record has it, one as a repair selects by, one search of 5 steps."""
    plain, data = net.module(device), net.images(n, device)
    marked = mark(copy.deepcopy(plain), DATASET, device)
    fast, x, y = f"{precision_of(marked)}, channels_last", data.images(), data.y
    (constraint,) = parse(CONSTRAINT)

    def train(module: nn.Module) -> None:
        fit(module, data, None, net.recipe(), torch.Generator().manual_seed(0))

    def search(module: nn.Module) -> None:
        with lowered(module):
            hunt = Hunt(constraint, Search(5, 0.01))
            counterexamples(hunt, module, {"x": x}, {"y": y}, torch.Generator().manual_seed(0))

    works = {
        "training": train,
        "an exam in float32": lambda module: sit(module, data),
        "an exam to select by": lambda module: sit(module, data, quick=True),
        "5 steps of the oracle": search,
    }
    for name, work in works.items():
        ratios, seconds = compared(lambda w=work: w(plain), lambda w=work: w(marked), repeats, device)  # type: ignore[misc]
        rate = {"images_per_second": round(n / statistics.median(seconds))}
        label = f"{net.name}, {n} images, {name}"
        yield Measure("precision", label, "float32, contiguous", fast, tuple(ratios), tuple(seconds), n, facts=rate)


def agreement(whole: Dataset, device: torch.device, share: float) -> Measure:
    """The narrow ResNet-18 trained from five seeds either way on profile cpu's images; accuracies on validation, in float32."""
    chosen = profile("cpu")
    data = reduce(whole, {k: max(64, int(v * share)) for k, v in chosen.images[DATASET].items()})
    recipe = replace(training_of(DATASET, MODEL).recipe, **chosen.recipe[DATASET])
    accuracies: dict[bool, list[float]] = {False: [], True: []}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(SEEDS):
        for marked in (False, True):
            torch.manual_seed(seed)
            module = build(MODEL, DATASET, len(data.classes), data.shape)
            module = mark(module, DATASET, device) if marked else module
            start = time.process_time()
            fit(module, data.train, None, recipe, torch.Generator().manual_seed(seed))
            seconds[marked].append(time.process_time() - start)
            accuracies[marked].append(sit(module, data.validation).accuracy)
    ratios = tuple(a / b for a, b in zip(seconds[False], seconds[True], strict=True))
    fast = f"{'bf16' if bf16_pays() else 'float32'}, channels_last"
    name = f"{MODEL} on {len(data.train):,} images of {DATASET}, {recipe.epochs} epochs, {SEEDS} seeds, validation accuracy"
    facts = compared_means(accuracies[False], accuracies[True])
    return Measure(
        "precision", name, "float32, contiguous", fast, ratios, tuple(seconds[True]), len(data.train) * recipe.epochs, facts=facts
    )


def compared_means(one: list[float], other: list[float]) -> dict[str, object]:
    """Accuracies of both, the difference of their means, their spread, and whether the difference is within twice its standard error."""
    spread = math.sqrt((statistics.variance(one) + statistics.variance(other)) / 2)
    difference = statistics.mean(other) - statistics.mean(one)
    return {
        "accuracies": {"float32, contiguous": one, "marked": other},
        "difference_of_means": difference,
        "spread": spread,
        "agrees": abs(difference) <= 2 * spread * math.sqrt(2 / len(one)),
    }
