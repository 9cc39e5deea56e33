"""ONNX files, through onnx and onnx2torch. MMdnn's ONNX support is older than what today's exporters write, and is not used.

What is lost on this way: a batch norm that the exporter folded into its convolution stays folded, and dense layers written as MatMul + Add
are no nn.Linear (their weights, which onnx2torch keeps as buffers, are made parameters here). What comes back is the user's own file with
its initialisers replaced. Where the exporter let several layers share one initialiser because its numbers happened to be equal (torch does, by
an Identity), each layer gets its own: a repair may change one and not the other.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from airepair.errors import UsageError, one_line
from airepair.models.checkpoint import replacing
from airepair.models.formats import OpenOptions
from airepair.models.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.models.formats.ir import Array
from airepair.models.formats.onnx_graph import array, fill, load, older, unshared
from airepair.models.formats.opened import Feed, Opened
from airepair.models.layouts import Shape

_REFERENCE_INPUTS = 16  # for onnx's own evaluator, which is slow; with onnxruntime it is all of them


def open_file(path: Path, kind: str, options: OpenOptions) -> Opened:
    """Opens an ONNX model; see open_model."""
    loaded, beside = load(path, options.max_bytes)
    whole = loaded.SerializeToString() if beside else path.read_bytes()
    model, parted = unshared(loaded)
    shape = _shape(model, path)
    logits, cut = _without_softmax(older(model))
    logits, feed = _without_scaling(logits, shape[0])
    module = _module(logits, path)
    places = _places(logits, module, path)
    fidelity = _check(whole, module, shape, cut, feed, str(path), options.images)

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        changed, _ = unshared(load(path, options.max_bytes)[0])
        state = repaired.state_dict()
        for tensor in changed.graph.initializer:
            if tensor.name in places:
                key, turned = places[tensor.name]
                value = state[key].detach().cpu().numpy()
                fill(tensor, np.ascontiguousarray(value.T if turned else value).reshape(tuple(tensor.dims)))
        with replacing(out) as temporary:
            temporary.write_bytes(changed.SerializeToString())
            return _check(temporary.read_bytes(), repaired, shape, cut, feed, str(out), options.images)

    notes = ["through onnx2torch: folded batch norms stay folded, and a dense layer written as MatMul + Add is no nn.Linear"]
    notes += ["the final softmax stays in the file; the network, and what it is converted to, answers with logits"] if cut else []
    notes += [f"the numbers that stand beside it in {', '.join(beside)} are inside the file that is written"] if beside else []
    notes += [f"{parted} initialisers that layers shared by an Identity are written once for each layer"] if parted else []
    notes += [f"scaling ({feed.source}) is kept in the file and taken out of the network"] if feed else []
    layers = {key: name for name, (key, _) in places.items()}
    return Opened(module, "onnx", path, writer, shape, feed, fidelity, tuple(notes), layers, ".onnx")


def _shape(model: Any, path: Path) -> tuple[int, int, int]:
    held = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in held]
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(dims) != 4 or min(dims[1:]) < 1 or max(dims[1:]) > 4096 or len(model.graph.output) != 1:
        raise UsageError(
            f"{path}: inputs {[i.name for i in inputs]} with shape {dims}; one N x C x H x W input and one output were expected"
        )
    return dims[1], dims[2], dims[3]


def _without_softmax(model: Any) -> tuple[Any, bool]:
    """A copy cut before a final softmax, and whether there was one."""
    last = next((n for n in model.graph.node if model.graph.output[0].name in n.output), None)
    if last is None or last.op_type != "Softmax":
        return model, False
    copy = type(model)()
    copy.CopyFrom(model)
    copy.graph.node.remove(last)
    copy.graph.output[0].name = last.input[0]
    return copy, True


def _without_scaling(model: Any, channels: int) -> tuple[Any, Feed | None]:
    """A copy without the products and sums with constants at the input, and these as one Feed."""
    from onnx import numpy_helper

    copy = type(model)()
    copy.CopyFrom(model)
    constants = {t.name: t for t in copy.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in copy.graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"}
    start = now = next(i.name for i in copy.graph.input if i.name not in constants)
    scale, offset = np.ones(1), np.zeros(1)
    while True:
        readers = [n for n in copy.graph.node if now in n.input]
        node = readers[0] if len(readers) == 1 and readers[0].op_type in ("Mul", "Add", "Sub", "Div") else None
        other = next((i for i in node.input if i != now), "") if node else ""
        if node is None or other not in constants or (node.op_type in ("Sub", "Div") and node.input[0] != now):
            break
        value = numpy_helper.to_array(constants[other]).astype(np.float64)
        if value.size != 1 and (value.size != channels or value.shape[-3:] != (channels, 1, 1)):
            break
        value = value.ravel()
        one, none = np.ones(1), np.zeros(1)
        factor, shift = {"Mul": (value, none), "Div": (1 / value, none), "Add": (one, value), "Sub": (one, -value)}[node.op_type]
        scale, offset, now = scale * factor, offset * factor + shift, node.output[0]
        copy.graph.node.remove(node)
    if now == start:
        return model, None
    for node in copy.graph.node:
        inputs = [start if i == now else i for i in node.input]
        del node.input[:]
        node.input.extend(inputs)
    return copy, Feed(tuple(map(float, scale + 0 * offset)), tuple(map(float, offset + 0 * scale)), "constants at the input of the graph")


def _module(model: Any, path: Path) -> nn.Module:
    from airepair.models.vision import torchvision

    torchvision()  # onnx2torch imports it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx2torch import convert
    try:
        module: nn.Module = convert(model)
    except Exception as error:
        raise UsageError(f"{path}: onnx2torch cannot convert it: {one_line(error, 160)}") from None
    held = getattr(module, "initializers", None)
    if held is None:
        return module.eval()
    for name, buffer in list(held.named_buffers(recurse=False)):
        if buffer.is_floating_point() and buffer.ndim:
            delattr(held, name)
            held.register_parameter(name, nn.Parameter(buffer.clone()))
    return module.eval()


def _places(model: Any, module: nn.Module, path: Path) -> dict[str, tuple[str, bool]]:
    """Initialiser -> (state-dict key, transposed), from a second conversion in which every initialiser holds its own number."""
    tagged = type(model)()
    tagged.CopyFrom(model)
    floats = [t for t in tagged.graph.initializer if array(t, path).dtype == np.float32 and len(t.dims)]
    for i, tensor in enumerate(floats):
        fill(tensor, np.full(tuple(tensor.dims), i + 1, np.float32))
    values = {t.name: array(t, path) for t in model.graph.initializer}
    state, found = module.state_dict(), {}
    for key, tensor in _module(tagged, path).state_dict().items():
        number = float(tensor.flatten()[0]) if tensor.numel() else 0.0
        if not (number == int(number) and 1 <= number <= len(floats) and bool((tensor == number).all())):
            continue
        name = floats[int(number) - 1].name
        ours = state[key].numpy()
        if ours.shape == values[name].shape and np.array_equal(ours, values[name]):
            found[name] = (key, False)
        elif ours.T.shape == values[name].shape and np.array_equal(ours.T, values[name]):
            found[name] = (key, True)
    lost = [k for k, _ in module.named_parameters() if k not in {key for key, _ in found.values()}]
    if lost:
        raise UsageError(f"{path}: no initialiser of the file holds the weight {lost[0]}; it could not be written back")
    return found


def _check(file: bytes, module: nn.Module, shape: Shape, cut: bool, feed: Feed | None, what: str, images: Array | None) -> Fidelity:
    from airepair.models.formats.keras_files import answer as ours_for

    inputs = check_inputs(shape, images, feed.largest if feed else 1.0)
    theirs = answer(file, inputs)
    ours = ours_for(module, inputs[: len(theirs)], feed)
    return require(compare(theirs, torch.softmax(torch.from_numpy(ours), 1).numpy() if cut else ours), what)


def answer(file: bytes, inputs: Array) -> Array:
    """What an ONNX file answers: by onnxruntime where it is installed, by onnx's evaluator (on fewer inputs) otherwise."""
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (image,) = (i for i in session.get_inputs())
        fixed = image.shape[0] if isinstance(image.shape[0], int) else 64
        parts = [inputs[i : i + fixed] for i in range(0, len(inputs), fixed)]
        return np.concatenate(
            [session.run(None, {image.name: p})[0] for p in parts if len(p) == fixed or not isinstance(image.shape[0], int)]
        )
    except ImportError:
        import onnx
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(onnx.ModelProto.FromString(file))
        return np.concatenate([evaluator.run(None, {evaluator.input_names[0]: x[None]})[0] for x in inputs[:_REFERENCE_INPUTS]])


def write(module: nn.Module, shape: Shape, out: Path) -> None:
    """Exports a network as ONNX with batch norms and dense layers kept as they are (torch's older exporter: the newer one folds them)."""
    import onnx

    torch.onnx.export(
        module,
        (torch.zeros(2, *shape),),
        str(out),
        dynamo=False,
        opset_version=13,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
    )
    out.write_bytes(unshared(onnx.load(out))[0].SerializeToString())
