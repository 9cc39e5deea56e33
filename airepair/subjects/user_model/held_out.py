"""Inputs that a user gave (`--failing`), divided for a method that chooses among states: a fifth of
them is never learned from.
"""

from __future__ import annotations

import torch

from airepair.data.splits import stratified
from airepair.types import Split, stream

FEWEST = 5  # given inputs from which on some are held out
HOLDING = 20_251_128  # the purpose of the stream that draws them


def divided(given: Split, seed: int) -> tuple[Split, Split | None]:
    """What is learned from and what is held out, stratified by wanted label; fewer than FEWEST are
    not divided.
    """
    if len(given) < FEWEST:
        return given, None
    count = len(given) // 5
    generator = torch.Generator().manual_seed(stream(HOLDING, seed))
    learned, held = (
        index.to(given.y.device)
        for index in stratified(given.y.cpu(), (len(given) - count, count), generator)
    )
    return given.select(learned), given.select(held)
