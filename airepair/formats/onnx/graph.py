"""ONNX graphs before and after onnx2torch: what is read of a file, in which form it is handed over,
how weights are put back.
"""

from __future__ import annotations

import heapq
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions

from airepair.errors import UsageError, one_line
from airepair.formats.mmdnn.ir import Array


def load(path: Path, max_bytes: int) -> tuple[Any, tuple[str, ...]]:
    """Returns the model with all its numbers in it, and the files beside it that held some.

    UsageError for damage, custom operations, files elsewhere.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise UsageError(f"{path} is damaged or truncated: {one_line(error, 120)}") from None
    beside: dict[str, None] = {}
    for tensor in numbers(model).values():
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            beside[_taken_in(tensor, path, max_bytes)] = None
        held = array(tensor, path)
        if held.dtype.kind == "f" and not np.isfinite(held).all():
            raise UsageError(f"{path}: {tensor.name!r} holds NaN or infinite numbers")
    foreign = sorted({n.op_type for n in inlined(model).graph.node if n.domain not in ("", "ai.onnx")})
    if foreign:
        raise UsageError(f"{path} uses custom operations ({', '.join(foreign)}); only ONNX's own are read")
    return model, tuple(beside)


def inlined(model: Any) -> Any:
    """Returns the model with the bodies of its own functions (torch 2.1 to 2.5 wrote them) in their
    place.
    """
    return inline_local_functions(model) if model.functions else model


def _taken_in(tensor: Any, path: Path, max_bytes: int) -> str:
    """Puts a tensor's numbers from a file beside the model (torch's exporter makes one) into the
    model; that file's name.

    UsageError for any other place, and where the file does not hold as many bytes as the tensor has.
    """

    said = {e.key: e.value for e in tensor.external_data}
    name = str(said.get("location", ""))
    file = path.parent / name
    if name and Path(name).name == name and not file.is_symlink() and not file.exists():
        raise UsageError(
            f"{path}: its numbers are in {name!r}, which is not beside it; put that file into {path.parent}"
        )
    if not name or Path(name).name != name or file.is_symlink() or not file.is_file():
        raise UsageError(
            f"{path}: {tensor.name!r} keeps its numbers in another file ({name!r}); "
            f"only a file beside the model is read"
        )
    try:
        size = (
            int(np.prod([int(d) for d in tensor.dims], dtype=object))
            * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        )
        offset, length = int(said.get("offset", 0)), int(said.get("length", size))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {tensor.name!r} is damaged: {one_line(error, 120)}") from None
    if (
        length != size
        or not 0 <= size <= max_bytes
        or offset < 0
        or offset + size > min(file.stat().st_size, max_bytes)
    ):
        raise UsageError(
            f"{path}: {tensor.name!r} should have {size} bytes from {offset} on in {name}, "
            f"which has {file.stat().st_size}"
        )
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(size)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return name


def copied(model: Any) -> Any:
    """Returns a model of its own."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def numbers(model: Any) -> dict[str, Any]:
    """Returns the constants of the graph by name: its initialisers, and what its Constant nodes
    hold.
    """
    held = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            held[node.output[0]] = node.attribute[0].t
    return held


def in_order(model: Any, path: object) -> Any:
    """Returns a copy with each node behind those that it reads, without those that no output needs.

    UsageError for a circle, or a value of nowhere.
    """
    nodes = list(model.graph.node)
    maker = {name: k for k, node in enumerate(nodes) for name in node.output if name}
    held = {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer} | {""}
    wanted = [maker[o.name] for o in model.graph.output if o.name in maker]
    before: dict[int, set[int]] = {}
    while wanted:
        k = wanted.pop()
        if k in before:
            continue
        strange = [i for i in nodes[k].input if i not in maker and i not in held]
        if strange:
            raise UsageError(
                f"{path}: {nodes[k].op_type} reads {strange[0]!r}, which nothing in the graph makes"
            )
        before[k] = {maker[i] for i in nodes[k].input if i in maker}
        wanted += before[k]
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError:
        raise UsageError(f"{path}: the graph runs in a circle") from None
    copy, ready = copied(model), list(sorter.get_ready())
    del copy.graph.node[:]
    heapq.heapify(ready)
    while ready:  # the file's own order where it is one: layers keep their numbers
        k = heapq.heappop(ready)
        copy.graph.node.add().CopyFrom(nodes[k])
        sorter.done(k)
        for other in sorter.get_ready():
            heapq.heappush(ready, other)
    return copy


def unshared(model: Any) -> tuple[Any, int]:
    """Returns the model with an initialiser of its own for each Identity of one, and how many there
    were.
    """
    held = {t.name: t for t in model.graph.initializer}
    copies = [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in held]
    for node in copies:
        made = model.graph.initializer.add()
        made.CopyFrom(held[node.input[0]])
        made.name = node.output[0]
        model.graph.node.remove(node)
    return model, len(copies)


def array(tensor: Any, path: Path) -> Array:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise UsageError(f"{path}: {tensor.name!r} is damaged: {one_line(error, 120)}") from None


def fill(tensor: Any, value: Array) -> None:
    name = tensor.name
    tensor.CopyFrom(
        numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(tensor.data_type)), name)
    )
