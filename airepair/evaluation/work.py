"""Work in floating-point operations: what an image costs a network, and what a method computes beside
the network.

Counted are products of matrices, convolutions and attention of torch (torch.utils.flop_counter),
which is nearly all that networks cost. Not counted: elementwise operations, decompositions, linear
programs, numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from airepair.evaluation.exam import evaluating
from airepair.types import Task


def counter() -> FlopCounterMode:
    """Returns a context that counts the operations of this thread; `get_total_flops()` says how
    many.
    """
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )


def _convolution_backward(
    gradient: Sequence[int],
    x: Sequence[int],
    weight: Sequence[int],
    *rest: Any,
    out_shape: object = None,
) -> int:
    """As much as the forward pass for each of the gradients of x and weight that is asked for.

    torch's own formula counts the weight's gradient of a convolution in groups once for each group.
    """
    transposed, asked = bool(rest[4]), rest[-1]
    return int(sum(asked[:2])) * int(
        conv_flop_count(list(x), list(weight), list(gradient), transposed=transposed)
    )


def forward_work(module: nn.Module, x: Tensor) -> float:
    """Returns the operations of one image through forward, counted on the images `x` (N x C x H x
    W, float).
    """
    with evaluating(module), torch.no_grad(), counter() as counted:
        module(x)
    return float(counted.get_total_flops()) / len(x)


def step_work(module: nn.Module, x: Tensor) -> float:
    """Returns the operations of one image through forward and backward, counted on the images `x`."""
    with evaluating(module), torch.enable_grad(), counter() as counted:
        logits = module(x)
        torch.autograd.grad(
            logits.sum(), [p for p in module.parameters() if p.requires_grad], allow_unused=True
        )
    return float(counted.get_total_flops()) / len(x)


@contextmanager
def billed(task: Task) -> Iterator[None]:
    """Arithmetic of a method's own goes to the meter as the number of forward images that it is worth."""
    with counter() as counted:
        yield
    task.meter.add(
        math.ceil(counted.get_total_flops() / forward_work(task.module, task.validation.images(slice(2)))),
        training=False,
    )
