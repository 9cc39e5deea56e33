"""What cameras and files do (parameters: CIFAR-10-C)."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def contrast(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Draws each channel towards its mean over the image."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean


def pixelate(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Resized to a coarser grid and back, both by PIL's box filter (it counts a pixel by where its
    centre lies).
    """
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]

    def change(image: Image.Image) -> Image.Image:
        coarse = [max(1, int(side * share)) for side in image.size]
        return image.resize((coarse[0], coarse[1]), Image.Resampling.BOX).resize(
            image.size, Image.Resampling.BOX
        )

    return _each(x, change)


def jpeg_compression(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Writes each image to a JPEG file of quality 80 to 40, and reads it again."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def change(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(x, change)


def _each(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Each image through PIL, with eight bits a value, on the CPU; channels one by one where they
    are neither one nor three.
    """
    n, c, h, w = x.shape
    values = (x * 255).round().to(torch.uint8).cpu()
    values = values.permute(0, 2, 3, 1) if c == 3 else values.reshape(n * c, h, w)
    changed = np.stack([np.asarray(change(Image.fromarray(image))) for image in values.numpy()])
    found = torch.from_numpy(changed).to(x.device)
    found = found.permute(0, 3, 1, 2) if c == 3 else found.reshape(n, c, h, w)
    return found.to(x.dtype) / 255
