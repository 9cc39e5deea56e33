"""Which test images are right, small enough for a record: packed, compressed bits as text. Free of torch.

Test images are numbered by their index in the source data set (Split.index), in rising order, so
that the answers of two models and of two seeds meet image by image without any other file. 497
answers take about 90 characters.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airepair.records import packed_bits


def pack(bits: Sequence[bool] | NDArray[np.bool_]) -> str:
    """Returns booleans as text: their number, a colon, and the packed bits."""
    mask = np.asarray(bits, bool)
    return f"{len(mask)}:{base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()}"


def unpack(text: str) -> NDArray[np.bool_]:
    """Returns the booleans of a text; UsageError for a text that `pack` has not made."""
    packed, count = packed_bits.read(text)
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)


def tested(index: NDArray[Any]) -> str:
    """Returns the set of test images as text, by their indices."""
    mask = np.zeros(int(index.max(initial=-1)) + 1, bool)
    mask[index] = True
    return pack(mask)


def indices(text: str) -> NDArray[Any]:
    """Returns the indices of a set of test images, rising."""
    return np.flatnonzero(unpack(text))


def right(answers: NDArray[np.bool_], index: NDArray[Any]) -> str:
    """The answers as text, in the order of rising indices."""
    return pack(answers[np.argsort(index)])
