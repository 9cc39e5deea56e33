"""The worker's jobs: read a TensorFlow file into IR, write weights back into a copy of it, emit a
TensorFlow file from IR.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from airepair.errors import UsageError
from airepair.formats.fidelity import check_inputs
from airepair.formats.mmdnn import ir as mmdnn
from airepair.formats.mmdnn.from_tensorflow import from_tensorflow
from airepair.formats.mmdnn.to_tensorflow import to_tensorflow
from airepair.formats.tensorflow.canonical import canonical
from airepair.formats.tensorflow.container import load
from airepair.formats.tensorflow.exchange import restore, save
from airepair.formats.tensorflow.graph import Frozen, run
from airepair.formats.tensorflow.saved_model import rewrite


def read(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Reads path, kind and writes ir.pb, weights.npz ("node|kind"), outputs.npz (logits, saved); it
    returns names, places, momentum, scaling, what is behind.
    """
    frozen = load(Path(job["path"]), job["kind"], job["bytes"])
    graph = canonical(frozen)
    model = from_tensorflow(graph)
    save(model, folder)
    _outputs(frozen, graph, folder)
    places = {k: v if v is None else frozen.places.get(v) for k, v in graph.places.items()}
    lost = [
        graph.places[k]
        for k, v in places.items()
        if v is None and graph.places[k] is not None and k.split("|")[1] not in ("scale", "bias")
    ]
    if lost:
        raise UsageError(
            f"{job['path']}: the weight {lost[0]!r} is a constant of the graph, not a variable; "
            f"it could not be written back"
        )
    scaled = graph.scale is not None and bool((graph.scale != 1).any() or (graph.offset != 0).any())
    feed = (
        [(graph.scale + 0 * graph.offset).tolist(), (graph.offset + 0 * graph.scale).tolist()]
        if scaled
        else None
    )
    return {
        "names": model.names,
        "places": places,
        "momentum": model.momentum,
        "feed": feed,
        "behind": frozen.behind,
    }


def write(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Takes path, kind, out, and new.npz (place -> array), and writes the file and outputs.npz of it."""
    path, out = Path(job["path"]), Path(job["out"])
    with np.load(folder / "new.npz", allow_pickle=False) as arrays:
        new = {place: arrays[name] for name in arrays.files for place in job["keys"][name]}
    if job["kind"] == "savedmodel":
        shutil.copytree(path, out)
        rewrite(out, new)
    else:
        graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
        for node in graph.node:
            if node.name in new:
                old = tf.make_ndarray(node.attr["value"].tensor)
                if not np.array_equal(old.ravel(), new[node.name].ravel()):
                    node.attr["value"].tensor.CopyFrom(
                        tf.make_tensor_proto(new[node.name].astype(old.dtype).reshape(old.shape))
                    )
        out.write_bytes(graph.SerializeToString())
    frozen = load(out, job["kind"], job["bytes"])
    _outputs(frozen, canonical(frozen), folder)
    return {}


def layers(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Takes path, kind, shape, names of nodes and writes layers.npz: what these answer on the first
    check inputs, channels last; absent ones are left out.
    """
    frozen = load(Path(job["path"]), job["kind"], job["bytes"])
    there = {n.name for n in frozen.graph.node}
    names = [n for n in job["names"] if n in there]
    inputs = mmdnn.channels_last(check_inputs(tuple(job["shape"]))[: job["n"]])
    arrays: Any = {f"a{i}": a for i, a in enumerate(run(frozen, inputs, names))} if names else {}
    np.savez(folder / "layers.npz", **arrays)
    return {"names": names}


def emit(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Turns ir.pb and weights.npz into a frozen graph or SavedModel at `out`, and writes
    outputs.npz of it.
    """
    out = Path(job["out"])
    to_tensorflow(restore(folder, job["names"], job["momentum"]), out, job["kind"])
    frozen = load(out, job["kind"], job["bytes"])
    _outputs(frozen, canonical(frozen), folder)
    return {}


def _outputs(frozen: Frozen, graph: Any, folder: Path) -> None:
    images = np.load(folder / "images.npy", allow_pickle=False) if (folder / "images.npy").is_file() else None
    scale = 1.0 if graph.scale is None else float(np.abs(graph.scale).max())
    inputs = mmdnn.channels_last(
        check_inputs(mmdnn.torch_shape(graph.shape), images, scale, channels_last=True)
    )
    saved, logits = run(frozen, inputs, [frozen.output, graph.logits or frozen.output])
    np.savez(folder / "outputs.npz", saved=saved, logits=logits)
