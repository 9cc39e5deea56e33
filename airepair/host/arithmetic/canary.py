"""The canary: a small fixed computation whose digest tells whether this process computes portably
(airepair/host/arithmetic/setup.py).

Setting variables proves nothing: a library may have loaded before them, or ignore them in its next
version. So the digest decides what a record says. The computation holds what the benchmark uses:
steps of SGD, Adam and RMSprop on a network with convolutions and batch norm, matrix products,
LAPACK, elementary functions, numpy. It takes about a second, once per process.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from airepair.host.arithmetic.exact import RMSprop, root
from airepair.host.arithmetic.setup import is_set
from airepair.host.digest import of_parts

Arithmetic = Literal["portable", "native"]

# torch 2.13, numpy 2.4: equal on an Intel Xeon with AVX-512 and AMX and on an emulated AMD EPYC
# (Rome). Processors without AVX2 and FMA (before 2013) lack these kernels, and are native.
PORTABLE = frozenset({"0f26d55093c344ba"})
ELEMENTARY = (
    torch.exp,
    torch.log,
    torch.tanh,
    torch.sigmoid,
    torch.sin,
    torch.cos,
    torch.erf,
    torch.expm1,
    torch.log1p,
)


@cache
def arithmetic(device: torch.device) -> Arithmetic:
    """What a record says of the numbers of cells on that device: the same for the whole process, since
    the libraries have chosen their kernels when they were loaded.

    A process that was asked to be portable and is not says so once.
    """
    if device.type != "cpu" or not is_set():
        return "native"
    if measured() in PORTABLE:
        return "portable"
    _warn()
    return "native"


@cache
def _warn() -> None:
    found = f"{measured()} (torch {torch.__version__}, numpy {np.__version__})"
    warnings.warn(
        f"native arithmetic: the canary's digest {found} is not a known portable one; "
        f"a library had loaded before it "
        "could be set up, or is of a version that was not measured. Records say native",
        stacklevel=3,
    )


@cache
def measured() -> str:
    """Returns the digest of this process's canary: 16 hexadecimal digits. Leaves torch's generator
    and number of threads alone.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            tensors = [value.detach().numpy() for value in (*_training(), *_linear_algebra(), *_functions())]
            return of_parts(array.tobytes() for array in (*tensors, *_numpy()))[:16]
    finally:
        torch.set_num_threads(threads)


def _training() -> Iterator[Tensor]:
    """The weights and running statistics of a small network after twelve steps of each optimiser."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(96, 1, 8, 8, generator=generator), torch.randint(10, (96,), generator=generator)
    for name in ("sgd", "adam", "rmsprop"):
        torch.manual_seed(2)
        front = (
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 33, 3),
            nn.ReLU(),
        )
        module = nn.Sequential(*front, nn.Flatten(), nn.Linear(132, 50), nn.ReLU(), nn.Linear(50, 10))
        optimizer = _optimizer(name, module)
        for _ in range(4):
            for batch, labels in zip(x.split(32), y.split(32), strict=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(batch), labels).backward()
                optimizer.step()
        yield from module.state_dict().values()


def _optimizer(name: str, module: nn.Module) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(module.parameters(), 0.05, 0.9, weight_decay=1e-4, nesterov=True)
    if name == "adam":
        return torch.optim.Adam(module.parameters(), 1e-3, weight_decay=1e-4, fused=True)
    return RMSprop(module.parameters(), 1e-3)


def _linear_algebra() -> Iterator[Tensor]:
    """Products, solutions and decompositions in both precisions."""
    generator = torch.Generator().manual_seed(3)
    for kind in (torch.float32, torch.float64):
        a = torch.randn(65, 65, generator=generator, dtype=kind)
        square = a @ a.T
        yield from (
            square,
            torch.linalg.solve(a, square),
            torch.linalg.inv(a),
            torch.linalg.pinv(square, hermitian=True),
        )
        yield from (*torch.linalg.svd(a), *torch.linalg.eigh(square), a.norm(dim=1), a.std(0))


def _functions() -> Iterator[Tensor]:
    """Elementary functions of many numbers, dense and strided; softmax and sums over rows."""
    generator = torch.Generator().manual_seed(4)
    for kind in (torch.float32, torch.float64):
        x = torch.rand(40_000, generator=generator, dtype=kind) * 3 + 1e-3
        rows = x[:39_990].reshape(-1, 10)
        yield from (function(part) for function in ELEMENTARY for part in (x, x[::3]))
        yield from (
            rows.softmax(1),
            rows.log_softmax(1),
            rows.logsumexp(1),
            rows.sum(0),
            rows.sum(1),
            x.sum(),
            x.mean(),
            x.var(),
        )
        yield from (x.rsqrt(), x.pow(1.7), root(x.float()))


def _numpy() -> Iterator[np.ndarray[Any, Any]]:
    """numpy's own kernels and its linear algebra."""
    double = np.random.default_rng(5).random((65, 65)) + 0.01
    a: np.ndarray[Any, Any]
    for a in (double.astype(np.float32), double):
        yield from (
            np.exp(a),
            np.log(a),
            np.sqrt(a),
            np.tanh(a),
            a @ a.T,
            np.linalg.solve(a, a.T @ a),
            np.linalg.inv(a),
            a.sum(0),
        )
