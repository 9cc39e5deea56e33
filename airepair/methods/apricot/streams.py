"""K submodels trained side by side on a GPU: each has its own recorded step on a stream of its own.

So small kernels overlap (airepair/training/step.py).

(On one H100 twenty of the MNIST CNN trained 25 times as fast as one after another launched kernel
by kernel, and four times as fast as the recorded steps one after another.) Each draws from its own
generator in the order of `training.fit`: the results are those of one by one, bit for bit on the
CPU, if there are no streams and nothing is gained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from airepair.methods.apricot.stack import Stack, floating, stacked
from airepair.training.best_state import CrossEntropy, optimizer_of, rate, snapshot
from airepair.training.step import Stepper, augmentation
from airepair.types import Recipe, Split, without_meter


def streams(count: int, device: torch.device) -> list[torch.cuda.Stream | None]:
    """Returns one per submodel; None elsewhere than on CUDA."""
    return [torch.cuda.Stream(device) if device.type == "cuda" else None for _ in range(count)]


def on(stream: torch.cuda.Stream | None) -> AbstractContextManager[Any]:
    """Launches go to that stream within the block."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


class InStreams:
    """K copies of `start`, each with a step and a stream of its own; a context, since the steps are."""

    def __init__(
        self, start: nn.Module, train: Split, recipe: Recipe, generators: Sequence[torch.Generator]
    ) -> None:
        self.train, self.recipe, self.names, self.device = train, recipe, floating(start), train.x.device
        loss, change = CrossEntropy(recipe.label_smoothing), augmentation(recipe.augment)
        self.modules = [without_meter(copy.deepcopy(start)).train() for _ in generators]
        self.steppers = [
            Stepper(m, optimizer_of(m, recipe), loss, change, g, plain=True, parts=False)
            for m, g in zip(self.modules, generators, strict=True)
        ]
        self.streams, self.exits = streams(len(generators), self.device), ExitStack()

    def __enter__(self) -> Self:
        for stepper in self.steppers:
            self.exits.enter_context(stepper)
        return self

    def __exit__(self, *error: object) -> None:
        self.exits.close()

    @contextmanager
    def side_by_side(self) -> Iterator[None]:
        """Lets the streams run on their own within the block; they begin behind what the device was
        given before, and what follows waits for them.
        """
        own = [stream for stream in self.streams if stream is not None]
        for stream in own:
            stream.wait_stream(torch.cuda.current_stream(self.device))
        yield
        for stream in own:
            torch.cuda.current_stream(self.device).wait_stream(stream)

    def step(self, index: Tensor, done: float) -> list[Tensor]:
        """Takes one step of each on its own images (index: K x B) and returns their losses, detached."""
        losses = []
        for stepper, stream, images in zip(self.steppers, self.streams, index, strict=True):
            with on(stream):
                losses.append(stepper(self.train, images, rate(self.recipe, done)))
        return losses

    def stack(self) -> Stack:
        """Returns their floating-point tensors."""
        return stacked([snapshot(m) for m in self.modules], self.names)
