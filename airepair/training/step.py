"""One training step: draw the images, augment them as they are kept, convert, forward, backward, optimiser.

On the CPU plainly so, or in bf16 if the module is marked for it (airepair/host/arithmetic/precision.py).
On CUDA (docs/gpu.md): channels_last for the time of the training, and where the loss is plain
cross-entropy bf16 autocast and the whole step recorded as a CUDA graph (cuda_graph.py). A loss of a
method's own keeps float32 there (in convolutions TF32) and is not recorded: it may search, hook
layers, or depend on what happened before.

If a batch does not fit into memory it goes through in parts whose gradients are added up: the
same step, but for batch norm, which then normalises each part by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from airepair.errors import choose
from airepair.evaluation.memory import halving
from airepair.host.arithmetic.precision import laid_out, lowered
from airepair.training.cuda_graph import Record, Recorded, graph_of
from airepair.types import Meter, Split, Transform, meters_of


def recordable(module: nn.Module) -> bool:
    """Returns whether nothing but the harness's meter listens to the module: a hook runs once when
    a step is recorded, and never in a replay.
    """
    return all(
        isinstance(hook, Meter)
        for part in module.modules()
        for hook in (
            *part._forward_pre_hooks.values(),
            *part._forward_hooks.values(),
            *part._backward_hooks.values(),
        )
    )


class Stepper:
    """The steps of one training; a context, since the module's memory layout is its own within.
    `plain`: the loss depends on the batch alone.

    `parts`: a batch that does not fit into memory goes through in parts; without it the error goes
    on. `precise`: no autocast on any device.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
        change: Transform,
        generator: torch.Generator,
        *,
        plain: bool = False,
        record: Record | None = None,
        parts: bool = True,
        precise: bool = False,
    ) -> None:
        self.module, self.optimizer, self.loss, self.change, self.generator = (
            module,
            optimizer,
            loss,
            change,
            generator,
        )
        device = next(module.parameters()).device
        self.cuda = device.type == "cuda"
        self.autocast = plain and self.cuda and not precise
        record = record or (partial(graph_of, device=device) if self.cuda else None)
        self.meters = meters_of(module)
        self.recorded = (
            Recorded(self._step, record, self.meters) if record and plain and recordable(module) else None
        )
        self.parts = parts
        self.most: int | None = None  # images that go through at once, where the batch did not

    def __enter__(self) -> Self:
        if self.cuda:
            _laid_out(self.module, self.optimizer, torch.channels_last)
        if self.recorded:  # a graph reads the rate from where it lies
            self.rate = torch.zeros((), device=next(self.module.parameters()).device)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
        return self

    def __exit__(self, *error: object) -> None:
        self.recorded = None
        if self.cuda:
            _laid_out(self.module, self.optimizer, torch.contiguous_format)

    def __call__(self, data: Split, index: Tensor, rate: float) -> Tensor:
        """One step on the chosen images (B, or K x B for K models in one call) at that learning
        rate; the loss, detached.
        """
        index = index.to(data.x.device, non_blocking=True)
        x, y = self.change(data.x.index_select(0, index.flatten()), self.generator), data.y[index]
        x = x.float().div_(255) if x.dtype == torch.uint8 else x
        if index.ndim > 1:
            x = x.unflatten(0, index.shape)
        else:
            x = x.contiguous(memory_format=torch.channels_last) if self.cuda else laid_out(self.module, x)
        if self.recorded is None:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            return self._step(x, y)
        self.rate.fill_(rate)
        for meter in self.meters if self.recorded.replays(x, y) else ():  # no hook counts a replay
            meter.add(len(x), training=True)
        return self.recorded(x, y)

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        marks = [(meter, meter.mark()) for meter in self.meters]

        def gradients(size: int) -> Tensor:
            for meter, mark in marks:  # what a try that did not fit has counted
                meter.rewind(mark)
            value = self._gradients(x, y, size)
            self.most = size if size < len(x) else self.most
            return value

        size = min(len(x), self.most or len(x))
        whole = not self.parts or self._recording()
        value = gradients(size) if whole else halving(gradients, size, "images at once in a training step")
        self.optimizer.step()
        return value

    def _recording(self) -> bool:
        return self.cuda and torch.cuda.is_current_stream_capturing()

    def _gradients(self, x: Tensor, y: Tensor, size: int) -> Tensor:
        """Puts the gradients of the batch's loss in place, `size` images at a time, never one alone
        (batch norm); the loss, detached.
        """
        self.optimizer.zero_grad(set_to_none=True)
        count = max(1, min(-(-len(x) // size), len(x) // 2))
        if count == 1:
            with self._precision():
                value = self.loss(self.module, x, y)
            value.backward()
            return value.detach()
        total = torch.zeros((), device=x.device)
        for images, labels in zip(x.tensor_split(count), y.tensor_split(count), strict=True):
            with self._precision():
                value = self.loss(self.module, images, labels) * (len(images) / len(x))
            value.backward()
            total += value.detach()
        return total

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.cuda:
            return lowered(self.module)
        # No cache of cast weights: it would outlive the step that is recorded.
        return torch.autocast("cuda", torch.bfloat16, cache_enabled=False) if self.autocast else nullcontext()


def _laid_out(module: nn.Module, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    """Weights of four dimensions in that layout, and the optimiser's state beside them: a fused
    step walks both in the order of memory.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    for state in optimizer.state.values():
        for name, tensor in state.items():
            if isinstance(tensor, Tensor) and tensor.ndim == 4:
                state[name] = tensor.contiguous(memory_format=layout)


# The augmentations that a recipe may name: batched, on the images' device, from a seeded generator.
# They move pixels and change none, so they take bytes as well as floats: a step augments before it
# converts.


def none(x: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the images as they are."""
    return x


def shift(x: Tensor, generator: torch.Generator, pad: int | None = None) -> Tensor:
    """Returns each image moved by up to `pad` pixels (an eighth of its height by default) in each
    direction, zeros moving in.
    """
    n, c, h, w = x.shape
    pad = max(1, h // 8) if pad is None else pad
    width, area = w + 2 * pad, (w + 2 * pad) * (h + 2 * pad)
    flat = torch.nn.functional.pad(x, (pad, pad, pad, pad)).reshape(-1)
    top = torch.randint(2 * pad + 1, (n, 1), generator=generator).to(x.device, non_blocking=True)
    left = torch.randint(2 * pad + 1, (n, 1), generator=generator).to(x.device, non_blocking=True)
    # Each row of a crop is w neighbours of the padded images laid end to end: copied as a whole,
    # faster than pixel by pixel.
    first = (top + torch.arange(h, device=x.device)) * width + left
    rows = torch.arange(0, n * c * area, area, device=x.device).reshape(n, c, 1) + first[:, None, :]
    return flat.unfold(0, w, 1).index_select(0, rows.reshape(-1)).reshape(n, c, h, w)


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Applies the CIFAR standard: zero-padding by an eighth, a random crop, and a mirror image half
    of the time.
    """
    flip = (torch.rand(len(x), generator=generator) < 0.5).to(x.device, non_blocking=True)
    return shift(torch.where(flip[:, None, None, None], x.flip(3), x), generator)


AUGMENTATIONS: dict[str, Transform] = {"none": none, "shift": shift, "crop+flip": crop_flip}


def augmentation(name: str) -> Transform:
    """Returns the augmentation of a recipe's `augment`."""
    return AUGMENTATIONS[choose("augmentation", name, list(AUGMENTATIONS))]
