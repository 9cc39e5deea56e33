"""DL2's oracle over a batch (on CUDA a recorded graph) beside one image at a time, at equal results."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from airepair.constraints.counterexamples import Hunt, Search, Searches, counterexamples
from airepair.constraints.counterexamples_graph import RecordedHunt
from airepair.constraints.parser import parse
from airepair.training.cuda_graph import WARM_UP

from .subjects import DIGITS_CNN, DIGITS_FC, MNIST_CNN, MNIST_FC, Net
from .timing import Measure, compared

TEXT = (
    "RobustnessG(eps=0.3, delta=0.0001)"  # holds for untrained weights, so that there is something to search
)
STEPS = 7


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """One line per network."""
    nets = (
        ((MNIST_FC, 128), (MNIST_CNN, 128))
        if device.type == "cuda"
        else ((DIGITS_FC, 128), (DIGITS_CNN, 128), (MNIST_FC, 128))
    )
    for net, n in nets:
        yield measure(net, max(4, int(n * share)), device, repeats)


def measure(net: Net, n: int, device: torch.device, repeats: int) -> Measure:
    """Worst points within .3 of n images; the largest difference between both ways' points is a
    fact of the record.
    """
    module, data = net.module(device).eval(), net.images(n, device)
    (constraint,) = parse(TEXT)
    x, y = data.images(), data.y

    def found(hunt: Searches, size: int) -> Tensor:
        generator = torch.Generator().manual_seed(
            3
        )  # drawn image after image: both ways start from the same points
        parts = [
            counterexamples(hunt, module, {"x": x[i : i + size]}, {"y": y[i : i + size]}, generator)["z"]
            for i in range(0, n, size)
        ]
        return torch.cat(parts)

    alone, batch = Hunt(constraint, Search(STEPS, 0.01)), RecordedHunt(Hunt(constraint, Search(STEPS, 0.01)))
    for _ in range(WARM_UP + 1 if device.type == "cuda" else 0):
        found(batch, n)
    ratios, seconds = compared(lambda: found(alone, 1), lambda: found(batch, n), repeats, device)
    together, starts = found(batch, n), found(Hunt(constraint, Search(0, 0.01)), n)
    facts = {
        "largest_difference": float((found(alone, 1) - together).abs().amax()),
        "moved": float((together != starts).float().mean()),
    }
    name = f"{net.name}, {n} images, {STEPS} steps"
    return Measure(
        "oracle",
        name,
        "one image at a time",
        "the batch",
        tuple(ratios),
        tuple(seconds),
        n,
        wanted=3.0,
        facts=facts,
    )
