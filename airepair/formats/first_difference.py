"""Where a converted network departs from its file: the first layer whose activations differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from airepair.formats.fidelity import TOLERANCE
from airepair.formats.mmdnn.ir import Array
from airepair.formats.model_file import InputScaling

INPUTS = 8  # enough to see a difference; each layer of the file is run on them


def first_departure(
    module: nn.Module,
    inputs: Array,
    feed: InputScaling | None,
    names: Mapping[str, str],
    theirs: Callable[[str], Array | None],
) -> str:
    """Returns the name in the file of the first layer that differs, in the order of the network; ""
    if none is found.

    `inputs` are the file's (N x C x H x W), `names` the module's layers -> names in the file (the
    last of several counts), and `theirs` the file's activations of a name: N x H x W x C or N x K,
    None if it cannot tell.
    """
    if not isinstance(module, fx.GraphModule):
        return ""
    for name, ours in _activations(module, inputs[:INPUTS], feed, names).items():
        found = theirs(name)
        if found is None:
            continue
        ours = ours.transpose(0, 2, 3, 1) if ours.ndim == 4 else ours
        if found.size != ours.size or np.abs(found.ravel() - ours.ravel()).max() > TOLERANCE * max(
            1.0, float(found.std())
        ):
            return name
    return ""


def _activations(
    module: fx.GraphModule, inputs: Array, feed: InputScaling | None, names: Mapping[str, str]
) -> dict[str, Array]:
    seen: dict[str, Array] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            name = names.get(str(n.target) if n.op == "call_module" else n.name)
            if name is not None and isinstance(value, torch.Tensor):
                seen[name] = value.detach().numpy()
            return value

    scaled = torch.from_numpy(inputs)
    if feed is not None:
        scale, offset = (
            torch.tensor(v).reshape(1, -1, *[1] * (inputs.ndim - 2)) for v in (feed.scale, feed.offset)
        )
        scaled = scaled * scale + offset
    with torch.no_grad():
        Recorder(module).run(scaled.float())
    return seen
