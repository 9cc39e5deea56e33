"""Is the converted network still the same function? Largest logit difference and arg-max agreement
on a few hundred inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from airepair.errors import UsageError
from airepair.models.layouts import arranged, layouts_of

CHECK_INPUTS = 256
# a factor below this one is meant for pixels of 0..255 (1/255, or 1/255 divided by a standard
# deviation)
WHOLE_BYTES = 0.05
TOLERANCE = (
    1e-4  # relative to the standard deviation of the logits; conversions that are right stay below 8e-6
)


@dataclass(frozen=True)
class Fidelity:
    """It holds `difference`: largest absolute difference of the outputs; `limit`: what was allowed;
    `agreement`: share of equal arg-max (near-ties aside).
    """

    difference: float
    agreement: float
    n: int
    limit: float

    @property
    def faithful(self) -> bool:
        """Within the tolerance, and the same answers."""
        return self.difference <= self.limit and self.agreement == 1.0

    def facts(self) -> dict[str, float | int]:
        """Returns them for the record."""
        return {"difference": self.difference, "agreement": self.agreement, "n": self.n, "limit": self.limit}

    def __str__(self) -> str:
        return (
            f"max difference {self.difference:.2g} (allowed {self.limit:.2g}), "
            f"arg-max agreement {self.agreement:.4f} on {self.n} inputs"
        )


def compare(
    source: np.ndarray[Any, Any], ours: np.ndarray[Any, Any], tolerance: float = TOLERANCE
) -> Fidelity:
    """Returns two N x K outputs of the same inputs.

    The limit is `tolerance` x max(1, std of `source`); arg-max may differ where the top two are
    closer.
    """
    source, ours = np.asarray(source, np.float64), np.asarray(ours, np.float64)
    if source.shape != ours.shape:
        raise UsageError(
            f"the converted network answers with shape {ours.shape}, the file's with {source.shape}"
        )
    if not np.isfinite(source).all():
        raise UsageError("the network in the file answers with numbers that are not finite")
    limit = tolerance * max(1.0, float(source.std()))
    difference = float(np.abs(source - ours).max()) if source.size else 0.0
    top = np.sort(source, 1)
    close = top[:, -1] - top[:, -2] < limit if source.shape[1] > 1 else np.ones(len(source), bool)
    agree = (source.argmax(1) == ours.argmax(1)) | close
    return Fidelity(
        difference if np.isfinite(difference) else float("inf"), float(agree.mean()), len(source), limit
    )


def check_inputs(
    shape: tuple[int, ...],
    images: np.ndarray[Any, Any] | None = None,
    scale: float = 1.0,
    *,
    channels_last: bool = False,
) -> np.ndarray[Any, Any]:
    """Returns seeded N(0, 1) inputs of `shape` (C, H, W, or the axes of a network without
    channels), float32, and behind them the data set's images.

    `images` are N x C x H x W in [0, 1], and are laid out as the network takes them; where they do
    not fit, they are left out. `scale` is the largest factor of the file's own scaling: where that
    turns 0..255 into small numbers, the images are given as 0..255. `channels_last`: a flat vector
    holds pixel after pixel.
    """
    drawn = np.random.default_rng(0).standard_normal((CHECK_INPUTS, *shape)).astype(np.float32)
    layouts = layouts_of(shape, images.shape[1:], channels_last) if images is not None else ()
    if images is None or not layouts:
        return drawn
    return np.concatenate(
        [drawn, arranged(images.astype(np.float32), layouts[0]) * (255 if abs(scale) < WHOLE_BYTES else 1)]
    )


def require(fidelity: Fidelity, what: str, where: str = "") -> Fidelity:
    """Returns `fidelity`; it raises a UsageError that names `what` was converted and the first
    layer that differs (`where`), if known.
    """
    if fidelity.faithful:
        return fidelity
    found = f"; the first layer that differs: {where}" if where else ""
    raise UsageError(f"{what}: the converted network is not the same function: {fidelity}{found}")
