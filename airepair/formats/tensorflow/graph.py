"""TensorFlow graphs in the worker: are they safe to run, which part of them is the network, and
what it answers.

Two containers give one thing, a Frozen graph: a frozen .pb (here) and a SavedModel
(saved_model.py). Only what the output needs is taken; what a training session or an accuracy left
beside or behind it is never loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from airepair.errors import UsageError
from airepair.formats.tensorflow.ends import ends, words

MAX_NODES = 50_000
# What an inference graph of an image classifier runs. Nothing here reads or writes files, calls
# Python or loads libraries.
INFERENCE = words(
    """
    Placeholder PlaceholderWithDefault Const Identity IdentityN NoOp StopGradient CheckNumerics
    ReadVariableOp Conv2D DepthwiseConv2dNative BiasAdd MatMul FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 MaxPool AvgPool Relu Relu6 LeakyRelu Elu Tanh Sigmoid Softmax LogSoftmax Add
    AddV2 Erf Erfc AddN Sub Mul RealDiv Maximum Minimum Rsqrt Sqrt Square Neg Mean Max Pad PadV2
    ConcatV2 Squeeze ExpandDims Reshape Shape StridedSlice Pack Prod Fill Cast GatherV2 Transpose
    RandomUniform Floor GreaterEqual Select SelectV2 ZerosLike StatelessRandomUniformV2
    StatelessRandomGetKeyCounter Less Greater LogicalAnd SpaceToBatchND BatchToSpaceND
    """
)


@dataclass(frozen=True, eq=False)
class Frozen:
    """It is a graph without variables: its GraphDef, the names of its input and output nodes, and
    constant -> places in the user's file.

    `behind`: operations of the file that stand behind the output (an arg-max, an accuracy), which
    are not run.
    """

    graph: Any
    input: str
    output: str
    places: dict[str, list[str]]
    behind: tuple[str, ...] = ()


def frozen_file(path: Path, data: bytes) -> Frozen:
    """Returns the graph of a frozen .pb file."""
    graph = tf.compat.v1.GraphDef.FromString(data)
    counted(graph, path)
    source, target, behind = ends(graph, None, str(path))
    kept = part_of(graph, [target])
    allowed(kept, INFERENCE, path)
    return Frozen(kept, source, target, {n.name: [n.name] for n in kept.node if n.op == "Const"}, behind)


def counted(graph: Any, path: Path) -> None:
    """Raises UsageError if a graph holds nothing, or more than any network."""
    number = len(graph.node) + sum(len(f.node_def) for f in graph.library.function)
    if not 0 < number <= MAX_NODES:
        raise UsageError(f"{path} holds {number} operations; between 1 and {MAX_NODES} are read")


def allowed(graph: Any, known: frozenset[str], path: Path) -> None:
    """Raises a UsageError that names the operations that are not among the known."""
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    refused = sorted({f"{n.op} ({n.name})" for n in nodes if n.op not in known})
    if refused:
        raise UsageError(
            f"{path} uses operations that are not on the list of those allowed: {', '.join(refused[:4])}"
        )


def part_of(graph: Any, names: list[str]) -> Any:
    """Returns the nodes that the named ones need (whatever must run before them, too), and the
    functions that these call.
    """
    missing = sorted(set(names) - {n.name for n in graph.node})
    if missing:
        raise UsageError(f"the graph has no operation {missing[0]!r}")
    kept = tf.compat.v1.graph_util.extract_sub_graph(graph, names)
    functions = {f.signature.name: f for f in graph.library.function}
    called: set[str] = set()
    waiting = [kept.node]
    while waiting:
        for node in waiting.pop():
            for attribute in node.attr.values():
                for name in [attribute.func.name, *(f.name for f in attribute.list.func)]:
                    if name in functions and name not in called:
                        called.add(name)
                        waiting.append(functions[name].node_def)
    kept.library.Clear()
    kept.library.function.extend(functions[name] for name in sorted(called))
    return kept


def run(frozen: Frozen, inputs: Any, fetches: list[str]) -> list[Any]:
    """Returns the outputs of some nodes for inputs as the graph takes them, in its batches where it has
    a fixed one.

    Other placeholders get 1 (keep probabilities) or False (training flags).
    """
    v1 = tf.compat.v1
    with v1.Graph().as_default() as graph:
        v1.import_graph_def(frozen.graph, name="")
        feed = {}
        for node in frozen.graph.node:
            if node.op == "Placeholder" and node.name != frozen.input:
                feed[f"{node.name}:0"] = (
                    np.zeros((), bool) if node.attr["dtype"].type == 10 else np.ones((), np.float32)
                )
        with v1.Session(graph=graph, config=on_one_thread()) as session:
            names = [f"{f}:0" for f in fetches]
            parts = [session.run(names, {f"{frozen.input}:0": x, **feed}) for x in _batches(frozen, inputs)]
    return [np.concatenate(p)[: len(inputs)] for p in zip(*parts, strict=True)]


def _batches(frozen: Frozen, inputs: Any) -> list[Any]:
    """The inputs in parts; where the graph has a fixed batch, the last part is filled up with the
    first inputs.
    """
    (placeholder,) = (n for n in frozen.graph.node if n.name == frozen.input)
    fixed = placeholder.attr["shape"].shape.dim[0].size
    if fixed < 1:
        return list(np.array_split(inputs, max(1, len(inputs) // 64)))
    filled = np.concatenate([inputs, np.resize(inputs, (-len(inputs) % fixed, *inputs.shape[1:]))])
    return list(filled.reshape(-1, fixed, *inputs.shape[1:]))


def on_one_thread() -> Any:
    """Returns how sessions of the worker run: one thread, no GPU."""
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}
    )
