"""Whether K submodels train faster together or one by one: a short measurement, since it depends on the architecture and the device.

On two CPU cores `vmap` gained 2.7 to 5.8 times for fully connected networks and lost for CNNs (.8 and .2; methods.md part 3.3); on a GPU small
networks gain. A few steps of four models decide. They are thrown away and are no part of the budget.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from airepair.submodels.together import Together, without_meter
from airepair.training import optimizer_of
from airepair.types import Recipe, Split

MODELS = 4
GAIN = 1.2  # together must win clearly, so that chance does not decide


def gain(start: nn.Module, train: Split, part: slice, recipe: Recipe) -> float:
    """Seconds one by one over seconds together for one step of four models; 0 where they cannot run together."""
    index = torch.arange(part.start, min(part.stop, part.start + recipe.batch_size), device=train.x.device)
    x, y = train.images(index), train.y[index]
    try:
        group = Together(start, MODELS, recipe)
        xs, ys = x.expand(MODELS, *x.shape).contiguous(), y.expand(MODELS, -1).contiguous()
        group.step(xs, ys, 0.0)
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        return 0.0  # an operation without a batching rule, control flow that depends on data, or no memory: one by one works
    module = without_meter(copy.deepcopy(start)).train()
    optimizer = optimizer_of(module, recipe)

    def alone() -> None:
        loss = nn.functional.cross_entropy(module(x), y, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    alone()
    one_by_one, together = fastest([alone, lambda: group.step(xs, ys, 0.0)], train.x.device)
    return MODELS * one_by_one / together


def fastest(calls: Sequence[Callable[[], object]], device: torch.device, budget: float = 0.1) -> list[float]:
    """Seconds of the fastest run of each call, measured in turn: at least twice, up to 20 times within `budget` seconds."""
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
