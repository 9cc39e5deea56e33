"""K submodels trained side by side on a GPU: each has its own recorded step (stepping.py) on a stream of its own, so that small kernels overlap.

(On one H100 twenty of the MNIST CNN trained 25 times as fast as one after another launched kernel by kernel, and four times as fast as the
recorded steps one after another.) Each draws from its own generator in the order of `training.fit`: the results are those of one by one, bit
for bit on the CPU, where there are no streams and nothing is gained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import nn

from airepair.augment import augmentation
from airepair.stepping import Stepper
from airepair.submodels.stack import Stack, floating, stacked
from airepair.submodels.together import without_meter
from airepair.submodels.windows import images, starts
from airepair.training import CrossEntropy, optimizer_of, rate, snapshot
from airepair.types import Recipe, Split


def streams(count: int, device: torch.device) -> list[torch.cuda.Stream | None]:
    """One a submodel, each behind what the device has been given so far; None elsewhere than on CUDA."""
    if device.type != "cuda":
        return [None] * count
    here, found = torch.cuda.current_stream(device), [torch.cuda.Stream(device) for _ in range(count)]
    for stream in found:
        stream.wait_stream(here)
    return list(found)


def on(stream: torch.cuda.Stream | None) -> AbstractContextManager[Any]:
    """Launches go to that stream within the block."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def fit_in_streams(
    start: nn.Module,
    train: Split,
    parts: Sequence[slice],
    recipe: Recipe,
    generators: Sequence[torch.Generator],
    epoch: Callable[[int, int, float], None] = lambda *_: None,
) -> Stack:
    """Trains one copy of `start` on each part (all of one size); `epoch(number, images, loss)` hears of every epoch."""
    size, device = parts[0].stop - parts[0].start, train.x.device
    batches = starts(size, recipe)
    each = images(size, recipe) // recipe.epochs
    modules = [without_meter(copy.deepcopy(start)).train() for _ in parts]
    loss, change, own = CrossEntropy(recipe.label_smoothing), augmentation(recipe.augment), streams(len(parts), device)
    with ExitStack() as stack:
        steppers = [
            stack.enter_context(Stepper(m, optimizer_of(m, recipe), loss, change, g, plain=True, parts=False))
            for m, g in zip(modules, generators, strict=True)
        ]
        for number in range(recipe.epochs):
            orders = [torch.randperm(size, generator=g) + part.start for g, part in zip(generators, parts, strict=True)]
            order = torch.stack(orders).to(device)  # one transfer an epoch
            total = torch.zeros(len(parts), device=device)
            for stream in own:
                if stream is not None:
                    stream.wait_stream(torch.cuda.current_stream(device))
            for at in batches:
                now = rate(recipe, (number * each + at) / (each * recipe.epochs))
                for k, (stepper, stream) in enumerate(zip(steppers, own, strict=True)):
                    with on(stream):
                        total[k] += stepper(train, order[k, at : at + recipe.batch_size], now)
            for stream in own:
                if stream is not None:
                    torch.cuda.current_stream(device).wait_stream(stream)
            epoch(number + 1, len(parts) * each, float(total.mean()) / len(batches))
    return stacked([snapshot(m) for m in modules], floating(start))
