"""Functions that decide numbers and that a processor's own library would round its own way: roots,
logarithms, cosines, RMSprop.

torch.sqrt of a contiguous float32 tensor goes to MKL's vector library, which picks its kernel by
the processor, whatever the settings are, and does not round correctly; Python's `math` calls the C library,
which picks by the processor too. What is here has the same bits everywhere (docs/protocol.md,
"Arithmetic"). torch.optim.Adam has a form without that root, `fused=True`; RMSprop has none on the
CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import mpmath
import torch
from torch import Tensor


def root(x: Tensor) -> Tensor:
    """Returns the square root of a float32 tensor, correctly rounded: 53 bits leave no doubt about
    the nearest number of 24.
    """
    return x.double().sqrt().to(x.dtype)


def cosine(x: float) -> float:
    """Returns cos(x), rounded to the nearest float by integer arithmetic."""
    return float(mpmath.cos(x))


def logarithm(x: float) -> float:
    """Returns the natural logarithm of x > 0, likewise."""
    return float(mpmath.log(x))


class RMSprop(torch.optim.Optimizer):
    """It is torch.optim.RMSprop without momentum and centring, its root exact: v = .99 v + .01 g^2,
    w -= lr g / (sqrt(v) + 1e-8).
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, alpha: float = 0.99, eps: float = 1e-8
    ) -> None:
        super().__init__(parameters, {"lr": lr, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Takes one step on the gradients as they stand; `closure` is torch's word for what
        computes them, and none is called here.
        """
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                square = self.state[parameter].setdefault("square_avg", torch.zeros_like(parameter))
                square.mul_(group["alpha"]).addcmul_(parameter.grad, parameter.grad, value=1 - group["alpha"])
                parameter.addcdiv_(parameter.grad, root(square).add_(group["eps"]), value=-group["lr"])
