"""One call of a function over many candidates: `torch.func.vmap` in chunks that fit, one after
another where vmap cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from airepair.types import Meter

# Floats of the widest activation that one chunk may hold: what stays near a core's cache, and what
# fills an accelerator.
CPU_FLOATS, DEVICE_FLOATS = 1 << 20, 1 << 27


def chunk_of(floats: int, device: torch.device) -> int:
    """Returns how many candidates to run together where each needs `floats` floats."""
    return max(1, (CPU_FLOATS if device.type == "cpu" else DEVICE_FLOATS) // max(1, floats))


def over(function: Callable[..., Tensor], arguments: tuple[Tensor, ...], chunk: int) -> Tensor:
    """Returns `function` of each row of the `arguments` (all of the same length), stacked.

    A module whose forward writes into a tensor that does not depend on the candidate cannot be
    vmapped; its candidates run one by one.
    """
    parts = []
    for rows in zip(*(a.split(chunk) for a in arguments), strict=True):
        try:
            parts.append(torch.func.vmap(function)(*rows))
        except RuntimeError:  # what is wrong with the function itself is raised again here
            parts.append(torch.stack([function(*row) for row in zip(*rows, strict=True)]))
    return torch.cat(parts)


@contextmanager
def counted(meter: Meter, images: int) -> Iterator[None]:
    """Whatever the hook on the root counts within (once for all candidates of a batched call),
    `images` forward is what the meter gains.
    """
    before = meter.mark()
    yield
    meter.rewind(before)
    meter.add(images, training=False)
