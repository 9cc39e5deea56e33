"""Which part of the training data each submodel sees."""

from __future__ import annotations


def windows(n: int, count: int, share: float) -> list[slice]:
    """Returns `count` sliding windows over n images, all of the size n * share (two images at
    least), step (n - size) / count.

    Authors' code: 20 windows of 10,000 over 40,000 images, step 1,500.
    """
    size = min(n, max(2, round(n * share)))
    starts = [round(k * (n - size) / count) for k in range(count)]
    return [slice(start, start + size) for start in starts]
