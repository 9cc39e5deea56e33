"""From plain arrays to a Source: N x H x W [x C] to N x C x H x W, uint8 where the file holds bytes."""

from __future__ import annotations

import numpy as np
import torch

from airepair.data.arrays import Array, Arrays
from airepair.types import Robustness, Split

QUANTILE = 0.04  # of pairwise L2 distances (protocol: "RobustnessT")


def split_of(x: Array, y: Array) -> Split:
    """Returns the arrays as a Split on the CPU."""
    images = torch.from_numpy(
        np.array(x if x.dtype == np.uint8 else x.astype(np.float32))
    )  # a copy: frozen buffers cannot be tensors
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return Split(images, torch.from_numpy(y.astype(np.int64)))


def splits_of(arrays: Arrays) -> tuple[Split, Split | None]:
    """Returns the training set and the official test set, if there is one."""
    test = (
        split_of(arrays.x_test, arrays.y_test)
        if arrays.x_test is not None and arrays.y_test is not None
        else None
    )
    return split_of(arrays.x_train, arrays.y_train), test


def close_distance(split: Split, images: int = 1000) -> float:
    """Returns the 4 % quantile of the L2 distances between all pairs of up to `images` evenly
    spaced images, to two digits.
    """
    chosen = torch.linspace(0, len(split) - 1, min(images, len(split))).long()
    distances = torch.pdist(split.images(chosen).flatten(1))
    return float(f"{float(distances.quantile(QUANTILE)):.2g}") if len(distances) else 1.0


def robustness_of(split: Split) -> Robustness:
    """Returns the constants for a data set that has no published ones."""
    return Robustness(close_distance(split), 0.1, 1.0, "4 % quantile of the distances on train")
