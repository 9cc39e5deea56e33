"""tiles: made-up pictures of tiles, whole, cracked or chipped, to show a data set in a package of its own."""

import torch

from airepair.data.source import Source
from airepair.types import Robustness, Split


def _drawn(n: int, seed: int) -> Split:
    """`n` noisy grey tiles of 8 x 8: a dark diagonal is a crack, a dark corner a chip."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = 0.4 + 0.6 * torch.rand(n, 1, 8, 8, generator=generator)
    x[y == 1] *= 1 - 0.5 * torch.eye(8)
    x[y == 2, :, :3, :3] *= 0.6
    return Split((255 * x).to(torch.uint8), y)


def source() -> Source:
    """Tiles, whole or not; 600 to learn from and 300 to test."""
    return Source(
        name="tiles",
        classes=("whole", "cracked", "chipped"),
        groups=((0,), (1, 2)),
        train=_drawn(600, 0),
        test=_drawn(300, 1),
        robustness=Robustness(2.0, 0.1, 1.0, "chosen by eye"),
    )
