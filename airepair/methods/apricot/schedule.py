"""How K submodels train fastest here: in one batched call, on streams of their own, or one by one.
What they become depends on it by rounding.

On CUDA a short measurement of a few steps of four models decides; they are thrown away and are no
part of the budget. On the CPU nothing is measured, since one thread there promises the same bits in
every run (protocol): a batched call gains where launching operations costs more than their
arithmetic, so the multiplications of a batch decide. (Measured on two machines: fully connected
nets 1.4 to 5.8 times as fast together, the digits CNN .8 to 2.4, the MNIST CNN .2.)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from airepair.host.arithmetic.precision import precision_of
from airepair.methods.apricot.streams import on, streams
from airepair.methods.apricot.vmapped import Together
from airepair.training.best_state import CrossEntropy, optimizer_of
from airepair.training.cuda_graph import WARM_UP
from airepair.training.step import Stepper, none
from airepair.types import Recipe, Split, without_meter

Quickest = Literal["together", "streams", "one by one"]
MODELS = 4
GAIN = 1.2  # a way must win clearly, so that chance does not decide
LIGHT = 10**8  # multiplications of a batch: up to here together pays on a CPU


def quickest(start: nn.Module, train: Split, part: slice, recipe: Recipe) -> Quickest:
    """The way to train copies of `start` on parts like `part`."""
    index = torch.arange(part.start, min(part.stop, part.start + recipe.batch_size), device=train.x.device)
    with ExitStack() as stack:
        cuda = train.x.device.type == "cuda"
        batched = _together(
            start, train, index if cuda else index[:2], recipe, stack
        )  # without a clock two images show whether it works
        if not cuda:
            batched = batched if precision_of(start) != "bf16" else None  # vmap stops under bf16 autocast
            return (
                "together"
                if batched and multiplications(start, train.images(index)) <= LIGHT
                else "one by one"
            )
        steppers = [stack.enter_context(_stepper(start, recipe)) for _ in range(MODELS)]
        own = streams(MODELS, train.x.device)

        def step(apart: bool) -> None:
            for stepper, stream in zip(steppers, own, strict=True):
                with on(stream if apart else None):
                    stepper(train, index, 0.0)

        ways: dict[Quickest, Callable[[], object]] = {
            "one by one": lambda: step(False),
            "streams": lambda: step(True),
        }
        ways |= {"together": batched} if batched else {}
        for call in ways.values():
            for _ in range(WARM_UP + 1):
                call()
        seconds = dict(zip(ways, fastest(list(ways.values()), train.x.device), strict=True))
    best = min(seconds, key=lambda way: seconds[way])
    return best if seconds["one by one"] >= GAIN * seconds[best] else "one by one"


def _together(
    start: nn.Module, train: Split, index: Tensor, recipe: Recipe, stack: ExitStack
) -> Callable[[], object] | None:
    """A step of four models in one call; None if that does not work."""
    same = index.expand(MODELS, -1)
    try:
        group = stack.enter_context(
            Together(start, train, replace(recipe, augment="none"), [torch.Generator()] * MODELS)
        )
        group.step(same, 0.0)
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        # an operation without a batching rule, control flow that depends on data, or no memory: the
        # others work
        return None
    return lambda: group.step(same, 0.0)


def _stepper(start: nn.Module, recipe: Recipe) -> Stepper:
    module = without_meter(copy.deepcopy(start)).train()
    return Stepper(
        module,
        optimizer_of(module, recipe),
        CrossEntropy(recipe.label_smoothing),
        none,
        torch.Generator(),
        plain=True,
    )


@torch.no_grad()
def multiplications(module: nn.Module, x: Tensor) -> int:
    """Returns the multiplications of a forward pass of x through the layers with a weight matrix or
    kernel: each output value takes a row of the weight.
    """
    counted = [0]

    def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
        weight = layer.weight
        counted[0] += (
            output.numel() * weight[0].numel() if isinstance(weight, Tensor) and weight.ndim > 1 else 0
        )

    probed = without_meter(copy.deepcopy(module)).eval()
    for layer in probed.modules():
        if isinstance(getattr(layer, "weight", None), Tensor):
            layer.register_forward_hook(hook)
    probed(x)
    return counted[0]


def fastest(calls: Sequence[Callable[[], object]], device: torch.device, budget: float = 0.1) -> list[float]:
    """Returns the seconds of the fastest run of each call, measured in turn: at least twice, up to 20
    times within `budget` seconds.
    """
    seconds, begin, runs = [float("inf")] * len(calls), time.perf_counter(), 0
    while runs < 2 or (runs < 20 and time.perf_counter() - begin < budget):
        runs += 1
        for i, call in enumerate(calls):
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            seconds[i] = min(seconds[i], time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
