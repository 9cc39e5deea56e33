"""All metrics from one forward pass, beside a pass for each metric, and the pass beside the bare network."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from airepair.evaluation.exam import evaluating, sit
from airepair.evaluation.exams import Exams, draw_pairs
from airepair.metrics import entries, score
from airepair.types import Robustness

from .subjects import DIGITS_CNN, MNIST_CNN, MNIST_FC, RESNETS, Net
from .timing import Measure, compared


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """Two lines per network."""
    nets = (
        ((MNIST_CNN, 10_000), (RESNETS[0], 10_000))
        if device.type == "cuda"
        else ((DIGITS_CNN, 497), (MNIST_FC, 5000), (MNIST_CNN, 200))
    )
    for net, n in nets:
        yield from measure(net, max(100, int(n * share)), device, repeats)


def measure(net: Net, n: int, device: torch.device, repeats: int) -> Iterator[Measure]:
    """The test split of n images; failing and validation are the same here, examined once."""
    module, data = net.module(device).eval(), net.images(n, device)
    pairs = draw_pairs(data, Robustness(1.0, 0.1, 1.0, "any"))
    before = sit(module, data)

    def exams(test: object) -> Exams:
        return Exams(test, before, before, ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), (0, 1), pairs)  # type: ignore[arg-type]

    start = exams(before)

    def bare() -> Tensor:
        with torch.no_grad(), evaluating(module):
            return torch.cat([module(x) for x, _ in data.batches(1024)])

    def once() -> None:
        score(start, exams(sit(module, data)))

    def each() -> None:
        for _ in range(len(entries()) - 1):
            sit(module, data)
        once()

    ratios, seconds = compared(bare, lambda: sit(module, data), repeats, device)
    yield Measure(
        "evaluation",
        f"{net.name}, {n:,} images",
        "bare passes",
        "an exam",
        tuple(ratios),
        tuple(seconds),
        n,
        wanted=0.9,
    )
    ratios, seconds = compared(each, once, max(1, repeats // 2), device)
    name = f"{net.name}, {n:,} images, {len(entries())} metrics"
    yield Measure(
        "evaluation", name, "a pass for each metric", "all from one pass", tuple(ratios), tuple(seconds), n
    )
