"""Whether training in bf16 and channels_last on the CPU (airepair/host/arithmetic/precision.py) ends at the
accuracies of contiguous float32, over seeds.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from airepair.data import load
from airepair.errors import AirepairError
from airepair.evaluation.exam import sit
from airepair.host.arithmetic.precision import bf16_pays, mark
from airepair.models import build
from airepair.settings import profile
from airepair.subjects.grid import reduce
from airepair.subjects.recipes import training_of
from airepair.training.best_state import fit
from airepair.types import Dataset

from .timing import Measure

SEEDS = 5
DATASET, MODEL = "cifar10", "resnet18w16"


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """One line, if the data set is there; each seed is a pair."""
    if device.type == "cuda":
        return
    try:
        yield agreement(load(DATASET), device, share)
    except AirepairError as error:
        print(f"agreement: none was measured: {error}")


def agreement(whole: Dataset, device: torch.device, share: float) -> Measure:
    """The narrow ResNet-18 trained from five seeds either way on profile cpu's images; accuracies
    on validation, in float32.
    """
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
    name = (
        f"{MODEL} on {len(data.train):,} images of {DATASET}, {recipe.epochs} epochs, {SEEDS} seeds, "
        f"validation accuracy"
    )
    facts = compared_means(accuracies[False], accuracies[True])
    return Measure(
        "agreement",
        name,
        "float32, contiguous",
        fast,
        ratios,
        tuple(seconds[True]),
        len(data.train) * recipe.epochs,
        facts=facts,
    )


def compared_means(one: list[float], other: list[float]) -> dict[str, object]:
    """Accuracies of both, the difference of their means, their spread, and whether the difference
    is within twice its standard error.
    """
    spread = math.sqrt((statistics.variance(one) + statistics.variance(other)) / 2)
    difference = statistics.mean(other) - statistics.mean(one)
    return {
        "accuracies": {"float32, contiguous": one, "marked": other},
        "difference_of_means": difference,
        "spread": spread,
        "agrees": abs(difference) <= 2 * spread * math.sqrt(2 / len(one)),
    }
