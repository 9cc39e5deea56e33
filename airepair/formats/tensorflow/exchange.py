"""A network in MMdnn's terms as files in a folder: how the worker and its caller hand it over. Free of
TensorFlow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from airepair.formats.mmdnn import ir as mmdnn


def save(model: mmdnn.IRModel, folder: Path) -> None:
    """Writes ir.pb and weights.npz."""
    (folder / "ir.pb").write_bytes(model.graph.SerializeToString())
    arrays: Any = {f"{node}|{kind}": a for node, kinds in model.weights.items() for kind, a in kinds.items()}
    np.savez(folder / "weights.npz", **arrays)


def restore(folder: Path, names: dict[str, str], momentum: dict[str, float]) -> mmdnn.IRModel:
    """Returns the IR that `save` left."""
    graph = mmdnn.graph_pb2().GraphDef.FromString((folder / "ir.pb").read_bytes())
    weights: dict[str, dict[str, Any]] = {}
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        for key in arrays.files:
            node, _, kind = key.partition("|")
            weights.setdefault(node, {})[kind] = arrays[key]
    return mmdnn.IRModel(graph, weights, names, momentum)
