"""SavedModels of TensorFlow 1 and 2 as frozen graphs, and copies of them with other weights.

TensorFlow's own loader rebuilds the whole object that was saved, the optimizer included, and fails
on those of Keras 2. Here only the serving signature and the restoring of its variables are taken
from the graph that every SavedModel has; the rest is never loaded. Which checkpoint entry a
variable holds is read from a copy in which each entry is a number of its own. Keras 3 writes each
weight twice, one for that graph (which TensorFlow Serving runs) and one for TensorFlow's own
loader: both places are kept, so that both get a repair.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from airepair.errors import UsageError
from airepair.formats.tensorflow.ends import ends, words
from airepair.formats.tensorflow.graph import INFERENCE, Frozen, allowed, counted, on_one_thread, part_of

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
_RESOURCE = 20  # the type of a variable's handle
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the checkpoint's own description of its entries
# What a signature needs beside its operations: variables, calls, and reading the checkpoint.
# Nothing here writes.
CONTAINER = INFERENCE | words(
    "VarHandleOp VariableV2 Variable AssignVariableOp Assign VarIsInitializedOp PartitionedCall "
    "StatefulPartitionedCall RestoreV2"
)


def saved(path: Path, data: bytes) -> Frozen:
    """Returns the frozen graph of the serving signature. UsageError as tf_graph.load; DecodeError
    for damage.
    """
    found = saved_model_pb2.SavedModel.FromString(data)
    if not found.meta_graphs:
        raise UsageError(f"{path} holds no graph")
    meta = next((m for m in found.meta_graphs if "serve" in m.meta_info_def.tags), found.meta_graphs[0])
    if meta.asset_file_def or any(
        n.WhichOneof("kind") in ("asset", "resource", "captured_tensor") for n in meta.object_graph_def.nodes
    ):
        raise UsageError(f"{path} has assets, tables or other resources; such models are not read")
    counted(meta.graph_def, path)
    signature = _signature(path, meta)
    second = len(meta.object_graph_def.nodes) > 0
    graph, outputs, places = (_second_version if second else _first_version)(path, meta, signature)
    source, target, behind = ends(graph, outputs, str(path))
    kept = part_of(graph, [target])
    allowed(kept, INFERENCE, path)
    return Frozen(kept, source, target, places, behind)


def _signature(path: Path, meta: Any) -> Any:
    """The serving signature; if none is called so, the one with one input.

    A signature that trains takes labels, too.
    """
    found = {k: s for k, s in meta.signature_def.items() if s.inputs and s.outputs}
    alone = [k for k, s in found.items() if len(s.inputs) == 1]
    if "serving_default" not in found and not alone:
        raise UsageError(
            f"{path} has no signature with one input and an output (found: "
            f"{', '.join(meta.signature_def) or 'none'})"
        )
    return found["serving_default" if "serving_default" in found else alone[0]]


def _first_version(path: Path, meta: Any, signature: Any) -> tuple[Any, list[str], dict[str, list[str]]]:
    """TF1: no session runs; variables are in the checkpoint by their names."""
    outputs = [_node(t.name) for t in signature.outputs.values()]
    kept = part_of(meta.graph_def, outputs)
    reader = tf.train.load_checkpoint(str(path / "variables/variables"))
    names = [n.name for n in kept.node if n.op in _VARIABLES]
    absent = [n for n in names if not reader.has_tensor(n)]
    if absent:
        raise UsageError(f"{path}: the variable {absent[0]!r} is not in its checkpoint")
    return _with_constants(kept, {n: reader.get_tensor(n) for n in names}), outputs, {n: [n] for n in names}


def _second_version(path: Path, meta: Any, signature: Any) -> tuple[Any, list[str], dict[str, list[str]]]:
    """TF2: the checkpoint's entries have names of their own, and the network is in functions."""
    outputs = [t.name for t in signature.outputs.values()]
    restoring = [meta.saver_def.restore_op_name] if meta.saver_def.restore_op_name else []
    kept = part_of(meta.graph_def, [*map(_node, outputs), *restoring])
    allowed(kept, CONTAINER, path)
    values = _restored(kept, meta.saver_def, path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "numbered"
        shutil.copytree(path, copy)
        keys = _numbered(copy)
        numbers = _restored(kept, meta.saver_def, copy)
    places = {k: [keys[float(v.flat[0])]] for k, v in numbers.items() if v.size and float(v.flat[0]) in keys}
    for name, key in _of_the_loader(meta, path, [_node(o) for o in outputs]).items():
        if key not in places.setdefault(name, [key]):
            places[name].append(key)
    _one_network(path, places)
    flat, names = _inlined(
        part_of(kept, [_node(o) for o in outputs]), [t.name for t in signature.inputs.values()], outputs
    )
    return _with_constants(flat, values), names, places


def _of_the_loader(meta: Any, path: Path, calls: list[str]) -> dict[str, str]:
    """Variable of the graph -> the checkpoint entry from which TensorFlow's own loader fills it.

    A signature's call reads the variables that its function is bound to; these are objects of the
    model, which the checkpoint names alike.
    """
    reader, _ = _checkpoint(path)
    if not reader.has_tensor(_OBJECTS):
        return {}
    kept = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_OBJECTS))
    objects, alike, waiting = meta.object_graph_def.nodes, {0: 0}, [(0, 0)]
    while waiting:
        ours, theirs = waiting.pop()
        children = {c.local_name: c.node_id for c in kept.nodes[theirs].children}
        for child in objects[ours].children:
            if child.local_name in children and child.node_id not in alike:
                alike[child.node_id] = children[child.local_name]
                waiting.append((child.node_id, children[child.local_name]))
    found = {}
    for node in meta.graph_def.node:
        function = (
            meta.object_graph_def.concrete_functions.get(node.attr["f"].func.name)
            if node.name in calls
            else None
        )
        bound = list(function.bound_inputs) if function is not None else []
        for name, number in zip(node.input[len(node.input) - len(bound) :], bound, strict=True):
            keys = [a.checkpoint_key for a in kept.nodes[alike[number]].attributes] if number in alike else []
            if len(keys) == 1:
                found[_node(name)] = keys[0]
    return found


def _one_network(path: Path, places: dict[str, list[str]]) -> None:
    """Raises UsageError if the two places of a weight hold different numbers: the file would be two
    networks.
    """
    reader, _ = _checkpoint(path)
    for name, keys in places.items():
        if len(keys) > 1 and not np.array_equal(*(reader.get_tensor(k) for k in keys)):
            raise UsageError(
                f"{path}: {name!r} stands in the checkpoint as {keys[0]} and as {keys[1]}, "
                f"with different numbers"
            )


def _restored(graph: Any, saver: Any, path: Path) -> dict[str, Any]:
    """What each variable holds after the graph has read the checkpoint of `path`."""
    v1 = tf.compat.v1
    variables = [n for n in graph.node if n.op == "VarHandleOp"]
    if not variables or not saver.restore_op_name:
        return {}
    with v1.Graph().as_default() as made, v1.Session(graph=made, config=on_one_thread()) as session:
        v1.import_graph_def(graph, name="")
        session.run(saver.restore_op_name, {saver.filename_tensor_name: str(path / "variables/variables")})
        handles = [(made.get_tensor_by_name(f"{n.name}:0"), n.attr["dtype"].type) for n in variables]
        read = session.run(
            [tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype) for handle, dtype in handles]
        )
    return {n.name: np.asarray(v) for n, v in zip(variables, read, strict=True)}


def _inlined(graph: Any, inputs: list[str], outputs: list[str]) -> tuple[Any, list[str]]:
    """The graph with its function calls written out, and its output nodes; variables stay."""
    v1 = tf.compat.v1
    whole = v1.wrap_function(lambda: v1.import_graph_def(graph, name=""), [])
    found = convert_variables_to_constants_v2(whole.prune(inputs, outputs))
    flat = found.graph.as_graph_def()
    nodes = {n.name: n for n in flat.node}
    names = []
    for tensor in found.outputs:
        node, number = nodes[tensor.op.name], tensor.value_index
        names.append(_node(node.input[number]) if node.op == "IdentityN" else node.name)
    return flat, names


def _with_constants(graph: Any, values: dict[str, Any]) -> Any:
    """The graph with constants for its variables, which are read without handles."""
    nodes = {n.name: n for n in graph.node}
    made = type(graph)()
    for node in graph.node:
        if node.op == "Identity" and node.attr["T"].type == _RESOURCE:
            continue
        kept = made.node.add()
        kept.CopyFrom(node)
        if node.name in values:
            array = values[node.name]
            kept.Clear()
            kept.name, kept.op = node.name, "Const"
            kept.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
            kept.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
        elif node.op == "ReadVariableOp":
            handle = node.input[0]
            while nodes[_node(handle)].op == "Identity":
                handle = nodes[_node(handle)].input[0]
            kept.Clear()
            kept.name, kept.op = node.name, "Identity"
            kept.input.append(handle)
            kept.attr["T"].type = node.attr["dtype"].type
    return made


def _node(tensor: str) -> str:
    return tensor.split(":")[0]


def _numbered(path: Path) -> dict[float, str]:
    """Fills every float entry of a SavedModel's checkpoint with a number of its own; number -> key."""
    reader, keys = _checkpoint(path)
    floats = [k for k in keys if reader.get_variable_to_dtype_map()[k].is_floating]
    numbers = {k: 1000.5 + i for i, k in enumerate(floats)}
    rewrite(path, {k: np.full(reader.get_variable_to_shape_map()[k], numbers[k], np.float32) for k in floats})
    return {v: k for k, v in numbers.items()}


def _checkpoint(path: Path) -> tuple[Any, list[str]]:
    reader = tf.train.load_checkpoint(str(path / "variables/variables"))
    return reader, sorted(reader.get_variable_to_shape_map())


def rewrite(path: Path, new: dict[str, Any]) -> None:
    """Replaces entries of a SavedModel's checkpoint; the other entries and saved_model.pb stay as
    they are.
    """
    reader, keys = _checkpoint(path)
    tensors = []
    for key in keys:
        old = reader.get_tensor(key)
        tensors.append(tf.constant(new[key].astype(old.dtype).reshape(old.shape) if key in new else old))
    with tempfile.TemporaryDirectory(dir=path) as folder:
        prefix = f"{folder}/variables"
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=tensors
        )
        for old_file in (path / "variables").iterdir():
            old_file.unlink()
        for file in Path(folder).iterdir():
            shutil.move(str(file), path / "variables" / file.name)
