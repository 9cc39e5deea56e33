"""Apricot: twenty submodels together beside one after another, and the weight arithmetic of 1,000
failing cases beside one evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from airepair.evaluation.exam import sit
from airepair.methods.apricot.adjustment import combinations
from airepair.methods.apricot.method import AHEAD
from airepair.methods.apricot.stack import Stack, concatenated, moved, put
from airepair.methods.apricot.stack import floating as names_of
from airepair.methods.apricot.streams import InStreams
from airepair.methods.apricot.submodels import Plan, at_once
from airepair.methods.apricot.vmapped import Together
from airepair.methods.apricot.windows import windows
from airepair.training.best_state import fit

from .subjects import DIGITS_CNN, DIGITS_FC, MNIST_CNN, MNIST_FC, Net
from .timing import Measure, compared

COUNT, CASES, BLOCK = 20, 1000, 20
# Images of train and epochs: a window is a quarter. The floor of 3 is for fully connected nets on
# the CPU; on CUDA for CNNs as well.
ON_CPU = ((DIGITS_FC, 600, 4, 3.0), (MNIST_FC, 1024, 1, 3.0), (DIGITS_CNN, 600, 1, None))
EVALUATED = ((DIGITS_FC, 300), (MNIST_FC, 5000), (MNIST_CNN, 500))


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """Training of the submodels, then the adjustment."""
    cuda = device.type == "cuda"
    for net, n, epochs, wanted in (
        ((MNIST_CNN, 20_000, 4, 3.0), (MNIST_FC, 20_000, 4, 3.0)) if cuda else ON_CPU
    ):
        size = max(4 * net.batch, int(n * share)) if share < 1 else n
        yield training(net, size, epochs, wanted if not cuda else None, device, repeats)
        if cuda:  # the recorded steps one after another are the harder yardstick: streams are to beat these
            yield training(net, size, epochs, wanted, device, repeats, InStreams)
    for net, n in EVALUATED:
        yield adjustment(net, max(50, int(n * share)), device, repeats)


def training(
    net: Net,
    n: int,
    epochs: int,
    wanted: float | None,
    device: torch.device,
    repeats: int,
    kind: type[InStreams] | type[Together] = Together,
) -> Measure:
    """The same windows, epochs and batches either way."""
    start, data, parts, recipe = (
        net.module(device),
        net.images(n, device),
        windows(n, COUNT, 0.25),
        net.recipe(epochs),
    )
    splits = [data.select(torch.arange(p.start, p.stop, device=device)) for p in parts]

    def one_by_one() -> None:
        for k, part in enumerate(splits):
            fit(net.module(device), part, None, recipe, torch.Generator().manual_seed(k))

    def together() -> None:
        at_once(
            kind, Plan(start, parts, recipe), data, [torch.Generator().manual_seed(k) for k in range(COUNT)]
        )

    ratios, seconds = compared(one_by_one, together, repeats, device)
    images = COUNT * len(splits[0]) * epochs
    name = f"{net.name}, {COUNT} submodels of {len(splits[0]):,} images, batch {net.batch}"
    return Measure(
        "submodels",
        name,
        "one after another",
        "together" if kind is Together else "on streams",
        tuple(ratios),
        tuple(seconds),
        images,
        wanted=wanted,
    )


def adjustment(net: Net, n: int, device: torch.device, repeats: int) -> Measure:
    """50 blocks of 20 cases, strategy 2, each one affine combination; beside the network's one pass
    over n validation images.
    """
    module, validation = net.module(device).eval(), net.images(n, device)
    names = names_of(module)
    one: Stack = {name: tensor[None] for name, tensor in module.state_dict().items() if name in names}
    stack = concatenated([{name: rows * (1 + 0.01 * k) for name, rows in one.items()} for k in range(COUNT)])
    right = torch.rand(CASES, COUNT, generator=torch.Generator().manual_seed(2)) < 0.5

    def adjust() -> None:
        own, others = combinations(right.split(BLOCK), 2, 0.005)
        for done in range(0, len(own), AHEAD):
            models = moved(module, own[done : done + AHEAD], others[done : done + AHEAD], stack)
            for k in range(len(models[names[0]])):
                put(module, models, k)

    ratios, seconds = compared(adjust, lambda: sit(module, validation), repeats, device)
    name = f"{net.name}, {CASES:,} failing cases in blocks of {BLOCK}, beside one evaluation of {n:,} images"
    wanted = (
        5.0 if n > CASES or net is MNIST_CNN else None
    )  # an evaluation of a quarter of a millisecond is no yardstick
    return Measure(
        "submodels",
        name,
        "the adjustment",
        "one evaluation",
        tuple(ratios),
        tuple(seconds),
        n,
        wanted=wanted,
        most=True,
    )
