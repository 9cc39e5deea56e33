"""Whether training in bf16 and channels_last on the CPU (airepair/host/arithmetic/precision.py) ends at the
accuracies of contiguous float32, over seeds. A processor without bf16 instructions emulates their results.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from airepair.data import load
from airepair.errors import AirepairError
from airepair.evaluation.exam import sit
from airepair.host.arithmetic.precision import MARK, bf16_pays
from airepair.models import build
from airepair.settings import profile
from airepair.subjects.grid import reduce
from airepair.subjects.recipes import training_of
from airepair.training.best_state import fit
from airepair.types import Dataset

from .timing import Measure

SEEDS = 5
DATASET, MODEL = "cifar10", "resnet18w16"
_ATEN = torch.ops.aten
PRODUCTS = (
    _ATEN.convolution.default,
    _ATEN.convolution_backward.default,
    _ATEN.addmm.default,
    _ATEN.mm.default,
)


class Emulated(TorchDispatchMode):
    """Within the block convolutions and matrix products of bf16 numbers are computed as a processor
    with bf16 instructions does: factors of bf16, sums in float32, results rounded to bf16.
    """

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs one operator."""
        named = kwargs or {}
        low = any(isinstance(a, torch.Tensor) and a.dtype is torch.bfloat16 for a in args)
        if function not in PRODUCTS or not low:
            return function(*args, **named)
        return tree_map_only(
            torch.Tensor,
            torch.Tensor.bfloat16,
            function(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **named),
        )


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """One line, if the data set is there; each seed is a pair."""
    if device.type == "cuda":
        return
    try:
        yield agreement(load(DATASET), share)
    except AirepairError as error:
        print(f"agreement: none was measured: {error}")


def agreement(whole: Dataset, share: float) -> Measure:
    """The narrow ResNet-18 trained from five seeds either way on profile cpu's images; accuracies
    on all validation images, in float32.
    """
    chosen = profile("cpu")
    images = {**chosen.images[DATASET], "validation": len(whole.validation)}
    data = reduce(whole, {k: max(64, int(v * share)) for k, v in images.items()})
    recipe = replace(training_of(DATASET, MODEL).recipe, **chosen.recipe[DATASET])
    accuracies: dict[bool, list[float]] = {False: [], True: []}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(SEEDS):
        for marked in (False, True):
            torch.manual_seed(seed)
            module = build(MODEL, DATASET, len(data.classes), data.shape)
            if marked:
                setattr(module, MARK, "bf16")
            start = time.process_time()
            with Emulated() if marked and not bf16_pays() else nullcontext():  # type: ignore[no-untyped-call]
                fit(module, data.train, None, recipe, torch.Generator().manual_seed(seed))
            seconds[marked].append(time.process_time() - start)
            accuracies[marked].append(sit(module, data.validation).accuracy)
    ratios = tuple(a / b for a, b in zip(seconds[False], seconds[True], strict=True))
    fast = f"{'bf16' if bf16_pays() else 'bf16 emulated in float32'}, channels_last"
    name = (
        f"{MODEL} on {len(data.train):,} images of {DATASET}, {recipe.epochs} epochs, {SEEDS} seeds, "
        f"accuracy on {len(data.validation):,} validation images"
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
