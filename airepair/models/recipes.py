"""How the grid's subjects are trained, and the fault that gives each something to repair. Reviewed by hand; every line names its origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airepair.types import Recipe


@dataclass(frozen=True)
class Training:
    """A recipe, the fault applied to the training data (name and options), and where both come from."""

    recipe: Recipe
    origin: str
    fault: str | None = None
    fault_options: tuple[tuple[str, Any], ...] = ()


# SGD with Nesterov momentum .9, lr .05 (x .1 at 50 %, x .01 at 75 %), weight decay 1e-4, batch 64, 60 epochs, no augmentation;
# 15 % uniform label noise and 40 % of 3 and 8 swapped: trained to convergence, with a fault of known cause (protocol: "Digits").
DIGITS = Training(Recipe(), "docs/protocol.md, digits", "mislabelled", (("severity", 0.4), ("uniform", 0.15)))
# One pass over the images at one cycle: converged enough for these data sets, and affordable on a CPU.
GREY = Training(Recipe(lr=0.1, batch_size=128, epochs=12, schedule="onecycle"), "this project")
# gpu.md's loop: 30 epochs of one cycle, crop and flip, label smoothing .1 (ResNet-18: .75 on CIFAR-100 in a third of a minute on an H100).
CIFAR = Training(
    Recipe(lr=0.4, batch_size=512, epochs=30, weight_decay=5e-4, schedule="onecycle", augment="crop+flip", label_smoothing=0.1),
    "this project",
)

TRAININGS: dict[str, Training] = {"digits": DIGITS, "mnist": GREY, "fashion_mnist": GREY, "cifar10": CIFAR, "cifar100": CIFAR}
