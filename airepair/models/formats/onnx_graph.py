"""ONNX graphs before and after onnx2torch: what is read of a file, in which form it is handed over, how weights are put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from airepair.errors import UsageError, one_line
from airepair.models.formats.ir import Array

_OPSET = 17  # the latest that onnx2torch 1.5.15 knows all common operations of


def load(path: Path, max_bytes: int) -> tuple[Any, tuple[str, ...]]:
    """The model with all its numbers in it, and the files beside it that held some. UsageError for damage, custom operations, files elsewhere."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise UsageError(f"{path} is damaged or truncated: {one_line(error, 120)}") from None
    beside: dict[str, None] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            beside[_taken_in(tensor, path, max_bytes)] = None
        held = array(tensor, path)
        if held.dtype.kind == "f" and not np.isfinite(held).all():
            raise UsageError(f"{path}: {tensor.name!r} holds NaN or infinite numbers")
    foreign = sorted({n.op_type for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    if foreign or model.functions:
        raise UsageError(f"{path} uses custom operations ({', '.join(foreign) or 'functions'}); only ONNX's own are read")
    return model, tuple(beside)


def _taken_in(tensor: Any, path: Path, max_bytes: int) -> str:
    """Puts a tensor's numbers from a file beside the model (torch's exporter makes one) into the model; that file's name.

    UsageError for any other place, and where the file does not hold as many bytes as the tensor has.
    """
    import onnx

    said = {e.key: e.value for e in tensor.external_data}
    name = str(said.get("location", ""))
    file = path.parent / name
    if not name or Path(name).name != name or file.is_symlink() or not file.is_file():
        raise UsageError(f"{path}: {tensor.name!r} keeps its numbers in another file ({name!r}); only a file beside the model is read")
    try:
        size = int(np.prod([int(d) for d in tensor.dims], dtype=object)) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        offset, length = int(said.get("offset", 0)), int(said.get("length", size))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: {tensor.name!r} is damaged: {one_line(error, 120)}") from None
    if length != size or not 0 <= size <= max_bytes or offset < 0 or offset + size > min(file.stat().st_size, max_bytes):
        raise UsageError(f"{path}: {tensor.name!r} should have {size} bytes from {offset} on in {name}, which has {file.stat().st_size}")
    with file.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(size)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return name


def older(model: Any) -> Any:
    """A copy in operations that onnx2torch knows: no later than opset 17, a flattening written as Reshape a Flatten (of any batch).

    Of what an image classifier uses only the reductions changed in form since 17 (their axes became an input); the check against the file
    itself would show another.
    """
    from onnx import helper, numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    later = [v for v in copy.opset_import if v.domain in ("", "ai.onnx") and v.version > _OPSET]
    for version in later:
        version.version = _OPSET
    constants = {t.name: t for t in copy.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in copy.graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"}
    for node in copy.graph.node:
        second = constants.get(node.input[1]) if len(node.input) == 2 else None
        values = [] if second is None or second.data_type != second.INT64 else numpy_helper.to_array(second).ravel().tolist()
        if later and node.op_type in ("ReduceMean", "ReduceMax") and values:
            del node.input[1:]
            kept = [a for a in node.attribute if a.name != "noop_with_empty_axes"]
            _replaced(node, node.op_type, [*kept, helper.make_attribute("axes", values)])
        elif node.op_type == "Reshape" and len(values) == 2 and values[1]:
            del node.input[1:]
            _replaced(node, "Flatten", [helper.make_attribute("axis", 1)])
    return copy


def _replaced(node: Any, kind: str, attributes: list[Any]) -> None:
    held = [type(a).FromString(a.SerializeToString()) for a in attributes]
    node.op_type = kind
    node.ClearField("attribute")
    node.attribute.extend(held)


def unshared(model: Any) -> tuple[Any, int]:
    """The model with an initialiser of its own for each Identity of one, and how many there were."""
    held = {t.name: t for t in model.graph.initializer}
    copies = [n for n in model.graph.node if n.op_type == "Identity" and n.input[0] in held]
    for node in copies:
        made = model.graph.initializer.add()
        made.CopyFrom(held[node.input[0]])
        made.name = node.output[0]
        model.graph.node.remove(node)
    return model, len(copies)


def array(tensor: Any, path: Path) -> Array:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise UsageError(f"{path}: {tensor.name!r} is damaged: {one_line(error, 120)}") from None


def fill(tensor: Any, value: Array) -> None:
    from onnx import helper, numpy_helper

    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(value.astype(helper.tensor_dtype_to_np_dtype(tensor.data_type)), name))
