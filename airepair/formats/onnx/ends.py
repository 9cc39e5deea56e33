"""Where an ONNX graph begins and ends: scaling and layout at its input, the output of its classes,
what stands behind the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

from airepair.errors import UsageError
from airepair.formats.mmdnn.ir import Array
from airepair.formats.model_file import InputScaling
from airepair.formats.onnx.graph import copied, numbers
from airepair.formats.onnx.terms import Sizes, input_of, sizes
from airepair.models.layouts import Shape

_CHANNELS_FIRST = [0, 3, 1, 2]  # the permutation at the input of a file that takes channels last
_HEADS = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}
_SCALING = ("Mul", "Add", "Sub", "Div")
_FLOATS = (0, 1, 10, 11)  # ONNX's numbers of float types; 0 where the file does not say


@dataclass(frozen=True)
class Ends:
    """What was taken off a file's network.

    shape   one input of the network: C, H, W, or the file's own axes
    turned  the file takes channels last and turns them itself
    feed    the scaling at its input
    output  the file's value that the network's answer is compared with, and `head`, which is what
            the file makes of the logits for it
    """

    shape: Shape
    turned: bool
    feed: InputScaling | None
    output: str
    head: str


def network_in(
    model: Any, path: object, open_sizes: Sequence[Shape], classes: int | None
) -> tuple[Any, Ends]:
    """Returns a copy of the model from the scaled image to the logits, and what was taken off.

    `open_sizes` are the shapes of one input to choose from where the file leaves its sizes open,
    `classes` the number of classes. UsageError if the input is none of images, or no single
    output is one of classes.
    """
    copy = copied(model)
    taken = _taken(copy, path, open_sizes)
    known = sizes(copy, None if input_of(copy).type.tensor_type.shape.dim[0].dim_value else 2)
    output = _answer(copy, path, known, classes)
    logits, compared, head = _logits(copy, output, known)
    shape, turned, feed = _begun(copy, taken)
    del copy.graph.output[:]
    copy.graph.output.add().name = logits
    return copy, Ends(shape, turned, feed, compared, head)


def _taken(model: Any, path: object, open_sizes: Sequence[Shape]) -> Shape:
    """The shape of one input, written into the model where it was open."""
    held = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in held]
    if len(inputs) != 1:
        raise UsageError(
            f"{path} has inputs {', '.join(i.name for i in inputs) or '(none)'}; accepted: one, of images"
        )
    dims = inputs[0].type.tensor_type.shape.dim
    shape = tuple(d.dim_value for d in dims)[1:]
    if 0 in shape:
        shape = next((s for s in open_sizes if _agree(s, shape)), shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1 or max(shape) > (4096 if len(shape) == 3 else 1 << 20):
        said = " x ".join(["N", *(str(d) if d > 0 else "?" for d in shape)]) if dims else "of no stated shape"
        raise UsageError(
            f"{path}: its input is {said}; accepted: N x C x H x W, N x H x W or N x features, "
            f"all but N of known size"
        )
    for dim, size in zip(dims[1:], shape, strict=True):
        dim.dim_value = size
    return shape


def _agree(known: Shape, told: Shape) -> bool:
    return len(known) == len(told) and all(b in (0, a) for a, b in zip(known, told, strict=True))


def _answer(model: Any, path: object, known: Sizes, classes: int | None) -> str:
    """The output of one number per class; of several that come from the same logits, the logits
    themselves where they are among them.
    """
    outputs = list(model.graph.output)
    if len(outputs) == 1:
        return str(outputs[0].name)

    def fits(output: Any) -> bool:
        dims = known.get(output.name, ())
        return (
            output.type.tensor_type.elem_type in _FLOATS
            and len(dims) == 2
            and (classes is None or dims[1] == classes)
        )

    ends = {str(o.name): _logits(model, o.name, known) for o in outputs if fits(o)}
    if len({logits for logits, *_ in ends.values()}) == 1:
        return next((name for name, (logits, *_) in ends.items() if name == logits), next(iter(ends)))
    listed = ", ".join(
        f"{o.name} ({' x '.join(['N', *map(str, known.get(o.name, ('?', '?'))[1:])])})" for o in outputs
    )
    wanted = f"N x {classes or 'classes'}"
    raise UsageError(
        f"{path} has outputs {listed}, {'several' if ends else 'none'} of {wanted}; accepted: "
        f"one output of {wanted}"
    )


def _logits(model: Any, output: str, known: Sizes) -> tuple[str, str, str]:
    """The value before a final softmax or arg-max, the value that it is compared with, and what
    makes the one of the other.
    """
    maker = {name: node for node in model.graph.node for name in node.output}
    value, compared, head = output, output, ""
    while (node := maker.get(value)) is not None:
        before = node.input[0] if node.input else ""
        logarithm = node.op_type == "Log" and before in maker and maker[before].op_type == "Softmax"
        if node.op_type == "Identity":
            value = before
        elif node.op_type == "ArgMax" and not head and len(known.get(before, ())) == 2:
            value = compared = before
        elif (
            (node.op_type in _HEADS or logarithm)
            and not head
            and _over_classes(maker[before] if logarithm else node, known)
        ):
            head = "log_softmax" if logarithm else _HEADS[node.op_type]
            value = maker[before].input[0] if logarithm else before
        else:
            break
    return value, compared, head


def _over_classes(node: Any, known: Sizes) -> bool:
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    return axis in (1, -1) and len(known.get(node.input[0], (0, 0))) == 2


def _begun(model: Any, taken: Shape) -> tuple[Shape, bool, InputScaling | None]:
    """Takes the products and sums with constants, and a turn to channels first, off the input: the
    shape that is left, whether it was turned, and the products and sums as one InputScaling.
    """

    held = {name: numpy_helper.to_array(tensor) for name, tensor in numbers(model).items()}
    taken_in = input_of(model)
    start = now = str(taken_in.name)
    shape, turned, scale, offset = taken, False, np.ones(1), np.zeros(1)
    last = _turns(model, now)  # before the turn, numbers per channel stand along the last axis
    while (node := _reader(model, now)) is not None:
        if _is_turn(node) and len(shape) == 3:
            shape, turned = (shape[2], shape[0], shape[1]), True
        elif (
            step := _scaled(node, now, held, (shape[2:] if last and not turned else (shape[0], 1, 1)))
        ) is not None:
            scale, offset = scale * step[0], offset * step[0] + step[1]
        else:
            break
        now = node.output[0]
        model.graph.node.remove(node)
    for node in model.graph.node:
        inputs = [start if i == now else i for i in node.input]
        del node.input[:]
        node.input.extend(inputs)
    for dim, size in zip(taken_in.type.tensor_type.shape.dim[1:], shape, strict=True):
        dim.dim_value = size
    if scale.tolist() == [1.0] and offset.tolist() == [0.0]:
        return shape, turned, None
    feed = InputScaling(
        tuple(map(float, scale + 0 * offset)),
        tuple(map(float, offset + 0 * scale)),
        "constants at the input of the graph",
    )
    return shape, turned, feed


def _reader(model: Any, value: str) -> Any:
    """The one node that reads a value; None if several do."""
    readers = [n for n in model.graph.node if value in n.input]
    return readers[0] if len(readers) == 1 else None


def _is_turn(node: Any) -> bool:
    return (
        node.op_type == "Transpose"
        and list(node.attribute[0].ints if node.attribute else ()) == _CHANNELS_FIRST
    )


def _turns(model: Any, value: str) -> bool:
    """Whether a turn to channels first follows, behind scaling alone."""
    node = _reader(model, value)
    while node is not None and node.op_type in _SCALING:
        node = _reader(model, node.output[0])
    return node is not None and _is_turn(node)


def _scaled(node: Any, now: str, held: dict[str, Array], per_channel: Shape) -> tuple[Array, Array] | None:
    """Factor and shift of a product or sum with a constant, one for all or one per channel (of that
    shape); None for anything else.
    """
    other = (
        next((i for i in node.input if i != now), "")
        if node.op_type in _SCALING and len(node.input) == 2
        else ""
    )
    if other not in held or (node.op_type in ("Sub", "Div") and node.input[0] != now):
        return None
    value = held[other].astype(np.float64)
    if value.size != 1 and (
        value.size != np.prod(per_channel) or value.shape[-len(per_channel) :] != tuple(per_channel)
    ):
        return None
    one, none, value = np.ones(1), np.zeros(1), value.ravel()
    return {"Mul": (value, none), "Div": (1 / value, none), "Add": (one, value), "Sub": (one, -value)}[
        node.op_type
    ]
