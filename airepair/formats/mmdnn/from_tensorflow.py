"""Canonical TensorFlow graph -> MMdnn IR, by MMdnn's TensorflowParser2 on today's TensorFlow
(docs/formats.md, shim E). Runs in the worker.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from airepair.formats.mmdnn.ir import IRModel, graph_pb2, quiet
from airepair.formats.tensorflow.canonical import Canonical

KERAS_MOMENTUM = 0.01  # a frozen graph does not say; 1 - 0.99, the default of Keras and tf.layers


def from_tensorflow(graph: Canonical) -> IRModel:
    """Returns the IR; nodes c0, c1, ... with the graph's names kept beside."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        file = Path(folder) / "graph.pb"
        file.write_bytes(graph.graph.SerializeToString())
        parser = _parser_class()(str(file), [list(graph.shape)], ["c0"], [graph.output])
        parser.detours = graph.detours
        parser.gen_IR()
    used = {i for node in parser.IR_graph.node for i in node.input}
    kept = type(parser.IR_graph)()
    kept.node.extend(n for n in parser.IR_graph.node if n.input or n.name in used)
    weights = {k: dict(v) for k, v in parser.weights.items()}
    for node in kept.node:
        for kind in ("scale", "bias"):
            if (
                node.op == "BatchNorm" and graph.places[f"{node.name}|{kind}"] is None
            ):  # a constant that was made up, not a weight
                del weights[node.name][kind]
                node.attr[kind].b = False
    names = {n.name: graph.names.get(n.name, "input") for n in kept.node}
    momentum = {n.name: KERAS_MOMENTUM for n in kept.node if n.op == "BatchNorm"}
    return IRModel(kept, weights, names, momentum)


def _parser_class() -> Any:
    graph_pb2()
    with quiet():
        from mmdnn.conversion.common.utils import assign_IRnode_values
        from mmdnn.conversion.tensorflow import tensorflow_frozenparser

    tensorflow_frozenparser.tensorflow = (
        tf.compat.v1
    )  # the module was written for TF1; the one line that makes it run

    class ModernParser(tensorflow_frozenparser.TensorflowParser2):  # type: ignore[misc]
        """MMdnn's parser with the operations that it lacks, and those that it answers wrongly."""

        detours: set[str]

        def rename_Reshape(self, node: Any) -> None:  # its Reshape loses that the columns come from an image
            if node.name in self.detours:
                node.real_name = self.get_parent(node.name, [0]).real_name
                return
            target = self.tensor_shape_to_list(node.get_attr("_output_shapes"))[0]
            made = self._convert_identity_operation(
                node, end_idx=1, new_op="Flatten" if len(target) == 2 else "Reshape"
            )
            if len(target) > 2:
                made.attr["shape"].list.i.extend([-1, *target[1:]])

        def rename_MatMul(self, node: Any) -> None:
            super().rename_MatMul(node)
            made = self.IR_graph.node[-1]
            made.op = "FullyConnected"
            made.attr["use_bias"].b = "bias" in self.weights[node.name]

        def rename_FusedBatchNormV3(self, node: Any) -> None:
            super().rename_FusedBatchNormV3(node)
            if self.get_parent(node.name, [0]).name in self.detours:
                shape = self.IR_graph.node[-1].attr["_output_shapes"].list.shape[0]
                del shape.dim[1:3]

        def rename_Erf(self, node: Any) -> None:  # tf_canonical.GELU
            self._convert_identity_operation(node, new_op="Gelu")

        def rename_LogSoftmax(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="LogSoftmax")

        def rename_LeakyRelu(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="LeakyRelu").attr["alpha"].f = node.layer.attr[
                "alpha"
            ].f

        def rename_Elu(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="Elu").attr["alpha"].f = 1.0

        def rename_Conv2D(self, node: Any) -> None:
            super().rename_Conv2D(node)
            made = next(n for n in self.IR_graph.node if n.name == node.name)
            source = self.tensor_shape_to_list(self.get_parent(node.name, [0]).get_attr("_output_shapes"))[0]
            kernel = self.weights[node.name]["weights"].shape
            if source[-1] != kernel[2]:
                made.attr["group"].i = source[-1] // kernel[2]
            dilation = list(node.layer.attr["dilations"].list.i) or [1, 1, 1, 1]
            if max(dilation) > 1:
                assign_IRnode_values(made, {"dilations": dilation})
                if node.get_attr("padding") == "SAME":
                    made.attr["pads"].list.ClearField("i")
                    size = [(k - 1) * d + 1 for k, d in zip(kernel[:2], dilation[1:3], strict=True)]
                    assign_IRnode_values(
                        made, {"pads": _same(source[1:3], size, list(node.get_attr("strides"))[1:3])}
                    )

        def rename_ConcatV2(self, node: Any) -> None:
            made = self._convert_identity_operation(
                node, start_idx=0, end_idx=len(node.in_edges) - 1, new_op="Concat"
            )
            made.attr["axis"].i = len(made.attr["_output_shapes"].list.shape[0].dim) - 1

    return ModernParser


def _same(size: list[int], kernel: list[int], stride: list[int]) -> list[int]:
    before, after = [0], [0]
    for n, k, s in zip(size, kernel, stride, strict=True):
        total = max(0, ((n + s - 1) // s - 1) * s + k - n)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, 0, *after, 0]
