"""channels_last on the CPU for convolutional networks, and bf16 autocast for those on real data sets.

A subject is marked when it is made, and its copies keep the mark. Marked `bf16`, its forward passes
in training steps and in searches (DL2's counterexamples, validation while a repair runs) go through
bf16 autocast, as on CUDA; logits, losses, gradients of weights and the optimiser stay float32, and
so are the exams that a record reports, on CUDA too (`in_float32`): a repair that guarantees an answer by a
small margin keeps it. All forward passes of a marked network get images in channels_last.

(One core of a Xeon with AMX trained a ResNet-18 of quarter width 2.8 times as fast as contiguous float32 did:
benchmarks/perf. In channels_last alone a training step of the digits CNN takes two thirds of the
time: max pooling and batch norm are vectorised there.) Digits keep float32, which is portable.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

Precision = Literal["plain", "float32", "bf16"]  # plain: images as they lie; the others in channels_last
PORTABLE = ("digits",)  # data sets whose cells give the same bits on every processor
MARK = "_airepair_precision"
GAIN = 1.2  # bf16 must win clearly, so that chance does not decide
SECONDS = 1.0  # that the measurement takes at most, compilation of kernels aside


def mark(module: nn.Module, dataset: str, device: torch.device) -> nn.Module:
    """Chooses the network's precision by its data set, its layers and the processor; returns the module."""
    if device.type == "cpu" and any(isinstance(m, nn.Conv2d) for m in module.modules()):
        portable = dataset.partition("+")[0] in PORTABLE
        setattr(module, MARK, "bf16" if not portable and bf16_pays() else "float32")
    return module


def precision_of(module: nn.Module) -> Precision:
    """What the module was marked with; plain for one that nobody marked, such as a network that a
    method built.
    """
    found: Precision = getattr(module, MARK, "plain")
    return found


def facts_of(module: nn.Module) -> dict[str, str]:
    """What tells a training in this precision from another; nothing for a plain one."""
    return {"precision": precision_of(module)} if precision_of(module) != "plain" else {}


def arithmetic_of(module: nn.Module) -> dict[str, str]:
    """What a record's provenance says of a module that computes in another arithmetic than its process."""
    return {"arithmetic": "bf16"} if precision_of(module) == "bf16" else {}


def laid_out(module: nn.Module, x: Tensor) -> Tensor:
    """Returns the images (N x C x H x W) in the order of memory that the module computes in."""
    if precision_of(module) == "plain":
        return x
    _, channels, height, width = x.shape
    ordered = x.contiguous(memory_format=torch.channels_last)
    # Grey images lie the same either way, and PyTorch goes by the strides.
    return ordered.as_strided(x.shape, (channels * height * width, 1, width * channels, channels))


@contextmanager
def lowered(module: nn.Module) -> Iterator[None]:
    """Within the block calls of a module that is marked bf16 compute in it, and return float32 all
    the same.
    """
    if precision_of(module) != "bf16":
        yield
        return
    casts = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)

    def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        casts.__enter__()
        return laid_out(module, args[0]), *args[1:]

    def leave(_: nn.Module, args: tuple[Any, ...], logits: Any) -> Any:
        casts.__exit__(None, None, None)
        return logits.float() if isinstance(logits, Tensor) else logits

    handles = module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def in_float32(device: torch.device) -> Iterator[None]:
    """Within the block cuDNN computes in float32 on CUDA: by itself it takes TF32, ten bits of the
    mantissa, on cards that have it, and a record would depend on the card.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    _set_cudnn("ieee", "ieee")
    try:
        yield
    finally:
        _set_cudnn(*before)


def _set_cudnn(conv: str, rnn: str) -> None:
    cudnn: Any = torch.backends.cudnn
    cudnn.allow_tf32 = conv == "tf32"  # the older setting: torch refuses to read it if they differ
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = conv, rnn


@cache
def bf16_pays() -> bool:
    """Whether this processor has bf16 instructions and trains a convolution at least 1.2 times as
    fast with them.
    """
    has = torch.cpu.get_capabilities()
    if not (has.get("avx512_bf16") or has.get("amx_bf16")):
        return False
    return _seconds(torch.float32) >= GAIN * _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    """CPU seconds of the thread (another's work does not count) of the fastest of a few training
    steps of a convolution.
    """
    layer = nn.Conv2d(128, 128, 3, padding=1)
    x = torch.zeros(16, 128, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    least, begin = float("inf"), time.thread_time()
    for _ in range(20):
        start = time.thread_time()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32, cache_enabled=False):
            value = layer(x)
        torch.autograd.grad(value.float().sum(), [x, layer.weight])
        least = min(least, time.thread_time() - start)
        if time.thread_time() - begin > SECONDS / 2:
            break
    return least
