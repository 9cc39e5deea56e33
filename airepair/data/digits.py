"""digits: scikit-learn's bundled 1,797 real 8x8 handwritten digits (UCI, Alpaydin and Kaynak 1998),
values 0..16 scaled to [0, 1].

Groups are look-alikes. eps1 is 2.0, the 4 % quantile of the distances on train, where 88 % of the
close pairs share a digit (protocol).
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from airepair.data.source import Source
from airepair.types import Robustness, Split

SIZES = (600, 400, 300, 497)  # train, repair, validation, test (protocol: "Digits")


def source() -> Source:
    """The handwritten digits of scikit-learn are 1,797 images of 1 x 8 x 8, without an official test set."""
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    pool = Split(images, torch.tensor(y, dtype=torch.int64))
    groups = ((0, 6, 8, 9), (1, 4, 7), (2, 3, 5))
    robustness = Robustness(2.0, 0.1, 1.0, "4 % quantile of the distances on train")
    return Source("digits", tuple("0123456789"), groups, pool, None, robustness, SIZES)
