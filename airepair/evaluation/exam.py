"""A model sits an exam on a split: one forward pass, and everything that is shown of it is computed
from that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from airepair.evaluation.memory import halving
from airepair.host.arithmetic.precision import in_float32, laid_out, lowered
from airepair.types import Split


@dataclass(frozen=True, eq=False)
class Exam:
    """It holds the logits (N x K, float32, on the CPU) and labels (N) of one model on one split."""

    logits: Tensor
    y: Tensor

    @cached_property
    def probabilities(self) -> Tensor:
        """Returns the softmax of the logits, N x K."""
        return self.logits.softmax(1)

    @cached_property
    def predictions(self) -> Tensor:
        """Returns the class of the largest logit, N."""
        return self.logits.argmax(1)

    @cached_property
    def right(self) -> Tensor:
        """Whether each prediction is the label, N booleans."""
        return self.predictions == self.y

    @property
    def accuracy(self) -> float:
        """Returns the share of right predictions; NaN-free only on a split that is not empty."""
        return float(self.right.double().mean())

    @property
    def loss(self) -> float:
        """Returns the mean cross-entropy."""
        return float(nn.functional.cross_entropy(self.logits, self.y))

    @property
    def standing(self) -> tuple[float, float]:
        """What the better of two states has more of: accuracy, then minus the loss (-inf where that
        is no number).
        """
        return self.accuracy, -self.loss if math.isfinite(self.loss) else -math.inf

    def select(self, index: Tensor) -> Exam:
        """Returns the exam on some of its images."""
        return Exam(self.logits[index], self.y[index])


NONE = Exam(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))  # of no images


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """Puts every submodule in evaluation mode; the modes come back at the end."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield module
    finally:
        for m, mode in modes.items():
            m.training = mode


def sit(module: nn.Module, split: Split, batch_size: int = 1024, *, quick: bool = False) -> Exam:
    """Runs one forward pass of `module` over `split`, without gradients and in evaluation mode;
    `quick` as in logits_of.
    """
    logits = logits_of(module, split.x, batch_size, quick=quick)
    return Exam(logits.float().cpu(), split.y.cpu())


@torch.no_grad()
def logits_of(module: nn.Module, x: Tensor, batch_size: int = 1024, *, quick: bool = False) -> Tensor:
    """Returns the logits (N x K, on the device of x) of images that are uint8 in 0..255 or float in [0,
    1].

    `quick`: in the precision that the module trains in (airepair/host/arithmetic/precision.py): for
    selection while a repair runs, never for what a record reports.
    """
    if not len(x):
        return x.new_zeros((0, 1), dtype=torch.float32)

    def answered(size: int) -> Tensor:
        batches = x.split(size)
        return torch.cat(
            [
                checked(
                    module(laid_out(module, b.float().div_(255) if b.dtype == torch.uint8 else b)), len(b)
                )
                for b in batches
            ]
        )

    with evaluating(module), lowered(module) if quick else in_float32(x.device):
        return halving(answered, min(batch_size, len(x)), "images at once in an evaluation")


def checked(found: object, count: int) -> Tensor:
    """Returns a module's answer to `count` images, if it is logits: a dense N x K tensor of
    floating-point numbers.

    TypeError otherwise.
    """
    if not isinstance(found, Tensor):
        raise TypeError(f"the module returns {type(found).__name__}; accepted: a tensor of logits")
    if (
        found.layout is not torch.strided
        or not found.is_floating_point()
        or found.ndim != 2
        or len(found) != count
    ):
        what = f"{found.dtype} of shape {tuple(found.shape)}" + (
            "" if found.layout is torch.strided else f", {found.layout}"
        )
        raise TypeError(
            f"the module returns {what}; accepted: dense floating-point logits, ({count}, classes)"
        )
    return found


def confusion_matrix(exam: Exam, classes: int) -> Tensor:
    """Counts, true class in rows and predicted class in columns (K x K)."""
    return torch.bincount(exam.y * classes + exam.predictions, minlength=classes * classes).reshape(
        classes, classes
    )


def most_confused(exam: Exam, classes: int) -> tuple[int, int] | None:
    """Returns the classes (a, b), a < b, that are taken for each other most often; ties to the
    lower ids; None if nothing is confused.
    """
    matrix = confusion_matrix(exam, classes)
    both = (matrix + matrix.T).triu(1)
    if not int(both.max()):
        return None
    flat = int(both.flatten().argmax())
    return flat // classes, flat % classes
