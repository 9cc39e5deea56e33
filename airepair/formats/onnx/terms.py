"""An ONNX graph in the terms of onnx2torch: its nodes in order, sizes as constants, any batch, dense
layers as Gemm, no later than opset 17.

Nothing here reaches the file that is written, and the check against that file (files.py) shows
whether a change went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper, shape_inference
from onnx.helper import make_graph, make_model, make_tensor_value_info, np_dtype_to_tensor_dtype
from onnx.reference import ReferenceEvaluator

from airepair.formats.mmdnn.ir import Array
from airepair.formats.onnx.graph import copied, in_order, numbers

OPSET = 17  # the latest that onnx2torch 1.5.15 knows all common operations of
_MOVED = (
    "Identity",
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
)  # operations that move numbers and change none
# Operation -> its inputs that are weights: onnx2torch looks for them among the initialisers.
_WEIGHTS = {
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2),
}
_BATCHES = (2, 3)  # two sizes of a batch: a size that differs between them is the batch's

# Average pooling that pads unevenly and does not count the padding, as an operation of our own
# (operations.py).
OWN_DOMAIN, AVERAGE = "airepair", "SamePadAverage"

Sizes = dict[str, tuple[int, ...]]


def in_terms(model: Any, path: object) -> Any:
    """Returns a copy of the model that onnx2torch can convert, if anything can: the same function
    of one input, for any batch.
    """
    copy = in_order(model, path)
    _weights_in_place(copy)
    _any_batch(copy)
    _padded(copy)
    _dense(copy)
    _older(copy)
    return in_order(copy, path)


def _weights_in_place(model: Any) -> None:
    """Weights that a Constant node holds, or that are moved on their way to a layer, as initialisers."""
    held = {name: numpy_helper.to_array(tensor) for name, tensor in numbers(model).items()}
    initialisers = {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in _MOVED and all(i in held for i in node.input):
            held[node.output[0]] = _moved(node, [held[i] for i in node.input], model.opset_import)
    for node in model.graph.node:
        for slot in _WEIGHTS.get(node.op_type, ()):
            name = node.input[slot] if slot < len(node.input) else ""
            if name in held and name not in initialisers:
                model.graph.initializer.append(
                    numpy_helper.from_array(np.ascontiguousarray(held[name]), name)
                )
                initialisers.add(name)
    made = {t.name for t in model.graph.initializer}
    kept = [n for n in model.graph.node if not made.intersection(n.output)]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _moved(node: Any, inputs: list[Array], versions: Any) -> Array:
    """What the operation makes of constants."""
    names = list(node.input)
    values = [
        make_tensor_value_info(n, np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
    ]
    out = make_tensor_value_info(node.output[0], np_dtype_to_tensor_dtype(inputs[0].dtype), None)
    model = make_model(make_graph([node], "moved", values, [out]), opset_imports=versions)
    found: Array = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]
    return found


def sizes(model: Any, batch: int | None) -> Sizes:
    """Returns the sizes of all values that are known, of images in batches of `batch` (None: as the
    file has it).
    """
    copy = copied(model)
    del copy.graph.value_info[:]
    if batch is not None:
        input_of(copy).type.tensor_type.shape.dim[0].dim_value = batch
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    known = shape_inference.infer_shapes(copy, data_prop=True).graph
    found: Sizes = {}
    for value in (*known.input, *known.value_info, *known.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(d.dim_value for d in dims)
    return found | {t.name: tuple(t.dims) for t in model.graph.initializer}


def input_of(model: Any) -> Any:
    held = {t.name for t in model.graph.initializer}
    return next(i for i in model.graph.input if i.name not in held)


def _any_batch(model: Any) -> None:
    """Every Reshape says its sizes in numbers, with -1 for the batch: exporters compute them
    (Shape, Concat) or write a fixed batch in.
    """
    dims = input_of(model).type.tensor_type.shape.dim
    fixed = dims[0].dim_value
    first, second = (sizes(model, b) for b in ((None, None) if fixed else _BATCHES))
    held = numbers(model)
    for node in [n for n in model.graph.node if n.op_type == "Reshape"]:
        before, after = first.get(node.input[0]), first.get(node.output[0])
        other = second.get(node.output[0])
        if before is None or after is None or other is None or not after:
            continue
        batched = [k for k, (a, b) in enumerate(zip(after, other, strict=True)) if a != b]
        if fixed and before[:1] == after[:1] == (fixed,):
            batched = [0]
        if len(batched) == 1:
            wanted = [-1 if k in batched else n for k, n in enumerate(after)]
        elif node.input[1] in held and 0 not in numpy_helper.to_array(held[node.input[1]]):
            wanted = numpy_helper.to_array(held[node.input[1]]).tolist()
        else:
            continue
        _reshaped(model, node, wanted, before[:1] == after[:1] and len(before) > 1)
    dims[0].Clear()
    dims[0].dim_param = "N"
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def _reshaped(model: Any, node: Any, wanted: list[int], by_image: bool) -> None:
    """The node as Flatten where it is one, else with its sizes as a constant of its own (and
    without allowzero).
    """
    if len(wanted) == 2 and wanted[0] == -1 and by_image:
        del node.input[1:]
        _replaced(node, "Flatten", [helper.make_attribute("axis", 1)])
        return
    name = f"{node.output[0]}:sizes"
    model.graph.initializer.append(numpy_helper.from_array(np.array(wanted, np.int64), name))
    node.input[1] = name
    node.ClearField("attribute")


def _padded(model: Any) -> None:
    """Padding "same" in numbers."""
    known = sizes(model, _BATCHES[0])
    for node in model.graph.node:
        if node.op_type not in ("Conv", "MaxPool", "AveragePool"):
            continue
        held = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        size = known.get(node.input[0], ())[2:]
        kernel = held.get("kernel_shape") or known.get("".join(node.input[1:2]), ())[2:]
        if held.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER") and len(size) == len(kernel) > 0:
            pads = _same(size, kernel, held)
            kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
            _replaced(node, node.op_type, [*kept, helper.make_attribute("pads", pads)])
            held["pads"] = pads
        half = len(held.get("pads", ())) // 2
        uneven = half == 2 and held["pads"][:half] != held["pads"][half:]
        plain = not any(held.get(k) for k in ("count_include_pad", "ceil_mode")) and set(
            held.get("dilations", (1,))
        ) == {1}
        if node.op_type == "AveragePool" and uneven and plain:
            node.op_type, node.domain = AVERAGE, OWN_DOMAIN
    model.opset_import.add(domain=OWN_DOMAIN, version=1)


def _same(size: Sequence[int], kernel: Sequence[int], held: Mapping[str, Any]) -> list[int]:
    """ONNX's pads (all beginnings, then all ends) for padding "same"."""
    strides, dilations = (held.get(k) or [1] * len(size) for k in ("strides", "dilations"))
    total = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return [*small, *large] if held["auto_pad"] == b"SAME_UPPER" else [*large, *small]


def _dense(model: Any) -> None:
    """MatMul with a weight, and the Add of a bias behind it, as one Gemm: onnx2torch makes an
    nn.Linear of that.
    """
    known = sizes(model, _BATCHES[0])
    weights = {t.name: t for t in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {o.name for o in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Gemm" and len(node.input) == 3:
            _vector(weights.get(node.input[2]))
        if node.op_type != "MatMul" or node.input[1] not in weights or len(known.get(node.input[0], ())) != 2:
            continue
        (width,) = known[node.input[1]][1:] or (0,)
        following = readers.get(node.output[0], [])
        add = (
            following[0]
            if len(following) == 1 and following[0].op_type == "Add" and node.output[0] not in outputs
            else None
        )
        bias = next((i for i in add.input if i != node.output[0]), "") if add else ""
        _replaced(node, "Gemm", [])
        if add is not None and bias in weights and list(weights[bias].dims) in ([width], [1, width]):
            _vector(weights[bias])
            node.input.append(bias)
            node.output[0] = add.output[0]
            _replaced(add, "Identity", [])
            del add.input[:]
            add.input.append(node.output[0])
            add.output[0] = f"{node.output[0]}:added"


def _vector(tensor: Any) -> None:
    """A bias of 1 x K as one of K."""
    if tensor is not None and len(tensor.dims) == 2 and tensor.dims[0] == 1:
        del tensor.dims[0]


def _older(model: Any) -> None:
    """No operation in a form later than opset 17: of what an image classifier uses only the axes of
    a reduction became an input since.
    """
    later = [v for v in model.opset_import if v.domain in ("", "ai.onnx") and v.version > OPSET]
    for version in later:
        version.version = OPSET
    held = numbers(model)
    for node in model.graph.node:
        axes = held.get(node.input[1]) if len(node.input) == 2 else None
        if later and node.op_type in ("ReduceMean", "ReduceMax") and axes is not None:
            del node.input[1:]
            kept = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
            _replaced(
                node,
                node.op_type,
                [*kept, helper.make_attribute("axes", numpy_helper.to_array(axes).ravel().tolist())],
            )


def _replaced(node: Any, kind: str, attributes: list[Any]) -> None:
    held = [type(a).FromString(a.SerializeToString()) for a in attributes]
    node.op_type = kind
    node.ClearField("attribute")
    node.attribute.extend(held)
