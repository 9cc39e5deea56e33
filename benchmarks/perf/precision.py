"""bf16 autocast and channels_last on the CPU (airepair/host/arithmetic/precision.py) beside contiguous
float32: speed. Accuracies: agreement.py.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator

import torch
from torch import nn

from airepair.constraints.counterexamples import Hunt, Search, counterexamples
from airepair.constraints.parser import parse
from airepair.evaluation.exam import sit
from airepair.host.arithmetic.precision import lowered, mark, precision_of
from airepair.training.best_state import fit

from .subjects import MNIST_CNN, SMALL_RESNET, Net
from .timing import Measure, compared

FULL_RESNET = Net("resnet18", (3, 32, 32), 64, "crop+flip")
SIZES = ((MNIST_CNN, 256), (SMALL_RESNET, 256), (FULL_RESNET, 64))
CONSTRAINT = "RobustnessG(eps=0.3, delta=0.0001)"
DATASET = "cifar10"  # any of those whose networks are marked


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """Training, an exam and DL2's search for each network."""
    if device.type == "cuda":
        return
    for net, n in SIZES:
        size = max(net.batch, int(n * share))
        yield from speeds(net, size, device, repeats)


def speeds(net: Net, n: int, device: torch.device, repeats: int) -> Iterator[Measure]:
    """One pass of training, one exam as a record has it, one as a repair selects by, one search of
    5 steps.
    """
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
        yield Measure(
            "precision", label, "float32, contiguous", fast, tuple(ratios), tuple(seconds), n, facts=rate
        )
