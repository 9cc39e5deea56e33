"""TensorFlow graphs in the worker: are they safe to run, and their frozen form with the place of every weight.

Three containers give one thing, a Frozen graph: a frozen .pb as it is; a TF1 SavedModel with its variables put in as constants by name; a TF2
SavedModel frozen by TensorFlow, twice: the second time from a copy whose variables hold their own numbers, so that each constant tells which
variable it came from.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from airepair.errors import UsageError

MAX_NODES = 50_000
# What an inference graph of an image classifier runs. Nothing here reads or writes files, calls Python or loads libraries.
INFERENCE = frozenset(
    (
        *(
            "Placeholder",
            "PlaceholderWithDefault",
            "Const",
            "Identity",
            "IdentityN",
            "NoOp",
            "StopGradient",
            "CheckNumerics",
            "ReadVariableOp",
        ),
        *(
            "Conv2D",
            "DepthwiseConv2dNative",
            "BiasAdd",
            "MatMul",
            "FusedBatchNorm",
            "FusedBatchNormV2",
            "FusedBatchNormV3",
            "MaxPool",
            "AvgPool",
        ),
        *(
            "Relu",
            "Relu6",
            "LeakyRelu",
            "Elu",
            "Tanh",
            "Sigmoid",
            "Softmax",
            "Add",
            "AddV2",
            "AddN",
            "Sub",
            "Mul",
            "RealDiv",
            "Maximum",
            "Minimum",
        ),
        *(
            "Rsqrt",
            "Sqrt",
            "Square",
            "Neg",
            "Mean",
            "Max",
            "Pad",
            "PadV2",
            "ConcatV2",
            "Squeeze",
            "ExpandDims",
            "Reshape",
            "Shape",
            "StridedSlice",
        ),
        *(
            "Pack",
            "Prod",
            "Fill",
            "Cast",
            "GatherV2",
            "Transpose",
            "RandomUniform",
            "Floor",
            "GreaterEqual",
            "Select",
            "SelectV2",
            "ZerosLike",
        ),
        *("StatelessRandomUniformV2", "StatelessRandomGetKeyCounter", "Less", "Greater", "LogicalAnd", "SpaceToBatchND", "BatchToSpaceND"),
    )
)
# What a SavedModel carries besides: variables, calls, and the machinery that saves and restores (never run here).
CONTAINER = INFERENCE | frozenset(
    (
        *(
            "VarHandleOp",
            "VariableV2",
            "Variable",
            "AssignVariableOp",
            "Assign",
            "VarIsInitializedOp",
            "PartitionedCall",
            "StatefulPartitionedCall",
        ),
        *(
            "SaveV2",
            "RestoreV2",
            "MergeV2Checkpoints",
            "ShardedFilename",
            "StringJoin",
            "StaticRegexFullMatch",
            "DisableCopyOnRead",
            "NextIteration",
        ),
        *(
            "RandomStandardNormal",
            "TruncatedNormal",
            "RandomUniformInt",
            "Fill",
            "VariableShape",
            "AssignAddVariableOp",
            "AssignSubVariableOp",
        ),
    )
)


@dataclass(frozen=True, eq=False)
class Frozen:
    """A graph without variables: its GraphDef, the names of its input and output nodes, and constant -> place in the user's file."""

    graph: Any
    input: str
    output: str
    places: dict[str, str]


def load(path: Path, kind: str, max_bytes: int) -> Frozen:
    """The frozen graph in a .pb file or a SavedModel folder. UsageError for damage, for operations that are not allowed, for too much of anything."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    file = path / "saved_model.pb" if kind == "savedmodel" else path
    if file.stat().st_size > min(max_bytes, 512 << 20):
        raise UsageError(
            f"{path}: the graph has {file.stat().st_size / 1e6:.0f} MB; at most {min(max_bytes, 512 << 20) / 1e6:.0f} MB are read"
        )
    try:
        if kind == "frozen-pb":
            graph = tf.compat.v1.GraphDef.FromString(file.read_bytes())
            _allowed(graph, INFERENCE, path)
            return Frozen(graph, *_ends(graph, path), {n.name: n.name for n in graph.node if n.op == "Const"})
        from tensorflow.core.protobuf import saved_model_pb2

        saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except DecodeError:
        raise UsageError(f"{path} is damaged or truncated (its protobuf cannot be parsed)") from None
    if not saved.meta_graphs:
        raise UsageError(f"{path} holds no graph")
    meta = next((m for m in saved.meta_graphs if "serve" in m.meta_info_def.tags), saved.meta_graphs[0])
    if meta.asset_file_def or any(n.WhichOneof("kind") in ("asset", "resource", "captured_tensor") for n in meta.object_graph_def.nodes):
        raise UsageError(f"{path} has assets, tables or other resources; such models are not read")
    if len(meta.object_graph_def.nodes):  # TensorFlow's own loader imports all of it
        _allowed(meta.graph_def, CONTAINER, path)
        frozen = _second_version(path, meta)
    else:
        frozen = _first_version(path, meta)
    _allowed(frozen.graph, INFERENCE, path)
    return frozen


def _allowed(graph: Any, allowed: frozenset[str], path: Path) -> None:
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    if not nodes or len(nodes) > MAX_NODES:
        raise UsageError(f"{path} holds {len(nodes)} operations; between 1 and {MAX_NODES} are read")
    refused = sorted({f"{n.op} ({n.name})" for n in nodes if n.op not in allowed})
    if refused:
        raise UsageError(f"{path} uses operations that are not on the list of those allowed: {', '.join(refused[:4])}")


def _ends(graph: Any, path: Path) -> tuple[str, str]:
    """The image input and the one output of a graph without a signature."""
    used = {i.lstrip("^").split(":")[0] for n in graph.node for i in n.input}
    images = [
        n.name for n in graph.node if n.op == "Placeholder" and n.attr["dtype"].type == 1 and len(n.attr["shape"].shape.dim) in (2, 4)
    ]
    outputs = [n.name for n in graph.node if n.name not in used and n.op not in ("Placeholder", "PlaceholderWithDefault", "Const", "NoOp")]
    if len(images) != 1 or len(outputs) != 1:
        raise UsageError(f"{path} has image inputs {images[:4]} and outputs {outputs[:4]}; one of each was expected")
    return images[0], outputs[0]


def _signature(path: Path, meta: Any) -> tuple[str, str, str]:
    """The serving signature: its key, its input's and its output's node."""
    names = [k for k, s in meta.signature_def.items() if len(s.inputs) == 1 and len(s.outputs) == 1]
    if not names:
        raise UsageError(f"{path} has no signature with one input and one output (found: {', '.join(meta.signature_def) or 'none'})")
    key = "serving_default" if "serving_default" in names else names[0]
    signature = meta.signature_def[key]
    return key, *(next(iter(v.values())).name.split(":")[0] for v in (signature.inputs, signature.outputs))


def _first_version(path: Path, meta: Any) -> Frozen:
    """TF1: no session runs; variables become constants by their names in the checkpoint.

    Only what the output needs is taken: a folder saved in the session that trained has the gradients and the optimizer beside it.
    """
    import tensorflow as tf

    _, source, target = _signature(path, meta)
    reader = tf.train.load_checkpoint(str(path / "variables/variables"))
    kept = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [target])
    places = {}
    for node in kept.node:
        if node.op in ("VariableV2", "Variable", "VarHandleOp"):
            key = node.name
            if not reader.has_tensor(key):
                raise UsageError(f"{path}: the variable {key!r} is not in its checkpoint")
            value = reader.get_tensor(key)
            node.Clear()
            node.name, node.op = key, "Const"
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            places[key] = key
        elif node.op == "ReadVariableOp":
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
    return Frozen(kept, source, target, places)


def _second_version(path: Path, meta: Any) -> Frozen:
    key, _, _ = _signature(path, meta)
    frozen, source, target = _freeze(path, key)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tagged"
        shutil.copytree(path, copy)
        keys = _tag(copy)
        tagged, _, _ = _freeze(copy, key)
    values = {n.name: n for n in frozen.node if n.op == "Const"}
    places = {}
    for node in tagged.node:
        array = _array(node)
        if array is None or array.dtype != np.float32 or not array.size or node.name not in values:
            continue
        number = float(array.flat[0])
        if number in keys and (array == number).all() and not np.array_equal(array, _array(values[node.name])):
            places[node.name] = keys[number]
    return Frozen(frozen, source, target, places)


def _freeze(path: Path, key: str) -> tuple[Any, str, str]:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(path))  # held: its functions keep no hold of its variables
    frozen = convert_variables_to_constants_v2(loaded.signatures[key])
    inputs = [t for t in frozen.inputs if t.dtype != tf.resource]
    return frozen.graph.as_graph_def(), inputs[0].op.name, frozen.outputs[0].op.name


def _tag(path: Path) -> dict[float, str]:
    """Fills every float variable of a SavedModel copy with a number of its own; number -> key."""
    reader, keys = _checkpoint(path)
    floats = [k for k in keys if reader.get_variable_to_dtype_map()[k].is_floating]
    numbers = {k: 1000.5 + i for i, k in enumerate(floats)}
    rewrite(path, {k: np.full(reader.get_variable_to_shape_map()[k], numbers[k], np.float32) for k in floats})
    return {v: k for k, v in numbers.items()}


def _checkpoint(path: Path) -> tuple[Any, list[str]]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path / "variables/variables"))
    return reader, sorted(reader.get_variable_to_shape_map())


def rewrite(path: Path, new: dict[str, Any]) -> None:
    """Replaces variables of a SavedModel folder by checkpoint key; the other variables and saved_model.pb stay as they are."""
    import tensorflow as tf

    reader, keys = _checkpoint(path)
    tensors = []
    for key in keys:
        old = reader.get_tensor(key)
        tensors.append(tf.constant(new[key].astype(old.dtype).reshape(old.shape) if key in new else old))
    with tempfile.TemporaryDirectory(dir=path) as folder:
        prefix = f"{folder}/variables"
        tf.raw_ops.SaveV2(prefix=prefix, tensor_names=keys, shape_and_slices=[""] * len(keys), tensors=tensors)
        for old_file in (path / "variables").iterdir():
            old_file.unlink()
        for file in Path(folder).iterdir():
            shutil.move(str(file), path / "variables" / file.name)


def _array(node: Any) -> Any:
    from tensorflow.python.framework import tensor_util

    return tensor_util.MakeNdarray(node.attr["value"].tensor) if node.op == "Const" else None


def run(frozen: Frozen, inputs: Any, fetches: list[str]) -> list[Any]:
    """Outputs of some nodes for N x H x W x C inputs. Other placeholders get 1 (keep probabilities) or False (training flags)."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.Graph().as_default() as graph:
        v1.import_graph_def(frozen.graph, name="")
        feed = {}
        for node in frozen.graph.node:
            if node.op == "Placeholder" and node.name != frozen.input:
                feed[f"{node.name}:0"] = np.zeros((), bool) if node.attr["dtype"].type == 10 else np.ones((), np.float32)
        config = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0})
        with v1.Session(graph=graph, config=config) as session:
            names = [f"{f}:0" for f in fetches]
            parts = [session.run(names, {f"{frozen.input}:0": x, **feed}) for x in np.array_split(inputs, max(1, len(inputs) // 64))]
    return [np.concatenate(p) for p in zip(*parts, strict=True)]
