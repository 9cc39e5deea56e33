"""Arachne: the logits of a whole population of patches beside one particle at a time, at equal results."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from airepair.search.patch import PatchedLogits, Places
from airepair.types import Meter

from .subjects import DIGITS_CNN, DIGITS_FC, MNIST_FC, Net
from .timing import Measure, compared

PARTICLES, INPUTS = 100, 300
SUBJECTS = ((DIGITS_FC, ("7.weight",)), (DIGITS_CNN, ("4.weight", "9.weight")), (MNIST_FC, ("4.weight",)))


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """Patches of the last layer, and of layers within."""
    for net, names in SUBJECTS:
        yield measure(net, names, max(5, int(PARTICLES * share)), device, repeats)


def measure(net: Net, names: tuple[str, ...], particles: int, device: torch.device, repeats: int) -> Measure:
    """Five weights of each named parameter; the features below are kept by the batched way, as in a
    search of many generations.
    """
    module, data = net.module(device).eval(), net.images(INPUTS, device)
    generator = torch.Generator().manual_seed(4)
    which = torch.arange(len(names)).repeat_interleave(5).to(device)
    index = torch.cat(
        [
            torch.randperm(module.get_parameter(n).numel(), generator=generator)[:5].sort().values
            for n in names
        ]
    ).to(device)
    places = Places(names, which, index)
    logits = PatchedLogits(module, places, data.images(), Meter())
    population = places.values(module) + 0.1 * torch.randn(particles, len(places), generator=generator).to(
        device
    )
    ratios, seconds = compared(
        lambda: logits.one_by_one(population), lambda: logits(population), repeats, device
    )
    facts = {"largest_difference": float((logits.one_by_one(population) - logits(population)).abs().amax())}
    where = "last layer" if logits.last_layer else "layers within"
    name = f"{net.name}, {particles} particles of {len(places)} weights ({where}), {INPUTS} inputs"
    return Measure(
        "population",
        name,
        "one particle at a time",
        "the population",
        tuple(ratios),
        tuple(seconds),
        particles,
        facts=facts,
    )
