"""Networks and images for the measurements: shapes and sizes of the real subjects, random weights
and pixels (speed does not depend on them).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from airepair.models import digits, plain, resnet
from airepair.types import Recipe, Split

CLASSES = 10


@dataclass(frozen=True)
class Net:
    """An architecture with its image shape, the batch it trains with and its augmentation."""

    name: str
    shape: tuple[int, int, int]
    batch: int
    augment: str = "none"

    def module(self, device: torch.device) -> nn.Module:
        """Fresh weights from a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.name.startswith("digits"):
                made = (digits.fc if self.name.endswith("fc") else digits.cnn)(CLASSES, self.shape)
            elif self.name.startswith("mnist"):
                made = (plain.fc if self.name.endswith("fc") else plain.cnn)(CLASSES, self.shape)
            else:
                kind, _, width = self.name.partition("w")
                build = {
                    "resnet18": resnet.resnet18,
                    "resnet34": resnet.resnet34,
                    "resnet50": resnet.resnet50,
                }[kind]
                made = build(CLASSES, self.shape, int(width or 64))
        return made.to(device)

    def images(self, n: int, device: torch.device) -> Split:
        """Random labelled images, bytes as the data sets keep them (digits: floats)."""
        generator = torch.Generator().manual_seed(1)
        x = torch.randint(256, (n, *self.shape), dtype=torch.uint8, generator=generator)
        kept = x.float() / 255 if self.name.startswith("digits") else x
        return Split(kept, torch.randint(CLASSES, (n,), generator=generator)).to(device)

    def recipe(self, epochs: int = 1) -> Recipe:
        """SGD with Nesterov momentum, as the subjects are trained."""
        return Recipe(batch_size=self.batch, epochs=epochs, augment=self.augment)  # type: ignore[arg-type]


DIGITS_FC, DIGITS_CNN = Net("digits fc", (1, 8, 8), 64), Net("digits cnn", (1, 8, 8), 64)
MNIST_FC, MNIST_CNN = Net("mnist fc", (1, 28, 28), 128), Net("mnist cnn", (1, 28, 28), 64)
SMALL_RESNET = Net("resnet18w16", (3, 32, 32), 64, "crop+flip")
RESNETS = tuple(
    Net(f"resnet{k}", (3, 32, 32), batch, "crop+flip")
    for k, batch in ((18, 128), (18, 512), (18, 1024), (34, 512), (50, 512))
)
