"""The training loop beside the same network's bare forward, backward and step on one batch that
lies ready (floor .9 on the CPU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from airepair.training.best_state import fit, optimizer_of

from .subjects import DIGITS_CNN, DIGITS_FC, MNIST_CNN, MNIST_FC, RESNETS, SMALL_RESNET, Net
from .timing import Measure, compared

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOP/s, data sheets
ON_CPU = ((DIGITS_FC, 6400), (DIGITS_CNN, 1920), (MNIST_FC, 12_800), (MNIST_CNN, 192), (SMALL_RESNET, 128))


def measures(device: torch.device, repeats: int, share: float = 1.0) -> Iterator[Measure]:
    """One line per network; `share` of the images for a quick look."""
    nets = [(net, 50_000) for net in (MNIST_CNN, *RESNETS)] if device.type == "cuda" else list(ON_CPU)
    for net, n in nets:
        yield measure(net, max(net.batch, int(n * share) // net.batch * net.batch), device, repeats)
    if device.type == "cuda":  # half a minute of compilation
        yield compiled(RESNETS[1], 50_000, device, repeats)


def compiled(net: Net, n: int, device: torch.device, repeats: int) -> Measure:
    """What torch.compile would make of it: bare steps of the compiled network beside the loop's
    recorded ones. Above 1 it would not pay.
    """
    data, recipe, looped = net.images(n, device), net.recipe(), net.module(device)
    bare = bare_steps(net, n // net.batch, device, compile=True)
    ratios, seconds = compared(
        bare, lambda: fit(looped, data, None, recipe, torch.Generator().manual_seed(0)), repeats, device
    )
    slow = "bare steps, torch.compile(mode='reduce-overhead')"
    return Measure(
        "training",
        f"{net.name}, batch {net.batch}",
        slow,
        "the training loop",
        tuple(ratios),
        tuple(seconds),
        n,
    )


def measure(net: Net, n: int, device: torch.device, repeats: int) -> Measure:
    """n images through the loop and through the bare steps; the loop draws, converts and augments them."""
    looped, data, recipe = net.module(device), net.images(n, device), net.recipe()

    def loop() -> None:
        fit(looped, data, None, recipe, torch.Generator().manual_seed(0))

    bare = bare_steps(net, n // net.batch, device)
    ratios, seconds = compared(bare, loop, repeats, device)
    rate = n / sorted(seconds)[len(seconds) // 2]
    facts = {"images_per_second": round(rate), **share_of_peak(net, rate, device)}
    name = f"{net.name}, batch {net.batch}, {net.augment if net.augment != 'none' else 'no'} augmentation"
    return Measure(
        "training",
        name,
        "bare steps",
        "the training loop",
        tuple(ratios),
        tuple(seconds),
        n,
        wanted=0.9,
        facts=facts,
    )


def bare_steps(net: Net, steps: int, device: torch.device, compile: bool = False) -> Callable[[], None]:
    """Forward, backward and step on one batch again and again; on CUDA bf16 and channels_last,
    launched one by one.
    """
    module, one = net.module(device).train(), net.images(net.batch, device)
    x, cuda = one.images(), device.type == "cuda"
    if cuda:
        module, x = (
            module.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            x.contiguous(memory_format=torch.channels_last),
        )
    optimizer, network = optimizer_of(module, net.recipe()), module
    if compile:
        network = torch.compile(module, mode="reduce-overhead")  # type: ignore[assignment]

    def run() -> None:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                loss = nn.functional.cross_entropy(network(x), one.y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def share_of_peak(net: Net, rate: float, device: torch.device) -> dict[str, float]:
    """The achieved share of the card's bf16 peak, counting three forward passes an image; nothing
    if the peak is not known.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = next((p for card, p in PEAK.items() if card in name), None)
    if peak is None:
        return {}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net.module(torch.device("cpu")).eval()(torch.zeros(1, *net.shape))
    return {"share_of_peak": round(3 * counter.get_total_flops() * rate / peak, 4)}
