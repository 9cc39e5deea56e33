"""Corruptions: the environments in which a subject may have to work, as seeded, batched transforms
with severities 1 to 5.

Names, parameters and arithmetic are those of CIFAR-10-C (Hendrycks and Dietterich, "Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
github.com/hendrycks/robustness, the values for 32 x 32 images), plus shear, rotate and stripe of
MNIST-C (Mu and Gilmer 2019, github.com/google-research/mnist-c). Given the same random numbers, the
images are those that the published code makes (checked with OpenCV 5.0, scikit-image 0.26 and
ImageMagick 6.9.11: no value off by more than rounding; tests/corruptions/test_published.py holds
the definitions). Lengths are in pixels as published, whatever the image size: on 8 x 8 digits a
blur of one pixel is strong, and an enlargement of less than half a pixel is none. Frost, spatter
and saturate are left out: the first needs photographs.

One channel or three. Everything runs on the images' device but pixelate and jpeg_compression, which
are PIL's; random numbers come from the CPU generator that a transform gets, so that devices agree.
The names can be listed without torch.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airepair.errors import UsageError
from airepair.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from airepair.types import Split

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS = Registry(
    "corruption",
    "airepair.corruptions",
    {
        "gaussian_noise": "airepair.corruptions.noise:gaussian_noise",
        "shot_noise": "airepair.corruptions.noise:shot_noise",
        "impulse_noise": "airepair.corruptions.noise:impulse_noise",
        "speckle_noise": "airepair.corruptions.noise:speckle_noise",
        "gaussian_blur": "airepair.corruptions.blur:gaussian_blur",
        "defocus_blur": "airepair.corruptions.blur:defocus_blur",
        "glass_blur": "airepair.corruptions.blur:glass_blur",
        "motion_blur": "airepair.corruptions.blur:motion_blur",
        "zoom_blur": "airepair.corruptions.blur:zoom_blur",
        "fog": "airepair.corruptions.weather:fog",
        "snow": "airepair.corruptions.weather:snow",
        "brightness": "airepair.corruptions.weather:brightness",
        "contrast": "airepair.corruptions.digital:contrast",
        "pixelate": "airepair.corruptions.digital:pixelate",
        "jpeg_compression": "airepair.corruptions.digital:jpeg_compression",
        "elastic_transform": "airepair.corruptions.geometry:elastic_transform",
        "shear": "airepair.corruptions.geometry:shear",
        "rotate": "airepair.corruptions.geometry:rotate",
        "stripe": "airepair.corruptions.geometry:stripe",
    },
)


@dataclass(frozen=True)
class Corruption:
    """It is a corruption at a severity: a Transform (images in [0, 1], N x C x H x W, and a CPU
    generator, to the same).
    """

    name: str
    severity: int

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The corrupted images, clipped to [0, 1]; the given ones stay as they are."""
        found: Tensor = CORRUPTIONS.get(self.name)(x, self.severity, generator)
        return found.clamp(0, 1)

    def __str__(self) -> str:
        return f"{self.name}{self.severity}"


def parse(text: str) -> Corruption:
    """Returns `fog3` as the corruption fog at severity 3; UsageError for an unknown name or a
    severity that is not 1 to 5.
    """
    match = re.fullmatch(r"([a-z_]+)(-?\d*)", text.strip())
    name, severity = match.groups() if match else (text, "")
    CORRUPTIONS.check(name)
    if severity not in map(str, SEVERITIES):
        raise UsageError(f"corruption {text!r} has no severity from 1 to 5; accepted: for example {name}3")
    return Corruption(name, int(severity))


def corrupted(split: Split, corruption: Corruption, seed: int, batch_size: int = 1024) -> Split:
    """Returns the split with every image corrupted, from that seed; uint8 stays uint8 (rounded
    down, as CIFAR-10-C's files are).
    """
    torch = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(seed)
    parts = [corruption(x, generator) for x, _ in split.batches(batch_size)]
    x = torch.cat(parts) if parts else split.x
    return replace(split, x=(x * 255).to(torch.uint8) if parts and split.x.dtype == torch.uint8 else x)
