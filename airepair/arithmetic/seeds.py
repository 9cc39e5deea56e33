"""Independent streams of random numbers from one cell seed: what draws the splits never shares a
stream with what draws a fault. Free of torch.
"""

from __future__ import annotations

import numpy as np


def stream(purpose: int, seed: int, part: int = 0) -> int:
    """The seed of a generator (32 bits) for one `purpose` of a cell's `seed`; each `part` of that
    purpose has a stream of its own.

    numpy's SeedSequence mixes the three, so that neighbouring seeds and purposes give unrelated
    streams. (torch's CPU generator takes the lowest 32 bits of what it is given: seeds that differ
    above them would be the same stream.)
    """
    return int(np.random.SeedSequence([purpose, seed, part]).generate_state(1)[0])
