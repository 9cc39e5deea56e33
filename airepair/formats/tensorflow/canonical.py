"""A frozen TensorFlow graph in the few operations that MMdnn's parser understands (docs/formats.md, shim E).

Keras 2, Keras 3 and TF1 write the same layer in different ways. Here the graph is read once from
input to output and written again with one way for each layer: Conv2D + BiasAdd, MatMul + BiasAdd,
FusedBatchNormV3, Reshape for flatten. Dropout becomes identity, shape arithmetic goes, scaling at
the input becomes an InputScaling. Nodes are named c0, c1, ...; constant expressions are kept as
trees: each weight is traced to its constant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from airepair.errors import UsageError
from airepair.formats.mmdnn.ir import torch_shape
from airepair.formats.tensorflow.gelu import gelus
from airepair.formats.tensorflow.graph import Frozen

_PASS = ("Identity", "StopGradient", "CheckNumerics")
_SHAPELY = ("Shape", "Pack", "Prod", "StridedSlice", "Cast", "GatherV2")
_UNARY = ("Relu", "Relu6", "LeakyRelu", "Elu", "Tanh", "Sigmoid", "Softmax", "LogSoftmax")
# stands for a whole GELU: MMdnn's parser loads the graph into TensorFlow, which has no such
# operation
GELU = "Erf"


@dataclass(frozen=True, eq=False)
class Leaf:
    """It is a constant of the graph: its array and the node that holds it (None if it was made up here)."""

    array: Any
    node: str | None


@dataclass(frozen=True, eq=False)
class Expr:
    """It is an operation on constants, kept as it is written."""

    op: str
    args: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Act:
    """It is an activation: the canonical node, its shape without the batch, and a factor that still
    awaits its addend (unfused batch norm).
    """

    name: str
    shape: tuple[int, ...]
    factor: Any = None
    scale: Any = None
    offset: Any = None


class Noise:
    """It is a random value, or what hangs from one: dropout's mask."""


class Size:
    """It stands for shape arithmetic."""


@dataclass
class Canonical:
    """It is the result: canonical GraphDef, its ends, canonical node -> node of the file, (node,
    kind) -> constant of the file, the scaling in front.
    """

    graph: Any
    output: str
    shape: tuple[int, ...]
    names: dict[str, str] = field(default_factory=dict)
    places: dict[str, str | None] = field(default_factory=dict)
    logits: str = ""
    scale: Any = None
    offset: Any = None
    detours: set[str] = field(
        default_factory=set
    )  # reshapes around a batch norm of N x K, which TensorFlow's fused one does not take


def canonical(frozen: Frozen) -> Canonical:
    """Rewrites the graph.

    UsageError that names the first operation with no place in a classifier of MMdnn's kind.
    """
    return _Writer(frozen).run()


class _Writer:
    def __init__(self, frozen: Frozen) -> None:
        self.frozen = frozen
        self.graph = tf.compat.v1.GraphDef()
        self.out = Canonical(self.graph, "", ())
        self.found: dict[str, Any] = {}
        self.used: dict[str, str] = {}
        self.ops: dict[str, str] = {}
        self.gelus: dict[str, str] = {}

    def run(self) -> Canonical:
        self.gelus = self._gelus(self._order())
        for node in self._order():
            self.found[node.name] = self._read(node)
        end = self._plain(self.found[self.frozen.output], self.frozen.output)
        self.out.output = end.name
        return self.out

    def _gelus(self, order: list[Any]) -> dict[str, str]:
        """Those among the nodes that the output needs."""
        numbers = ((n.name, tf.make_ndarray(n.attr["value"].tensor)) for n in order if n.op == "Const")
        return gelus(
            {n.name: n for n in order},
            {name: float(n) for name, n in numbers if n.size == 1 and n.dtype == np.float32},
        )

    def _order(self) -> list[Any]:
        """The nodes that the output needs, inputs first; of a GELU only its last one."""
        nodes = {n.name: n for n in self.frozen.graph.node}
        order: list[Any] = []
        state: dict[str, int] = {}
        stack = [self.frozen.output]
        while stack:
            name = stack[-1]
            if name not in nodes:
                raise UsageError(f"the graph reads {name!r}, which it does not have")
            parents = (
                [self.gelus[name]]
                if name in self.gelus
                else [_name(i) for i in nodes[name].input if not i.startswith("^")]
            )
            if state.get(name) == 2:
                stack.pop()
            elif state.get(name) == 1:
                state[name] = 2
                order.append(nodes[name])
                stack.pop()
            else:
                state[name] = 1
                for parent in parents:
                    if state.get(parent) == 1:
                        raise UsageError(f"the graph has a loop through {parent!r}")
                stack.extend(p for p in parents if state.get(p) != 2)
        return order

    def _read(self, node: Any) -> Any:
        if node.name in self.gelus:
            source = self._plain(self.found[self.gelus[node.name]], node.name)
            return Act(self._add(GELU, node.name, source).name, source.shape)
        args = [self.found[_name(i)] for i in node.input if not i.startswith("^")]
        op = node.op
        if op == "Const":
            return Leaf(tf.make_ndarray(node.attr["value"].tensor), node.name)
        if op in ("Placeholder", "PlaceholderWithDefault"):
            return self._input(node, args)
        if op in _PASS or (op == "IdentityN" and len(args) == 1):
            return args[0]
        if op.startswith(("RandomUniform", "StatelessRandom")):
            return Noise()
        acts = [a for a in args if isinstance(a, Act)]
        if any(isinstance(a, Noise) for a in args):
            return self._dropout(node, acts)
        if op == "Pack" and all(
            isinstance(a, Size) or (isinstance(a, Leaf) and a.array.size == 1) for a in args
        ):
            return Leaf(np.array([-1 if isinstance(a, Size) else int(a.array) for a in args]), None)
        if op in _SHAPELY or (args and all(isinstance(a, Size) for a in args)):
            return Size()
        if not acts:
            return Size() if any(isinstance(a, Size) for a in args) else Expr(op, tuple(args))
        return self._layer(node, args, acts)

    def _input(self, node: Any, args: list[Any]) -> Any:
        if args and node.name != self.frozen.input:
            return args[0]
        if node.name != self.frozen.input:
            return Leaf(np.ones((), np.float32), None)
        shape = [d.size for d in node.attr["shape"].shape.dim]
        torch_shape(shape[1:])  # refuses what is no image
        self.out.shape = tuple(shape[1:])
        made = self._add("Placeholder", node.name)
        made.attr["dtype"].type = 1
        made.attr["shape"].shape.CopyFrom(tf.TensorShape([None, *shape[1:]]).as_proto())
        return Act(made.name, tuple(shape[1:]), scale=np.ones(1), offset=np.zeros(1))

    def _dropout(self, node: Any, acts: list[Act]) -> Any:
        """Mask times activation is the activation before its scaling by 1 / keep probability."""
        if not acts:
            return Noise()
        if len(acts) > 1 or node.op not in ("Mul", "Select", "SelectV2", "RealDiv"):
            raise self._refuse(node, "it mixes activations with random numbers in a way that is not dropout")
        return Act(acts[0].name, acts[0].shape)

    def _layer(self, node: Any, args: list[Any], acts: list[Act]) -> Any:
        op = node.op
        if op in ("Mul", "RealDiv", "Sub", "Add", "AddV2", "BiasAdd", "AddN"):
            return self._arithmetic(node, args, acts)
        first = self._plain(args[0], node.name) if isinstance(args[0], Act) else None
        if first is None:
            raise self._refuse(node, "its first input is a constant")
        if op in ("Conv2D", "DepthwiseConv2dNative"):
            return self._convolution(node, first, args[1])
        if op == "MatMul":
            return self._dense(node, first, args[1])
        if op.startswith("FusedBatchNorm"):
            return self._fused(node, first, args)
        if op in ("MaxPool", "AvgPool"):
            return self._pool(node, first)
        if op in _UNARY:
            if op in ("Softmax", "LogSoftmax"):
                self.out.logits = _name(node.input[0])
            made = self._add(op, node.name, first)
            if op == "LeakyRelu":
                made.attr["alpha"].f = node.attr["alpha"].f
            return Act(made.name, first.shape)
        if op in ("Mean", "Max"):
            return self._global(node, first, args[1])
        if op == "ExpandDims":
            return self._expanded(node, first, args[1])
        if op in ("Reshape", "Squeeze"):
            return self._reshape(node, first)
        if op in ("Pad", "PadV2"):
            return self._pad(node, first, args)
        if op == "ConcatV2":
            return self._concat(node, args)
        raise self._refuse(node, "it has no counterpart in the conversion")

    # ---- arithmetic: biases, residuals, unfused batch norm, scaling at the input

    def _arithmetic(self, node: Any, args: list[Any], acts: list[Act]) -> Act:
        op = node.op
        if len(args) != 2:
            raise self._refuse(node, f"it has {len(args)} inputs")
        if len(acts) == 2:
            if op not in ("Add", "AddV2", "Mul"):
                raise self._refuse(node, "of two activations only sums and products are converted")
            left, right = (self._plain(a, node.name) for a in args)
            if left.shape != right.shape or left.name == right.name:
                raise self._refuse(node, "its inputs differ in shape, or are the same")
            return Act(self._add("Mul" if op == "Mul" else "AddV2", node.name, left, right).name, left.shape)
        act, constant = acts[0], next(a for a in args if not isinstance(a, Act))
        if act.scale is not None:
            return self._scaling(node, args, act, constant)
        if op == "Mul" and act.factor is None and (_match_factor(constant) is not None):
            return Act(act.name, act.shape, factor=constant)
        if (
            (op == "Mul" or (op == "RealDiv" and isinstance(args[0], Act)))
            and (number := _value(constant)) is not None
            and number.size == 1
        ):
            return Act(
                act.name, act.shape, factor=Noise()
            )  # the 1 / keep probability of a dropout, whose mask must follow
        if op in ("Add", "AddV2", "Sub", "BiasAdd") and isinstance(act.factor, Expr):
            return self._unfused(node, act, constant if op != "Sub" else Expr("Neg", (constant,)))
        if op in ("Add", "AddV2", "BiasAdd"):
            bias = _trace(constant)
            if (
                bias is not None
                and bias.array.size == act.shape[-1]
                and self.ops[act.name] in ("Conv2D", "DepthwiseConv2dNative", "MatMul")
            ):
                return self._bias(node, act, bias)
        raise self._refuse(
            node, "it combines an activation with a constant that is no bias and no batch norm"
        )

    def _scaling(self, node: Any, args: list[Any], act: Act, constant: Any) -> Act:
        value = _value(constant)
        if value is None or value.size not in (1, act.shape[-1]):
            raise self._refuse(node, "the input is scaled by something other than one number a channel")
        value = value.astype(np.float64).ravel()
        a, b = act.scale, act.offset
        first = isinstance(args[0], Act)
        if node.op == "Mul":
            a, b = a * value, b * value
        elif node.op == "RealDiv" and first:
            a, b = a / value, b / value
        elif node.op in ("Add", "AddV2", "BiasAdd"):
            b = b + value
        elif node.op == "Sub":
            a, b = (a, b - value) if first else (-a, value - b)
        else:
            raise self._refuse(node, "the input is divided into a constant")
        return Act(act.name, act.shape, scale=a, offset=b)

    def _unfused(self, node: Any, act: Act, addend: Any) -> Act:
        """x * f + (beta - mean * f) with f = rsqrt(var + eps) [* gamma]."""
        variance, epsilon, gamma = _match_factor(act.factor)  # type: ignore[misc]
        beta, mean = _match_addend(addend, act.factor)
        if mean is None:
            raise self._refuse(node, "it looks like a batch norm, but its mean is not where it should be")
        channels = act.shape[-1]
        parts = [
            gamma or Leaf(np.ones(channels, np.float32), None),
            beta or Leaf(np.zeros(channels, np.float32), None),
            mean,
            variance,
        ]
        return self._batch_norm(node, act, parts, epsilon)

    def _bias(self, node: Any, act: Act, bias: Leaf) -> Act:
        made = self._add("BiasAdd", node.name, act)
        self._weight(made, act.name, "bias", bias, bias.array.ravel())
        return Act(made.name, act.shape)

    # ---- layers

    def _convolution(self, node: Any, x: Act, kernel: Any) -> Act:
        found = self._trained_leaf(node, kernel)
        if node.attr["data_format"].s == b"NCHW" or node.attr["padding"].s not in (b"SAME", b"VALID"):
            raise self._refuse(
                node, f"{node.attr['data_format'].s.decode()}, padding {node.attr['padding'].s.decode()}"
            )
        made = self._add(node.op, node.name, x)
        for key in ("strides", "padding", "data_format", "dilations"):
            if key in node.attr:
                made.attr[key].CopyFrom(node.attr[key])
        self._weight(made, made.name, "weights", found, found.array)
        outer = found.array.shape[3] * (found.array.shape[2] if node.op != "Conv2D" else 1)
        strides = list(node.attr["strides"].list.i)[1:3]
        dilation = (list(node.attr["dilations"].list.i) or [1, 1, 1, 1])[1:3]
        size = tuple(
            _length(n, (k - 1) * d + 1, s, node.attr["padding"].s)
            for n, k, d, s in zip(x.shape[:2], found.array.shape[:2], dilation, strides, strict=True)
        )
        return Act(made.name, (*size, outer))

    def _dense(self, node: Any, x: Act, kernel: Any) -> Act:
        found = self._trained_leaf(node, kernel)
        if (
            len(x.shape) != 1
            or node.attr["transpose_a"].b
            or node.attr["transpose_b"].b
            or found.array.ndim != 2
            or len(found.array) != x.shape[0]
        ):
            raise self._refuse(node, f"a product of {x.shape} with {found.array.shape}")
        made = self._add("MatMul", node.name, x)
        self._weight(made, made.name, "weights", found, found.array)
        return Act(made.name, (found.array.shape[1],))

    def _fused(self, node: Any, x: Act, args: list[Any]) -> Act:
        if node.attr["is_training"].b or node.attr["data_format"].s == b"NCHW":
            raise self._refuse(node, "it is in training mode, or NCHW")
        return self._batch_norm(
            node, x, [self._trained_leaf(node, a) for a in args[1:5]], node.attr["epsilon"].f
        )

    def _batch_norm(self, node: Any, x: Act, parts: list[Leaf], epsilon: float) -> Act:
        if len(x.shape) == 1:
            there = self._detour(node, x, [-1, 1, 1, x.shape[0]])
            normed = self._batch_norm(node, Act(there, (1, 1, x.shape[0])), parts, epsilon)
            return Act(self._detour(node, normed, [-1, x.shape[0]]), x.shape)
        made = self._add("FusedBatchNormV3", node.name, x)
        made.attr["U"].type, made.attr["epsilon"].f, made.attr["is_training"].b = 1, epsilon, False
        for kind, leaf in zip(("scale", "bias", "mean", "var"), parts, strict=True):
            self._weight(made, made.name, kind, leaf, leaf.array.ravel())
        return Act(made.name, x.shape)

    def _detour(self, node: Any, x: Act, shape: list[int]) -> str:
        made = self._add("Reshape", node.name, x)
        self._constant(made, np.array(shape, np.int32))
        made.attr["Tshape"].type = 3
        self.out.detours.add(made.name)
        name: str = made.name
        return name

    def _pool(self, node: Any, x: Act) -> Act:
        if node.attr["data_format"].s == b"NCHW":
            raise self._refuse(node, "NCHW")
        made = self._add(node.op, node.name, x)
        for key in ("ksize", "strides", "padding", "data_format"):
            made.attr[key].CopyFrom(node.attr[key])
        kernel, strides = (list(node.attr[k].list.i)[1:3] for k in ("ksize", "strides"))
        size = tuple(
            _length(n, k, s, node.attr["padding"].s)
            for n, k, s in zip(x.shape[:2], kernel, strides, strict=True)
        )
        return Act(made.name, (*size, x.shape[2]))

    def _global(self, node: Any, x: Act, axes: Any) -> Act:
        value = _value(axes)
        if value is None or len(x.shape) != 3 or sorted(v % 4 for v in value.ravel().tolist()) != [1, 2]:
            raise self._refuse(node, "only means and maxima over height and width are converted")
        made = self._add("AvgPool" if node.op == "Mean" else "MaxPool", node.name, x)
        for key, numbers in (("ksize", (1, *x.shape[:2], 1)), ("strides", (1, 1, 1, 1))):
            made.attr[key].list.i.extend(numbers)
        made.attr["padding"].s, made.attr["data_format"].s = b"VALID", b"NHWC"
        pooled = Act(made.name, (1, 1, x.shape[2]))
        return pooled if node.attr["keep_dims"].b else self._flat(node, pooled)

    def _reshape(self, node: Any, x: Act) -> Act:
        if node.op == "Reshape":
            target = _value(self.found[_name(node.input[1])])
            return (
                self._flat(node, x)
                if target is None
                else self._reshaped(node, x, [int(n) for n in target[1:]])
            )
        if len(x.shape) == 1:
            return x
        axes = [int(a) % (len(x.shape) + 1) for a in node.attr["squeeze_dims"].list.i]
        kept = [n for i, n in enumerate(x.shape, 1) if (i not in axes if axes else n != 1)]
        return self._reshaped(node, x, kept)

    def _reshaped(self, node: Any, x: Act, shape: list[int]) -> Act:
        """To `shape` without the batch, one -1 allowed: the same numbers in the order of channels last."""
        if sum(n < 0 for n in shape) > 1:
            raise self._refuse(node, f"from {x.shape} to {shape}")
        known = int(np.prod([n for n in shape if n >= 0]))
        shape = [int(np.prod(x.shape)) // max(1, known) if n < 0 else n for n in shape]
        if tuple(shape) == x.shape:
            return x
        if int(np.prod(shape)) != int(np.prod(x.shape)) or not 1 <= len(shape) <= 3:
            raise self._refuse(node, f"from {x.shape} to {shape}")
        if len(shape) == 1:
            return self._flat(node, x)
        made = self._add("Reshape", node.name, x)
        self._constant(made, np.array([-1, *shape], np.int32))
        made.attr["Tshape"].type = 3
        return Act(made.name, tuple(shape))

    def _expanded(self, node: Any, x: Act, axis: Any) -> Act:
        value = _value(axis)
        if value is None or value.size != 1 or int(value.ravel()[0]) % (len(x.shape) + 2) == 0:
            raise self._refuse(node, "along the batch, or along an axis that is not known")
        place = int(value.ravel()[0]) % (len(x.shape) + 2) - 1
        return self._reshaped(node, x, [*x.shape[:place], 1, *x.shape[place:]])

    def _flat(self, node: Any, x: Act) -> Act:
        length = int(np.prod(x.shape))
        made = self._add("Reshape", node.name, x)
        self._constant(made, np.array([-1, length], np.int32))
        made.attr["Tshape"].type = 3
        return Act(made.name, (length,))

    def _pad(self, node: Any, x: Act, args: list[Any]) -> Act:
        pads = _value(args[1])
        if (
            pads is None
            or pads.shape != (4, 2)
            or pads[0].any()
            or (len(args) > 2 and (_value(args[2]) is None or _value(args[2]).any()))
        ):
            raise self._refuse(node, "only padding with zeros, and not of the batch, is converted")
        made = self._add("Pad", node.name, x)
        self._constant(made, pads.astype(np.int32))
        made.attr["Tpaddings"].type = 3
        return Act(made.name, tuple(int(n + a + b) for n, (a, b) in zip(x.shape, pads[1:], strict=True)))

    def _concat(self, node: Any, args: list[Any]) -> Act:
        axis = _value(args[-1])
        parts = [self._plain(a, node.name) for a in args[:-1]]
        rank = len(parts[0].shape) + 1
        if axis is None or int(axis) % rank != rank - 1 or len({p.name for p in parts}) != len(parts):
            raise self._refuse(node, "only different activations along the channels are converted")
        made = self._add("ConcatV2", node.name, *parts)
        self._constant(made, np.array(rank - 1, np.int32))
        made.attr["N"].i, made.attr["Tidx"].type = len(parts), 3
        return Act(made.name, (*parts[0].shape[:-1], sum(p.shape[-1] for p in parts)))

    # ---- writing nodes

    def _add(self, op: str, source: str, *inputs: Act) -> Any:
        node = self.graph.node.add()
        node.name, node.op = f"c{len(self.out.names)}", op
        node.input.extend(x.name for x in inputs)
        if op != "Placeholder":
            node.attr["T"].type = 1
        self.out.names[node.name], self.ops[node.name] = source, op
        return node

    def _constant(self, node: Any, array: Any) -> None:
        made = tf.compat.v1.NodeDef()
        made.name, made.op = f"{node.name}_{len(node.input)}", "Const"
        made.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
        made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
        node.input.append(made.name)
        self.graph.node.append(made)

    def _weight(self, node: Any, layer: str, kind: str, leaf: Leaf, array: Any) -> None:
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise UsageError(
                f"{leaf.node!r} holds {array.dtype} numbers or NaN; finite float32 weights are read"
            )
        if leaf.node is not None:
            if leaf.node in self.used:
                raise UsageError(
                    f"{leaf.node!r} is the weight of two layers; shared weights are not converted"
                )
            self.used[leaf.node] = layer
        self._constant(node, array)
        self.out.places[f"{layer}|{kind}"] = leaf.node

    def _trained_leaf(self, node: Any, value: Any) -> Leaf:
        found = _trace(value)
        if found is None:
            raise self._refuse(node, "its weights are not constants")
        return found

    def _plain(self, value: Any, where: str) -> Act:
        """The activation, with a scaling at the input taken out; UsageError if a factor was
        never completed.
        """
        if not isinstance(value, Act) or value.factor is not None:
            raise UsageError(f"{where!r} reads something that is neither the image nor a layer's output")
        if value.scale is not None:
            changed = (value.scale != 1).any() or (value.offset != 0).any()
            if self.out.scale is not None and not (
                np.array_equal(self.out.scale, value.scale) and np.array_equal(self.out.offset, value.offset)
            ):
                raise UsageError(f"{where!r}: the input is scaled in two ways")
            if changed or self.out.scale is None:
                self.out.scale, self.out.offset = value.scale, value.offset
        return Act(value.name, value.shape)

    def _refuse(self, node: Any, why: str) -> UsageError:
        return UsageError(f"operation {node.name!r} ({node.op}) cannot be converted: {why}")


def _name(text: str) -> str:
    return text.lstrip("^").split(":")[0]


def _length(n: int, k: int, s: int, padding: bytes) -> int:
    return -(-n // s) if padding == b"SAME" else (n - k) // s + 1


def _trace(value: Any) -> Leaf | None:
    """The constant behind reshapes of a weight."""
    while isinstance(value, Expr) and value.op in ("Reshape", "Squeeze", "ExpandDims"):
        value = value.args[0]
    return value if isinstance(value, Leaf) else None


def _value(value: Any) -> Any:
    """The number behind a constant expression, for the few operations that scaling uses; None if
    it is none.
    """
    if isinstance(value, Leaf):
        return value.array
    if not isinstance(value, Expr):
        return None
    args = [_value(a) for a in value.args]
    if any(a is None for a in args):
        return None
    known: dict[str, Any] = {
        "Sqrt": np.sqrt,
        "Maximum": np.maximum,
        "Mul": np.multiply,
        "Sub": np.subtract,
        "Add": np.add,
        "AddV2": np.add,
        "RealDiv": np.divide,
        "Rsqrt": lambda x: 1 / np.sqrt(x),
        "Neg": np.negative,
        "Reshape": lambda x, s: x.reshape(s),
    }
    return known[value.op](*args) if value.op in known else None


def _match_factor(value: Any) -> tuple[Leaf, float, Leaf | None] | None:
    """(variance, epsilon, gamma) of rsqrt(variance + epsilon) [* gamma]; None for anything else."""
    if isinstance(value, Expr) and value.op == "Mul":
        for root, gamma in (value.args, value.args[::-1]):
            found = _match_factor(root)
            if found and found[2] is None and (leaf := _trace(gamma)) is not None:
                return found[0], found[1], leaf
        return None
    if not (
        isinstance(value, Expr)
        and value.op == "Rsqrt"
        and isinstance(value.args[0], Expr)
        and value.args[0].op in ("Add", "AddV2")
    ):
        return None
    left, right = (_trace(a) for a in value.args[0].args)
    if left is None or right is None:
        return None
    variance, epsilon = (left, right) if right.array.size == 1 else (right, left)
    return (variance, float(epsilon.array.ravel()[0]), None) if epsilon.array.size == 1 else None


def _match_addend(value: Any, factor: Any) -> tuple[Leaf | None, Leaf | None]:
    """(beta, mean) of beta - mean * factor, or of -(mean * factor)."""
    if not isinstance(value, Expr):
        return None, None
    if value.op == "Sub":
        beta, product = _trace(value.args[0]), value.args[1]
    elif value.op == "Neg":
        beta, product = None, value.args[0]
    elif value.op == "Mul":  # (-mean) * factor
        for negative, f in (value.args, value.args[::-1]):
            if f is factor and isinstance(negative, Expr) and negative.op == "Neg":
                return None, _trace(negative.args[0])
        return None, None
    else:
        return None, None
    if isinstance(product, Expr) and product.op == "Mul":
        for mean, f in (product.args, product.args[::-1]):
            if f is factor:
                return beta, _trace(mean)
    return None, None
