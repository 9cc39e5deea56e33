"""DL2's oracle over a batch beside one image at a time, at equal results."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from airepair.logic.parser import parse
from airepair.oracle import Search, counterexamples

from .subjects import DIGITS_CNN, DIGITS_FC, MNIST_CNN, MNIST_FC, Net
from .timing import Measure, compared

TEXT = "RobustnessG(eps=0.3, delta=0.0001)"  # holds for untrained weights, so that there is something to search
STEPS = 7


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """One line a network."""
    nets = ((MNIST_FC, 128), (MNIST_CNN, 128)) if device.type == "cuda" else ((DIGITS_FC, 128), (DIGITS_CNN, 128), (MNIST_FC, 128))
    for net, n in nets:
        yield measure(net, max(4, int(n * share)), device, repeats)


def measure(net: Net, n: int, device: torch.device, repeats: int) -> Measure:
    """Worst points within .3 of n images; the largest difference between both ways' points is a fact of the record."""
    module, data = net.module(device).eval(), net.images(n, device)
    (constraint,) = parse(TEXT)
    x, y = data.images(), data.y

    def found(size: int, steps: int = STEPS) -> Tensor:
        search = Search(steps, 0.01)
        generator = torch.Generator().manual_seed(3)  # drawn image after image: both ways start from the same points
        parts = [
            counterexamples(module, constraint, {"x": x[i : i + size]}, {"y": y[i : i + size]}, None, search, generator)["z"]
            for i in range(0, n, size)
        ]
        return torch.cat(parts)

    ratios, seconds = compared(lambda: found(1), lambda: found(n), repeats, device)
    together, starts = found(n), found(n, steps=0)
    facts = {"largest_difference": float((found(1) - together).abs().amax()), "moved": float((together != starts).float().mean())}
    name = f"{net.name}, {n} images, {STEPS} steps"
    return Measure("oracle", name, "one image at a time", "the batch", tuple(ratios), tuple(seconds), n, wanted=3.0, facts=facts)
