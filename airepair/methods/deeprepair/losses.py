"""The losses of w-loss and w-dbr, on logits (N x K) and labels (N) of one batch (weighted
regularisation, Zhong, Tian et al.).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def confused_loss(logits: Tensor, y: Tensor, targets: tuple[int, ...], weight: float) -> Tensor:
    """Returns the w-loss: (1 - t) CE + t L, L the mean over both directions of CE on images of one
    class that are predicted as the other.

    With a third class L is the mean over the pairs (first, second) and (first, third). What is
    absent from the batch leaves the mean of the rest; nothing present leaves plain cross-entropy.
    """
    each, guess = nn.functional.cross_entropy(logits, y, reduction="none"), logits.argmax(1)
    pairs = []
    for other in targets[1:]:
        directions = [(y == a) & (guess == b) for a, b in ((targets[0], other), (other, targets[0]))]
        present = [each[d].mean() for d in directions if bool(d.any())]
        pairs += [torch.stack(present).mean()] if present else []
    return (1 - weight) * each.mean() + weight * torch.stack(pairs).mean() if pairs else each.mean()


def distance_loss(logits: Tensor, y: Tensor, targets: tuple[int, ...], lam: float) -> Tensor:
    """Returns the w-dbr loss: lam CE - (1 - lam) d(first, second), d the L2 distance of the
    classes' mean softmax.

    Its bias form, with a third class: lam CE + (1 - lam) |d(first, second) - d(first, third)|. A
    batch that lacks one of the classes has a distance of 0, as in the published code.
    """
    entropy, p = lam * nn.functional.cross_entropy(logits, y), logits.softmax(1)
    if not all(bool((y == c).any()) for c in targets):
        return entropy
    first, *others = (p[y == c].mean(0) for c in targets)
    distances: list[Tensor] = [(first - other).norm() for other in others]
    return (
        entropy - (1 - lam) * distances[0]
        if len(distances) == 1
        else entropy + (1 - lam) * (distances[0] - distances[1]).abs()
    )
