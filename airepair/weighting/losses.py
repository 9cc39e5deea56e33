"""The losses of w-loss and w-dbr, on logits (N x K) and labels (N) of one batch (methods.md 2b)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def confused_loss(logits: Tensor, y: Tensor, pair: tuple[int, int], weight: float) -> Tensor:
    """w-loss: (1 - t) CE + t L, L the mean over both directions of CE on images of one class that are predicted as the other.

    A direction that is absent leaves the other's mean; both absent leave plain cross-entropy.
    """
    each, guess = nn.functional.cross_entropy(logits, y, reduction="none"), logits.argmax(1)
    directions = [(y == a) & (guess == b) for a, b in (pair, pair[::-1])]
    present = [each[d].mean() for d in directions if bool(d.any())]
    return (1 - weight) * each.mean() + weight * torch.stack(present).mean() if present else each.mean()


def distance_loss(logits: Tensor, y: Tensor, classes: tuple[int, int, int | None], lam: float) -> Tensor:
    """w-dbr: lam CE - (1 - lam) d(first, second), d the L2 distance of the classes' mean softmax.

    Its bias form, with a third class: lam CE + (1 - lam) |d(first, third) - d(second, third)|. A batch that lacks one of the classes has
    no distance: plain cross-entropy.
    """
    entropy, p = nn.functional.cross_entropy(logits, y), logits.softmax(1)
    wanted = [c for c in classes if c is not None]
    if not all(bool((y == c).any()) for c in wanted):
        return entropy
    centres = [p[y == c].mean(0) for c in wanted]
    if len(centres) == 2:
        distance: Tensor = (centres[0] - centres[1]).norm()
        return lam * entropy - (1 - lam) * distance
    gap: Tensor = (centres[0] - centres[2]).norm() - (centres[1] - centres[2]).norm()
    return lam * entropy + (1 - lam) * gap.abs()
