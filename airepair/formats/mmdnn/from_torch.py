"""torch -> MMdnn IR, by MMdnn's PytorchParser on graphs of torch.export (docs/formats.md, shim B).

MMdnn's own way to the graph is gone from torch since 1.11. torch.export gives a public one: each
aten operation is put before MMdnn's parser as the ONNX node that it expects. Rows of a dense layer,
and vectors of a batch norm, behind a flattened image are reordered from torch's C x H x W to
MMdnn's H x W x C, through any elementwise layers in between (MMdnn alone misses those: its second
silently wrong answer).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from airepair.errors import UsageError, one_line
from airepair.formats.library_warnings import hushed
from airepair.formats.mmdnn.ir import Array, IRModel, graph_pb2, quiet
from airepair.models.layouts import Shape

# aten operation (without its overload) -> pseudo ONNX type
_ELEMENTWISE = {
    "relu": "Relu",
    "relu_": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyRelu",
    "leaky_relu_": "LeakyRelu",
    "gelu": "Gelu",
}
_PASSED = ("clone", "detach", "alias", "contiguous", "to", "lift_fresh_copy", "_assert_tensor_metadata")


@dataclass(frozen=True, eq=False)
class Traced:
    """It holds the IR of a torch network, and for each weight the torch name and the order of its
    first (dense: input) axis, if changed.

    `sources` are the IR's nodes -> nodes of the program's graph, of those that answer in the same order.
    `scale` and `offset` of the input (a number a channel, or one for all) are constants of the
    program that are left out of the IR.
    """

    model: IRModel
    places: dict[tuple[str, str], str] = field(default_factory=dict)
    orders: dict[tuple[str, str], Array] = field(default_factory=dict)
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    sources: dict[str, str] = field(default_factory=dict)


def from_torch(module: nn.Module, shape: Shape) -> Traced:
    """Returns the IR of a module for images of `shape` (C, H, W).

    UsageError that names the first operation that is not converted.
    """
    try:
        with hushed():
            program = torch.export.export(module.eval(), (torch.zeros(1, *shape),))
    except Exception as error:
        raise UsageError(f"the network cannot be exported by torch: {one_line(error, 160)}") from error
    return from_program(program, shape)


def from_program(program: Any, shape: Shape) -> Traced:
    """Returns the same for an exported program."""
    reader = _Reader(program, shape)
    reader.read()
    parser = _parser_class()(reader)
    with quiet():
        parser.gen_IR()
    names = {n.name: reader.names.get(n.name, "input") for n in parser.IR_graph.node}
    sources = {k: v for k, v in reader.sources.items() if reader.order[k] is None}
    weights = {k: {kind: np.ascontiguousarray(a) for kind, a in v.items()} for k, v in parser.weights.items()}
    return Traced(
        IRModel(parser.IR_graph, weights, names, reader.momentum),
        reader.places,
        reader.orders,
        *reader.scaling(),
        sources,
    )


class _Reader:
    """An exported graph as the nodes, shapes and weights that MMdnn's parser asks for."""

    def __init__(self, program: Any, shape: Shape) -> None:
        self.program, self.shape = program, shape
        signature = program.graph_signature
        self.targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.constants = {**getattr(signature, "inputs_to_lifted_tensor_constants", {})}
        self.nodes: list[SimpleNamespace] = []
        self.state: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}
        self.momentum: dict[str, float] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.orders: dict[tuple[str, str], Array] = {}
        self.sources: dict[str, str] = {}
        self.made: dict[Any, Any] = {}  # fx node -> our node, None for the input
        self.scale: Array = np.ones(1)
        self.offset: Array = np.zeros(1)
        self.turned: set[Any] = set()  # fx nodes in channels-last order
        self.order: dict[str | None, Array | None] = {None: None}  # our node -> order of its columns

    def read(self) -> None:
        inputs = [
            n
            for n in self.program.graph.nodes
            if n.op == "placeholder" and n.name not in self.targets and n.name not in self.constants
        ]
        if len(inputs) != 1:
            raise UsageError(f"the network has {len(inputs)} inputs; one image input was expected")
        self.made[inputs[0]] = None
        needed = _needed(self.program.graph)
        for node in self.program.graph.nodes:
            if node.op == "call_function" and node in needed:
                self._operation(node)
            elif node.op == "output":
                results = node.args[0]
                if len(results) != 1 or self.order.get(self._of(results[0])) is not None:
                    raise UsageError(
                        "the network has several outputs, or a flattened image for one; "
                        "N x classes was expected"
                    )

    def _of(self, value: Any) -> str | None:
        if value not in self.made:
            raise UsageError(f"operation {value} cannot be converted: it is not a layer's output")
        found: str | None = self.made[value]
        return found

    def _operation(self, node: Any) -> None:
        name = getattr(node.target, "_opname", str(node.target))
        if name in (
            "dim",
            "size",
            "sym_size",
            "_assert_tensor_metadata",
            "_assert_scalar",
            "_set_grad_enabled",
        ):
            return
        if name == "getitem" and node.args[1] == 0:
            self.made[node] = self._of(node.args[0])
            return
        if name == "permute":
            self._permuted(node)
            return
        if name in _PASSED or (name == "dropout" and node.args[1] == 0):
            self.made[node] = self._of(node.args[0])
            if node.args[0] in self.turned:
                self.turned.add(node)
            return
        if name not in ("flatten", "view", "reshape") and any(n in self.turned for n in node.all_input_nodes):
            raise self._refuse(node, "it reads channels last")
        if name in ("mul", "div", "add", "sub") and self._scaled(node, name):
            self.made[node] = None
            return
        self.made[node] = getattr(self, "op_" + name.rstrip("_"), self._other)(node, name)

    def _permuted(self, node: Any) -> None:
        """To channels last, or back from there: the IR is channels last all the time."""
        turned = node.args[0] in self.turned
        if list(node.args[1]) != ([0, 3, 1, 2] if turned else [0, 2, 3, 1]):
            raise self._refuse(node, f"to {node.args[1]}")
        self.made[node] = self._of(node.args[0])
        if not turned:
            self.turned.add(node)

    def _scaled(self, node: Any, name: str) -> bool:
        """Whether it scales the input by a constant, which is then taken up."""
        left, right = node.args
        if name in ("mul", "add") and self.made.get(right, 0) is None:
            left, right = right, left
        value = self._constant(right) if self.made.get(left, 0) is None and len(left.users) == 1 else None
        if value is None or node.kwargs.get("alpha", 1) != 1:
            return False
        one, none = np.ones(1), np.zeros(1)
        factor, shift = {
            "mul": (value, none),
            "div": (1 / value, none),
            "add": (one, value),
            "sub": (one, -value),
        }[name]
        self.scale, self.offset = self.scale * factor, self.offset * factor + shift
        return True

    def _constant(self, value: Any) -> Array | None:
        """One number, or one a channel, that is no parameter."""
        if isinstance(value, int | float):
            return np.full(1, float(value))
        name = self.targets.get(getattr(value, "name", ""), self.constants.get(getattr(value, "name", "")))
        if name is None or name in self.program.graph_signature.parameters:
            return None
        tensor = self.program.state_dict.get(name, self.program.constants.get(name))
        fits = tensor is not None and (
            tensor.numel() == 1 or tuple(tensor.shape[-3:]) == (self.shape[0], 1, 1) == (tensor.numel(), 1, 1)
        )
        return (
            tensor.detach().double().flatten().numpy()
            if fits and bool(torch.isfinite(tensor).all())
            else None
        )

    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and offset of the input, of one length."""
        return tuple(map(float, self.scale + 0 * self.offset)), tuple(
            map(float, self.offset + 0 * self.scale)
        )

    def _other(self, node: Any, name: str) -> str:
        if name in _ELEMENTWISE:
            if name == "gelu" and node.kwargs.get("approximate", "none") != "none":
                raise self._refuse(node, f"approximate={node.kwargs['approximate']!r}; the exact one is")
            slope = (
                {"alpha": float(node.args[1]) if len(node.args) > 1 else 0.01}
                if name.startswith("leaky")
                else {}
            )
            return self._add(node, _ELEMENTWISE[name], [node.args[0]], slope, keep_order=True)
        raise self._refuse(node, "it has no counterpart in the conversion")

    def _refuse(self, node: Any, why: str) -> UsageError:
        stack = node.meta.get("nn_module_stack") or {}
        where = next(reversed([v[0] for v in stack.values()]), "") if stack else ""
        return UsageError(f"layer {where or node.name!r} ({node.target}) cannot be converted: {why}")

    def _add(
        self,
        node: Any,
        kind: str,
        inputs: list[Any],
        attrs: dict[str, Any] | None = None,
        keep_order: bool = False,
        shape: Any = None,
    ) -> str:
        name = f"t{len(self.nodes)}"
        sources = [self._of(i) if not isinstance(i, str) else i for i in inputs]
        orders = [self.order[s] for s in sources]
        if any(o is not None for o in orders) and (
            not keep_order or any(not _equal(o, orders[0]) for o in orders)
        ):
            raise self._refuse(
                node, "it reads a flattened image in a way that depends on the order of its columns"
            )
        self.order[name] = orders[0] if keep_order else None
        size = list(node.meta["val"].shape) if shape is None else shape
        self.nodes.append(
            SimpleNamespace(
                name=name,
                kind=kind,
                attrs=attrs or {},
                inputs=[s for s in sources if s is not None],
                shape=size,
            )
        )
        stack = node.meta.get("nn_module_stack") or {}
        self.names[name] = next(reversed([v[0] for v in stack.values()]), "") or node.name
        self.sources[name] = str(node.name)
        return name

    def _weight(
        self, layer: str, kind: str, suffix: str, source: Any, order: Array | None = None, axis: int = 0
    ) -> None:
        if source is None:
            return
        target = self.targets.get(source.name)
        if target is None:
            raise UsageError(f"layer {self.names[layer]!r}: its weight {source} is not a parameter")
        tensor = self.program.state_dict.get(target, self.program.constants.get(target))
        if tensor is None or tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{target} is not a tensor of finite float32 numbers")
        if target in self.places.values():
            raise UsageError(f"{target} is the weight of two layers; shared weights are not converted")
        value = tensor.detach().cpu()
        self.state[f"{layer}.{suffix}"] = (
            value if order is None else value.index_select(axis, torch.from_numpy(order))
        )
        self.places[layer, kind] = target
        if order is not None:
            self.orders[layer, kind] = order

    # ---- layers

    def op_conv2d(self, node: Any, _: str) -> str:
        x, weight, bias, stride, padding, dilation, groups = _filled(
            node, 7, (None, None, None, [1, 1], [0, 0], [1, 1], 1)
        )
        if isinstance(padding, str):
            raise self._refuse(node, f"padding {padding!r}; say it in numbers")
        return self._convolved(node, x, weight, bias, _pair(stride), _pair(padding), _pair(dilation), groups)

    def op_convolution(self, node: Any, _: str) -> str:
        x, weight, bias, stride, padding, dilation, transposed, _output, groups = _filled(
            node, 9, (None,) * 9
        )
        if transposed:
            raise self._refuse(node, "transposed")
        return self._convolved(node, x, weight, bias, _pair(stride), _pair(padding), _pair(dilation), groups)

    def _convolved(
        self, node: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> str:
        attrs = {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": groups}
        name = self._add(node, "Conv", [x], attrs)
        self._weight(name, "weights", "weight", weight)
        self._weight(name, "bias", "bias", bias)
        return name

    def op_linear(self, node: Any, _: str) -> str:
        x, weight, bias = _filled(node, 3, (None, None, None))
        source = self._of(x)
        order = self.order[source]
        if len(x.meta["val"].shape) != 2:
            raise self._refuse(
                node, f"a dense layer on an activation of shape {tuple(x.meta['val'].shape[1:])}"
            )
        self.order[source] = None  # used up by the reordered rows; put back for other readers below
        name = self._add(node, "Gemm", [x])
        self.order[source] = order
        self._weight(name, "weights", "weight", weight, order, axis=1)
        self._weight(name, "bias", "bias", bias)
        return name

    def op_addmm(self, node: Any, _: str) -> str:
        raise self._refuse(node, "a decomposed program; export it without run_decompositions")

    def op_batch_norm(self, node: Any, _: str) -> str:
        x, weight, bias, mean, var, _training, momentum, eps, *_rest = _filled(node, 9, (None,) * 9)
        if mean is None or var is None:
            raise self._refuse(node, "a batch norm without running statistics")
        order = self.order[self._of(x)]
        name = self._add(node, "BatchNormalization", [x], {"epsilon": float(eps)}, keep_order=True)
        for kind, suffix, source in (
            ("scale", "weight", weight),
            ("bias", "bias", bias),
            ("mean", "running_mean", mean),
            ("var", "running_var", var),
        ):
            self._weight(name, kind, suffix, source, order)
        self.momentum[name] = float(momentum)
        return name

    def op_max_pool2d(self, node: Any, _: str) -> str:
        x, kernel, stride, padding, dilation, ceil = _filled(node, 6, (None, None, [], [0, 0], [1, 1], False))
        if ceil or _pair(dilation) != [1, 1]:
            raise self._refuse(node, "ceil_mode or dilation")
        attrs = {
            "kernel_shape": _pair(kernel),
            "strides": _pair(stride or kernel),
            "pads": [*_pair(padding), *_pair(padding)],
        }
        return self._add(node, "MaxPool", [x], attrs)

    def op_max_pool2d_with_indices(self, node: Any, name: str) -> str:
        return self.op_max_pool2d(node, name)

    def op_avg_pool2d(self, node: Any, _: str) -> str:
        x, kernel, stride, padding, ceil, _include, divisor = _filled(
            node, 7, (None, None, [], [0, 0], False, True, None)
        )
        if ceil or divisor or any(_pair(padding)):
            raise self._refuse(node, "average pooling with padding, ceil_mode or a divisor")
        return self._add(
            node, "AveragePool", [x], {"kernel_shape": _pair(kernel), "strides": _pair(stride or kernel)}
        )

    def op_adaptive_avg_pool2d(self, node: Any, _: str) -> str:
        x, size = node.args[0], _pair(node.args[1])
        have = [int(v) for v in x.meta["val"].shape[2:]]
        if size == [1, 1]:
            return self._add(node, "GlobalAveragePool", [x])
        if any(h % s for h, s in zip(have, size, strict=True)):
            raise self._refuse(node, f"from {have} to {size}, which is not an even grid")
        kernel = [h // s for h, s in zip(have, size, strict=True)]
        return self._add(node, "AveragePool", [x], {"kernel_shape": kernel, "strides": kernel})

    def op_mean(self, node: Any, _: str) -> str:
        x, axes, keep = _filled(node, 3, (None, None, False))
        rank = len(x.meta["val"].shape)
        if rank != 4 or axes is None or sorted(a % 4 for a in axes) != [2, 3]:
            raise self._refuse(node, "only means over height and width")
        shape = [*x.meta["val"].shape[:2], 1, 1]
        pooled = self._add(node, "GlobalAveragePool", [x], shape=shape)
        return pooled if keep else self._add(node, "Flatten", [pooled])

    def op_flatten(self, node: Any, _: str) -> str | None:
        before, after = list(node.args[0].meta["val"].shape), list(node.meta["val"].shape)
        if before == after:
            return self._of(node.args[0])
        if len(before) != 4 or len(after) != 2 or after[0] != before[0]:
            return self._reshaped(node, before, after)
        name = self._add(node, "Flatten", [node.args[0]])
        channels, height, width = (int(n) for n in before[1:])
        if node.args[0] not in self.turned and height * width > 1:
            self.order[name] = (
                np.arange(channels * height * width)
                .reshape(channels, height, width)
                .transpose(1, 2, 0)
                .ravel()
            )
        return name

    op_view = op_reshape = op_unsqueeze = op_squeeze = op_flatten

    def op_select(self, node: Any, _: str) -> str | None:
        before = list(node.args[0].meta["val"].shape)
        if node.args[1] != 1 or before[1] != 1:
            raise self._refuse(node, "other than the channel of a grey image")
        return self.op_flatten(node, "squeeze")

    def _reshaped(self, node: Any, before: list[Any], after: list[Any]) -> str:
        """Between vectors, grey images with and without their channel axis, and images channels
        last: there the order is the IR's.
        """
        last = (
            len(after) == 4
            and bool(node.users)
            and all(getattr(u.target, "_opname", "") == "permute" for u in node.users)
        )
        grey = all(
            len(shape) != 4 or shape[1] == 1 for shape in (before, after) if not (last and shape is after)
        )
        if (
            before[0] != after[0]
            or not grey
            or not 2 <= len(after) <= 4
            or self.order[self._of(node.args[0])] is not None
        ):
            raise self._refuse(node, f"from {before} to {after}; flattening an image is converted")
        if len(after) == 2:
            return self._add(node, "Flatten", [node.args[0]])
        if last:
            self.turned.add(node)
            return self._add(node, "Reshape", [node.args[0]], shape=[after[0], after[3], *after[1:3]])
        return self._add(node, "Reshape", [node.args[0]])

    def op_dropout(self, node: Any, _: str) -> str:
        return self._add(node, "Dropout", [node.args[0]], {"ratio": float(node.args[1])}, keep_order=True)

    def op_feature_dropout(self, node: Any, _: str) -> str:
        return self._add(node, "Dropout", [node.args[0]], {"ratio": float(node.args[1]), "channelwise": True})

    def op_add(self, node: Any, kind: str) -> str:
        kind = "Mul" if kind.startswith("mul") else "Add"
        left, right = node.args[0], node.args[1]
        if not isinstance(right, torch.fx.Node) or left is right or node.kwargs.get("alpha", 1) != 1:
            raise self._refuse(node, "only sums and products of two different activations")
        if list(left.meta["val"].shape) != list(right.meta["val"].shape):
            raise self._refuse(node, "its inputs differ in shape")
        return self._add(node, kind, [left, right], keep_order=True)

    op_mul = op_add

    def op_cat(self, node: Any, _: str) -> str:
        axis = node.args[1] if len(node.args) > 1 else 0
        if axis % len(node.meta["val"].shape) != 1 or len(set(node.args[0])) != len(node.args[0]):
            raise self._refuse(node, "only along the channels, of different activations")
        return self._add(node, "Concat", list(node.args[0]), {"axis": 1})

    def op_hardtanh(self, node: Any, _: str) -> str:
        if list(node.args[1:3]) != [0.0, 6.0]:
            raise self._refuse(node, "other than ReLU6")
        return self._add(node, "Relu6", [node.args[0]], keep_order=True)

    def op_relu6(self, node: Any, _: str) -> str:
        return self._add(node, "Relu6", [node.args[0]], keep_order=True)

    def op_elu(self, node: Any, _: str) -> str:
        x, alpha, scale, inner = _filled(node, 4, (None, 1.0, 1.0, 1.0))
        if (alpha, scale, inner) != (1, 1, 1):
            raise self._refuse(node, "with an alpha other than 1")
        return self._add(node, "Elu", [x], keep_order=True)

    def op_softmax(self, node: Any, name: str) -> str:
        if node.args[1] % len(node.meta["val"].shape) != 1 or len(node.meta["val"].shape) != 2:
            raise self._refuse(node, "not over the classes")
        return self._add(node, "LogSoftmax" if name.startswith("log") else "Softmax", [node.args[0]])

    op_log_softmax = op_softmax

    def op_pad(self, node: Any, _: str) -> str:
        given = list(node.args[1])
        left, right, top, bottom, first, last = (*given, 0, 0, 0, 0)[:6]
        mode = node.args[2] if len(node.args) > 2 else "constant"
        if (
            mode != "constant"
            or (len(node.args) > 3 and node.args[3])
            or len(given) > 6
            or min(given) < 0
            or _rank(node) != 4
        ):
            raise self._refuse(node, "only padding of images with zeros, and not of the batch")
        pads = [0, top, left, first, 0, bottom, right, last]
        return self._add(node, "Pad", [node.args[0]], {"mode": "constant", "pads": pads, "value": 0.0})

    op_constant_pad_nd = op_pad

    def op_slice(self, node: Any, _: str) -> str | None:
        """Every s-th row or column is a pooling of one place with stride s; everything else but the
        whole is refused.
        """
        x, axis, start, end, step = _filled(node, 5, (None, 0, None, None, 1))
        whole = (start or 0) == 0 and (
            end is None or end == sys.maxsize or end >= int(x.meta["val"].shape[axis])
        )
        if whole and step == 1:
            return self._of(x)
        if not whole or _rank(node) != 4 or axis % 4 not in (2, 3):
            raise self._refuse(node, "only every second row or column, and the like, of the whole image")
        strides = [step, 1] if axis % 4 == 2 else [1, step]
        return self._add(node, "AveragePool", [x], {"kernel_shape": [1, 1], "strides": strides})


def _needed(graph: Any) -> set[Any]:
    """The nodes that the output is made of; a softmax, say, whose result nobody returns is none of them."""
    waiting, found = [n for n in graph.nodes if n.op == "output"], set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _equal(a: Array | None, b: Array | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def _rank(node: Any) -> int:
    return len(node.meta["val"].shape)


def _pair(value: Any) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return [int(v) for v in (values * 2 if len(values) == 1 else values)]


def _filled(node: Any, count: int, defaults: tuple[Any, ...]) -> list[Any]:
    names = [a.name for a in node.target._schema.arguments][:count]
    given = [*node.args, *[None] * (count - len(node.args))]
    return [
        given[i]
        if i < len(node.args)
        else node.kwargs.get(names[i], defaults[i])
        if i < len(names)
        else defaults[i]
        for i in range(count)
    ]


def _parser_class() -> Any:
    graph_pb2()
    with quiet():
        from mmdnn.conversion.common.DataStructure.graph import Graph, GraphNode
        from mmdnn.conversion.common.DataStructure.parser import Parser

        from airepair.models.vision import torchvision

        torchvision()  # the parser imports it, and does not use it
        from mmdnn.conversion.pytorch.pytorch_parser import PytorchParser

    class Node(GraphNode):  # type: ignore[misc]
        @property
        def name(self) -> str:
            return str(self.layer.name)

        @property
        def type(self) -> str:
            return "onnx::" + str(self.layer.kind)

        @property
        def attrs(self) -> Any:
            return self.layer.attrs

    class ModernParser(PytorchParser):  # type: ignore[misc]
        """MMdnn's parser over nodes that are ready; its rename_... methods write the IR."""

        def __init__(self, reader: _Reader) -> None:
            Parser.__init__(self)
            self.weight_loaded = True
            self.pytorch_graph = Graph(None)
            self.input_shape = (1, *reader.shape)
            self.state_dict = reader.state
            self.shape_dict = self.pytorch_graph.shape_dict = {
                n.name: [int(v) for v in n.shape] for n in reader.nodes
            }
            for n in reader.nodes:
                self.pytorch_graph.layer_map[n.name] = Node(n)
                self.pytorch_graph.layer_name_map[n.name] = n.name
                for source in n.inputs:
                    self.pytorch_graph._make_connection(source, n.name)
            self.pytorch_graph.build()

        def gen_IR(self) -> None:
            names = ("LeakyRelu", "Elu", "Relu6", "Reshape", "Gelu", "Softmax", "LogSoftmax")
            table = {**PytorchParser.layer_map, **{f"onnx::{k}": k for k in names}}
            for name in self.src_graph.topological_sort:
                node = self.src_graph.get_node(name)
                getattr(self, "rename_" + table[node.type])(node)
                made = self.IR_graph.node[-1]
                if node.layer.inputs == [] or len(node.layer.inputs) < (
                    2 if node.type in ("onnx::Add", "onnx::Mul") else 1
                ):
                    made.input.append("input")
            self.gen_Input()
            for made in self.IR_graph.node:  # gen_Input adds it to nodes without any other input once more
                if list(made.input) == ["input", "input"]:
                    del made.input[1:]

        def gen_Input(self) -> None:  # the original takes N x C x H x W only
            if len(self.input_shape) == 4:
                super().gen_Input()
                return
            made = self.IR_graph.node.add()
            made.name, made.op = "input", "DataInput"
            for node in self.IR_graph.node:
                if node.name in self.src_graph.input_layers:
                    node.input.append("input")
            for shape in (made.attr["shape"].shape, made.attr["_output_shapes"].list.shape.add()):
                for n in (-1, *self.input_shape[1:]):
                    shape.dim.add().size = n

        def get_weight_name(self, node: Any) -> str:
            return str(node.name)

        def _set_output_shape(
            self, node: Any, made: Any
        ) -> None:  # the original writes N x K as N x 1 x 1 x K
            size = self.shape_dict[node.name]
            shape = made.attr["_output_shapes"].list.shape.add()
            for n in [-1, *size[2:], size[1]] if len(size) == 4 else [-1, *size[1:]]:
                shape.dim.add().size = n

        def rename_FullyConnected(self, node: Any) -> None:
            made = self._convert_identity_operation(node, new_op="FullyConnected")
            weight = self.state_dict[f"{node.name}.weight"].numpy().T
            self.set_weight(node.name, "weights", weight)
            bias = self.state_dict.get(f"{node.name}.bias")
            made.attr["units"].i, made.attr["use_bias"].b = weight.shape[1], bias is not None
            if bias is not None:
                self.set_weight(node.name, "bias", bias.numpy())

        def rename_Dropout(self, node: Any) -> None:
            super().rename_Dropout(node)
            if node.attrs.get("channelwise"):
                self.IR_graph.node[-1].attr["channelwise"].b = True

        def rename_Reshape(self, node: Any) -> None:
            made = self._convert_identity_operation(node, new_op="Reshape")
            made.attr["shape"].list.i.extend(d.size for d in made.attr["_output_shapes"].list.shape[0].dim)

        def rename_LeakyRelu(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="LeakyRelu").attr["alpha"].f = node.attrs["alpha"]

        def rename_Elu(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="Elu").attr["alpha"].f = 1.0

        def rename_Relu6(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="Relu6")

        def rename_Gelu(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="Gelu")

        def rename_Softmax(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="Softmax")

        def rename_LogSoftmax(self, node: Any) -> None:
            self._convert_identity_operation(node, new_op="LogSoftmax")

    return ModernParser
