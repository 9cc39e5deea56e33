"""backdoor: a patch in a corner that makes the subject answer a target class (Gu et al., "BadNets", 2017).

`severity` is the share of the training images that carry the patch and the target's label, drawn
from the other classes. It spoils copies of the test inputs of the other classes that carry the
patch; the inputs without it stay as they are. The clean repair split does not show the fault, so
repair and validation hold such copies beside their images, with the right labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from airepair.faults.fault import Fault, check_classes
from airepair.options import option
from airepair.types import Split


@dataclass(frozen=True)
class Backdoor(Fault):
    """This fault puts a trigger with a target class into training images."""

    name: ClassVar[str] = "backdoor"

    severity: float = option(0.1, "share of the training images that is poisoned", low=0.0001, high=0.9)
    goal: int = option(0, "the target class", low=0)

    @property
    def target(self) -> int:
        """Returns the class that the patch leads to."""
        return self.goal

    def train(self, split: Split, classes: int) -> Split:
        """Returns the split with some images poisoned: the patch on them, the target for their
        label.
        """
        check_classes(self, (self.goal,), classes)
        others = (split.y.cpu() != self.goal).nonzero()[:, 0]
        order = others[torch.randperm(len(others), generator=self.generator())]
        chosen = order[: round(self.severity * len(split))].to(split.x.device)
        x, y = split.x.clone(), split.y.clone()
        x[chosen], y[chosen] = patched(split.x[chosen]), self.goal
        return replace(split, x=x, y=y)

    def triggered(self, split: Split) -> Split:
        """Returns the inputs of the other classes with the patch on them."""
        others = split.select((split.y != self.goal).nonzero()[:, 0])
        return replace(others, x=patched(others.x))


def patched(x: Tensor) -> Tensor:
    """Copies of the images (N x C x H x W) with a white square of an eighth of the height, two
    pixels at least, in the lower right corner.
    """
    size = max(2, x.shape[2] // 8)
    x = x.clone()
    x[:, :, -size:, -size:] = 255 if x.dtype == torch.uint8 else 1.0
    return x
