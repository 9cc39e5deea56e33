"""What opening a model file gives: the network, where it came from, how faithfully it was
converted, and the way back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from airepair.errors import UsageError
from airepair.formats.fidelity import Fidelity
from airepair.formats.library_warnings import without_warnings
from airepair.models.layouts import Shape

# Writes the weights of a module (of the opened architecture) to a path that does not exist yet; the
# fidelity of the written file, if checked.
Writer = Callable[[nn.Module, Path], "Fidelity | None"]


@dataclass(frozen=True)
class InputScaling:
    """It is the scaling that the file itself carries: network input = scale * file input + offset,
    one number for each channel (or one for all).
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    source: str

    @property
    def largest(self) -> float:
        """Returns the largest factor, whatever its sign."""
        return max(abs(s) for s in self.scale)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """It is an opened model file.

    module    the network, raw (without the file's own scaling): float N x shape -> logits N x K, on
    the CPU, in eval mode
    kind      the format's name (see FORMATS)
    shape     one input of the module, where the file says it: C, H, W, or the file's own axes where
    it has no channel axis (28 x 28, 784, ...)
    feed      the scaling layers or mean/std found in the file; None if there are none
    fidelity  file against module on the check inputs; None if nothing was converted
    layers    the module's layer names -> the names in the user's file
    facts     what a checkpoint dictionary says beside its weights (plain values)
    channels_last   the format lays images out channels last: its files are converted, and a flat
    vector holds pixel after pixel
    """

    module: nn.Module
    kind: str
    source: Path
    writer: Writer
    shape: Shape | None = None
    feed: InputScaling | None = None
    fidelity: Fidelity | None = None
    notes: tuple[str, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ".pt"
    facts: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = False

    def write(self, module: nn.Module, out: str | Path) -> Fidelity | None:
        """Writes `module` as a copy of the user's own file with the weights replaced; the fidelity of
        the written file where it was converted.

        UsageError if `module` has other weights than the file can hold, or `out` is the user's own file.
        """
        out = Path(out)
        if out.exists() and os.path.samefile(out, self.source):
            raise UsageError(f"{out} is the original file; write the repaired model to another path")
        same_structure(self.module, module)
        with without_warnings():
            return self.writer(module, out)


def same_structure(original: nn.Module, repaired: nn.Module) -> None:
    """Raises UsageError if the two modules differ in the names or shapes of their weights: the file's
    format cannot hold the change.
    """
    before = {k: tuple(v.shape) for k, v in original.state_dict().items()}
    after = {k: tuple(v.shape) for k, v in repaired.state_dict().items()}
    if before == after:
        return
    differing = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))[:3]
    text = ", ".join(f"{k} {before.get(k, 'absent')} -> {after.get(k, 'absent')}" for k in differing)
    raise UsageError(
        f"the repair changed the architecture ({text}); the original format cannot hold it, use the .pt file"
    )
