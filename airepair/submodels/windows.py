"""Which part of the training data each submodel sees."""

from __future__ import annotations

from airepair.types import Recipe


def windows(n: int, count: int, share: float) -> list[slice]:
    """`count` sliding windows over n images, all of the size n * share (two images at least), step (n - size) / count.

    Authors' code: 20 windows of 10,000 over 40,000 images, step 1,500.
    """
    size = min(n, max(2, round(n * share)))
    starts = [round(k * (n - size) / count) for k in range(count)]
    return [slice(start, start + size) for start in starts]


def starts(size: int, recipe: Recipe) -> list[int]:
    """Where the batches of a window begin; a last batch of one image is dropped (training.batches), unless the window holds no other."""
    return [s for s in range(0, size, recipe.batch_size) if size - s > 1 or size == 1]


def images(size: int, recipe: Recipe) -> int:
    """Images through forward and backward while one submodel trains on a window: a last batch of one image is dropped (training.batches)."""
    return recipe.epochs * (size - (1 if size > 1 and size % recipe.batch_size == 1 else 0))
