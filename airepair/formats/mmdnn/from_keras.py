"""Keras -> MMdnn IR, by MMdnn's Keras2Parser on today's Keras (docs/formats.md, shim F).

The parser is handed a view of the loaded model in the shape that it knows: layers k0, k1, ... with
input_shape and output_shape, one node each.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from airepair.errors import UsageError
from airepair.formats.mmdnn.ir import Array, IRModel, graph_pb2, quiet
from airepair.formats.model_file import InputScaling

LAYERS = frozenset(
    (
        *(
            "InputLayer",
            "Conv2D",
            "DepthwiseConv2D",
            "Dense",
            "BatchNormalization",
            "Activation",
            "ReLU",
            "LeakyReLU",
            "ELU",
            "Softmax",
        ),
        *(
            "MaxPooling2D",
            "AveragePooling2D",
            "GlobalMaxPooling2D",
            "GlobalAveragePooling2D",
            "Flatten",
            "ZeroPadding2D",
        ),
        *(
            "Reshape",
            "Permute",
            "Dropout",
            "SpatialDropout2D",
            "Add",
            "Concatenate",
            "Rescaling",
            "Normalization",
        ),
    )
)
_ACTIVATIONS = {
    "relu": "Relu",
    "softmax": "Softmax",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "elu": "Elu",
    "relu6": "Relu6",
    "leaky_relu": "LeakyRelu",
    "gelu": "Gelu",
    "log_softmax": "LogSoftmax",
}
_SLOPES = {"elu": 1.0, "leaky_relu": 0.2}  # Keras's defaults when named as an activation


def from_keras(model: Any) -> IRModel:
    """Returns the IR of a loaded Keras model (Sequential or Functional, one input, one output);
    nodes k0, k1, ... with the layers' names kept beside.
    """
    operations = _operations(model)
    parser = _parser_class()(operations)
    with quiet():
        parser.gen_IR()
    names = {n.name: operations[int(n.name.split("_")[0][1:])].layer.name for n in parser.IR_graph.node}
    weights = {k: dict(v) for k, v in parser.weights.items()}
    return IRModel(parser.IR_graph, weights, names, parser.momentum)


def feed_of(model: Any) -> tuple[InputScaling | None, set[str]]:
    """Returns the scaling layers right behind the input as one InputScaling, and their node names
    (k...); UsageError for one elsewhere.
    """
    operations = _operations(model)
    scale: Array = np.ones(1)
    offset: Array = np.zeros(1)
    front, gone, said = {0}, set(), []
    for i, operation in enumerate(operations):
        kind = type(operation.layer).__name__
        if kind not in ("Rescaling", "Normalization"):
            continue
        if not set(operation.parents) <= front:
            raise UsageError(
                f"layer {operation.layer.name!r} ({kind}) is not at the input; "
                f"only there can scaling be taken out of the network"
            )
        a, b = _affine(operation.layer, kind)
        if max(a.size, b.size) > 1 and (
            len(operation.output) == 3 or max(a.size, b.size) != operation.output[-1]
        ):
            raise UsageError(
                f"layer {operation.layer.name!r} ({kind}) scales places of the image apart; "
                f"one number is converted, or one per channel"
            )
        scale, offset = scale * a, offset * a + b
        front.add(i)
        gone.add(f"k{i}")
        said.append(operation.layer.name)
    if not gone:
        return None, gone
    return InputScaling(
        tuple(map(float, scale + 0 * offset)),
        tuple(map(float, offset + 0 * scale)),
        f"layer {', '.join(said)}",
    ), gone


def _affine(layer: Any, kind: str) -> tuple[Array, Array]:
    import keras

    if kind == "Rescaling":
        return np.atleast_1d(np.asarray(layer.scale, np.float64)).ravel(), np.atleast_1d(
            np.asarray(layer.offset, np.float64)
        ).ravel()
    mean = np.asarray(keras.ops.convert_to_numpy(layer.mean), np.float64).ravel()
    deviation = np.maximum(
        np.sqrt(np.asarray(keras.ops.convert_to_numpy(layer.variance), np.float64)).ravel(),
        keras.config.epsilon(),
    )
    if layer.invert:
        raise UsageError(f"layer {layer.name!r} is an inverted Normalization; it is not converted")
    return 1 / deviation, -mean / deviation


def _operations(model: Any) -> list[SimpleNamespace]:
    """Layer and indices of its parents, parents first.

    UsageError for shared, nested or unknown layers, by name.
    """
    import keras

    functional = model._functional if isinstance(model, keras.Sequential) else model
    if (
        functional is None
        or not hasattr(functional, "_nodes_by_depth")
        or len(functional.inputs) != 1
        or len(functional.outputs) != 1
    ):
        raise UsageError(
            f"a {type(model).__name__} model with one input and one output, Sequential or Functional, "
            f"can be converted; not this one"
        )
    nodes = [
        node
        for depth in sorted(functional._nodes_by_depth, reverse=True)
        for node in functional._nodes_by_depth[depth]
    ]
    nodes.sort(key=lambda node: not node.is_input)
    position: dict[Any, int] = {}
    found: list[SimpleNamespace] = []
    for node in nodes:
        layer = node.operation
        kind = type(layer).__name__
        if (
            not isinstance(layer, keras.layers.Layer)
            or not type(layer).__module__.startswith("keras.")
            or kind not in LAYERS
        ):
            raise UsageError(
                f"layer {layer.name!r} ({kind}) cannot be converted; these can: {', '.join(sorted(LAYERS))}"
            )
        if layer in position:
            raise UsageError(f"layer {layer.name!r} is used twice; shared layers are not converted")
        _refuse_options(layer, kind)
        position[layer] = len(found)
        parents = [position[parent.operation] for parent in node.parent_nodes]
        found.append(
            SimpleNamespace(
                layer=layer,
                parents=parents,
                inputs=[t.shape for t in node.input_tensors],
                output=node.outputs[0].shape,
            )
        )
    return _with_padded_channels(found)


class PaddedChannels:
    """It puts zeros before and after the channels, which Keras writes as three layers: channels to
    the front, ZeroPadding2D, and back.
    """

    def __init__(self, name: str, pads: tuple[int, int]) -> None:
        self.name, self.pads = name, pads


def _with_padded_channels(found: list[SimpleNamespace]) -> list[SimpleNamespace]:
    """The operations with a PaddedChannels for each such three. UsageError for any other Permute."""
    readers: dict[int, list[int]] = {}
    for i, operation in enumerate(found):
        for parent in operation.parents:
            readers.setdefault(parent, []).append(i)
    made: dict[int, SimpleNamespace] = {}
    gone: set[int] = set()
    for i, operation in enumerate(found):
        if i in made or not _turns(operation.layer):
            continue
        chain = [i]
        while len(chain) < 3 and len(readers.get(chain[-1], ())) == 1:
            chain += readers[chain[-1]]
        pads = getattr(found[chain[1]].layer, "padding", None) if len(chain) == 3 else None
        if (
            pads is None
            or type(found[chain[1]].layer).__name__ != "ZeroPadding2D"
            or any(pads[1])
            or not _turns(found[chain[2]].layer)
        ):
            raise UsageError(
                f"layer {operation.layer.name!r} (Permute) cannot be converted: "
                f"only two around a ZeroPadding2D of the channels"
            )
        last = found[chain[2]]
        layer = PaddedChannels(last.layer.name, (int(pads[0][0]), int(pads[0][1])))
        made[chain[2]] = SimpleNamespace(
            layer=layer, parents=operation.parents, inputs=operation.inputs, output=last.output
        )
        gone.update(chain[:2])
    number = {old: new for new, old in enumerate(i for i in range(len(found)) if i not in gone)}
    kept = [made.get(i, operation) for i, operation in enumerate(found) if i not in gone]
    for operation in kept:
        operation.parents = [number[parent] for parent in operation.parents]
    return kept


def _turns(layer: Any) -> bool:
    if type(layer).__name__ != "Permute":
        return False
    if tuple(layer.dims) != (3, 2, 1):
        raise UsageError(
            f"layer {layer.name!r} (Permute) cannot be converted: to {tuple(layer.dims)}; (3, 2, "
            f"1) around a padding is"
        )
    return True


def _refuse_options(layer: Any, kind: str) -> None:
    def refuse(why: str) -> None:
        raise UsageError(f"layer {layer.name!r} ({kind}) cannot be converted: {why}")

    if getattr(layer, "data_format", "channels_last") != "channels_last":
        refuse("channels_first")
    _activation(layer)
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        refuse("LoRA or quantised weights")
    if not str(getattr(layer, "compute_dtype", "float32")).startswith("float32"):
        refuse(f"it computes in {layer.compute_dtype}; float32 is read")


def _activation(layer: Any) -> tuple[str, float | None] | None:
    """The operation of MMdnn's that a layer's activation is, and its slope; None if it has none.
    UsageError for one that is not converted.

    The layer is one with an `activation` (a name, or a layer again), or an activation layer itself.
    """
    kind = type(layer).__name__
    if kind == "ReLU":
        slope = float(layer.negative_slope or 0)
        if (
            layer.threshold
            or layer.max_value not in (None, 6, 6.0)
            or (slope and layer.max_value is not None)
        ):
            raise UsageError(
                f"layer {layer.name!r} (ReLU) cannot be converted: threshold {layer.threshold}, "
                f"max_value {layer.max_value}"
            )
        return ("LeakyRelu", slope) if slope else ("Relu" if layer.max_value is None else "Relu6", None)
    if kind == "LeakyReLU":
        return "LeakyRelu", float(layer.negative_slope)
    if kind == "ELU":
        return "Elu", float(layer.alpha)
    if kind == "Softmax":
        if layer.axis != -1:
            raise UsageError(f"layer {layer.name!r} (Softmax) cannot be converted: axis {layer.axis}")
        return "Softmax", None
    inner = getattr(layer, "activation", None)
    if inner is None or getattr(inner, "__name__", "") == "linear":
        return None
    if type(inner).__name__ in ("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax"):
        return _activation(inner)
    name = getattr(inner, "__name__", type(inner).__name__)
    if name not in _ACTIVATIONS:
        raise UsageError(
            f"layer {layer.name!r} ({kind}) cannot be converted: activation {name}; these can: "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name], _SLOPES.get(name)


class _View:
    """A Keras 3 layer as MMdnn knows layers: with shapes, a text dtype, and the attribute names of
    Keras 2.
    """

    def __init__(self, number: int, operation: SimpleNamespace) -> None:
        self.wrapped, self.name = operation.layer, f"k{number}"
        self.input_shape = operation.inputs[0] if operation.inputs else operation.output
        self.output_shape = operation.output
        self.dtype = "float32"
        self.filters = getattr(operation.layer, "filters", None)
        self.axis = _axis(getattr(operation.layer, "axis", -1), len(self.output_shape))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


def _axis(axis: Any, rank: int) -> int:
    number: int = axis[0] if isinstance(axis, (list, tuple)) else axis
    return int(number) % rank


def _parser_class() -> Any:
    graph_pb2()
    with quiet():
        from mmdnn.conversion.common.DataStructure.graph import Graph
        from mmdnn.conversion.common.DataStructure.parser import Parser
        from mmdnn.conversion.common.utils import assign_IRnode_values
        from mmdnn.conversion.keras.keras2_graph import Keras2GraphNode
        from mmdnn.conversion.keras.keras2_parser import Keras2Parser

    class Node(Keras2GraphNode):  # type: ignore[misc]
        @property
        def type(self) -> str:
            return type(self.layer.wrapped).__name__

    class ModernParser(Keras2Parser):  # type: ignore[misc]
        """MMdnn's parser over views; what Keras 3 added or renamed since is put in terms that it has."""

        def __init__(self, operations: list[SimpleNamespace]) -> None:
            Parser.__init__(self)
            self.weight_loaded, self.data_format, self.lambda_layer_count = True, "channels_last", 0
            self.momentum: dict[str, float] = {}
            self.keras_graph = Graph(None)
            for i, operation in enumerate(operations):
                node = Node(_View(i, operation))
                self.keras_graph.layer_map[node.name] = node
                self.keras_graph.layer_name_map[node.name] = node.name
                for parent in operation.parents:
                    if f"k{parent}" in node.in_edges:
                        raise UsageError(
                            f"layer {operation.layer.name!r} reads one input twice; this is not converted"
                        )
                    self.keras_graph._make_connection(f"k{parent}", node.name)
            self.keras_graph.build()

        def gen_IR(
            self,
        ) -> None:  # the original ends with clear_session(), which would reset the user's Keras
            for name in self.keras_graph.topological_sort:
                node = self.keras_graph.get_node(name)
                getattr(self, "rename_" + node.type)(node)

        def plain(self, node: Any, op: str) -> Any:
            made = self.IR_graph.node.add()
            Keras2Parser._copy_and_reop(node, made, op)
            self.convert_inedge(node, made)
            return made

        def _defuse_activation(self, node: Any) -> None:
            found = _activation(node.layer.wrapped)
            if found is None:
                return
            made = self.IR_graph.node.add()
            made.name = node.real_name + "_activation"
            made.input.append(node.real_name)
            Keras2Parser._set_output_shape(node, made)
            made.op = found[0]
            if found[1] is not None:
                made.attr["alpha"].f = found[1]
            node.real_name = made.name

        def rename_Activation(self, node: Any) -> None:
            found = _activation(node.layer.wrapped)
            if found is None:
                node.real_name = self.src_graph.get_node(node.in_edges[0]).real_name
                return
            made = self.plain(node, found[0])
            if found[1] is not None:
                made.attr["alpha"].f = found[1]

        rename_ReLU = rename_LeakyReLU = rename_ELU = rename_Softmax = rename_Activation

        def rename_PaddedChannels(self, node: Any) -> None:
            first, last = node.layer.pads
            assign_IRnode_values(
                self.plain(node, "Pad"), {"mode": "constant", "pads": [0, 0, 0, first, 0, 0, 0, last]}
            )

        def rename_Reshape(self, node: Any) -> None:
            before, after = node.layer.input_shape[1:], node.layer.output_shape[1:]
            if before == after:
                node.real_name = self.src_graph.get_node(node.in_edges[0]).real_name
                return
            made = self.plain(node, "Flatten" if len(after) == 1 else "Reshape")
            if len(after) > 1:
                made.attr["shape"].list.i.extend([-1, *after])

        def rename_Dropout(self, node: Any) -> None:
            self.plain(node, "Dropout").attr["keep_prob"].f = float(
                node.layer.rate
            )  # MMdnn's name; the share that is dropped

        def rename_SpatialDropout2D(self, node: Any) -> None:
            made = self.plain(node, "Dropout")
            made.attr["keep_prob"].f = float(node.layer.rate)
            made.attr["channelwise"].b = True

        def rename_Rescaling(self, node: Any) -> None:
            self.plain(node, "Rescaling")

        def rename_Normalization(self, node: Any) -> None:
            self.plain(node, "Normalization")

        def rename_Dense(self, node: Any) -> None:
            if len(node.layer.input_shape) != 2:
                raise UsageError(
                    f"layer {node.layer.wrapped.name!r} is a Dense on {len(node.layer.input_shape)} "
                    f"dimensions, not on flattened input"
                )
            super().rename_Dense(node)

        def rename_BatchNormalization(self, node: Any) -> None:
            if len(node.layer.output_shape) == 3:
                raise UsageError(
                    f"layer {node.layer.wrapped.name!r} normalises an activation without channels; "
                    f"behind Flatten it is converted"
                )
            if node.layer.axis != len(node.layer.output_shape) - 1:
                raise UsageError(
                    f"layer {node.layer.wrapped.name!r} normalises axis {node.layer.axis}; "
                    f"the last one is converted"
                )
            super().rename_BatchNormalization(node)
            self.momentum[node.name] = 1.0 - float(node.layer.momentum)

        def _convert_convolution(self, node: Any, dim: int) -> None:
            super()._convert_convolution(node, dim)
            groups = int(getattr(node.layer, "groups", 1) or 1)
            made = next(n for n in self.IR_graph.node if n.name == node.name)
            if groups > 1:
                made.attr["group"].i = groups
            dilation = tuple(node.layer.dilation_rate)
            if node.layer.padding == "same" and any(d > 1 for d in dilation):
                size = [(k - 1) * d + 1 for k, d in zip(node.layer.kernel_size, dilation, strict=True)]
                made.attr["pads"].list.ClearField("i")
                assign_IRnode_values(
                    made, {"pads": _same(node.layer.input_shape[1:3], size, node.layer.strides)}
                )

    return ModernParser


def _same(size: Any, kernel: list[int], stride: Any) -> list[int]:
    before, after = [0], [0]
    for n, k, s in zip(size, kernel, stride, strict=True):
        total = max(0, ((n + s - 1) // s - 1) * s + k - n)
        before.append(total // 2)
        after.append(total - total // 2)
    return [*before, 0, *after, 0]
