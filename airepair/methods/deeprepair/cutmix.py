"""CutMix (Yun et al., ICCV 2019): a rectangle of another image, and both labels by area."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from airepair.training.best_state import Loss

# criterion(logits, y) of one batch
Criterion = Callable[[Tensor, Tensor], Tensor]


def cutmix(criterion: Criterion, beta: float, probability: float, generator: torch.Generator) -> Loss:
    """Returns the criterion on batches of which a share is mixed: one forward pass, both labels
    weighted by area (Beta(beta, beta)).
    """

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if probability == 0 or float(torch.rand((), generator=generator)) >= probability:
            return criterion(module(x), y)
        order = torch.randperm(len(y), generator=generator).to(y.device)
        share = float(torch._sample_dirichlet(torch.tensor([[beta, beta]]), generator)[0, 0])
        image, kept = cut_and_paste(x, x[order], share, generator)
        logits = module(image)
        return kept * criterion(logits, y) + (1 - kept) * criterion(logits, y[order])

    return loss


def cut_and_paste(x: Tensor, other: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Returns x with one rectangle of about (1 - share) of its area from `other`, and the share of
    x that is left.
    """
    height, width = x.shape[2:]
    side = math.sqrt(1 - share)
    cy, cx = (int(torch.randint(n, (), generator=generator)) for n in (height, width))
    y0, y1 = (max(0, min(height, cy + int(s * side * height / 2))) for s in (-1, 1))
    x0, x1 = (max(0, min(width, cx + int(s * side * width / 2))) for s in (-1, 1))
    image = x.clone()
    image[:, :, y0:y1, x0:x1] = other[:, :, y0:y1, x0:x1]
    return image, 1 - (y1 - y0) * (x1 - x0) / (height * width)
