"""ONNX files, through onnx and onnx2torch. MMdnn's ONNX support is older than what today's exporters
write, and is not used.

What is lost on this way: a batch norm that the exporter folded into its convolution stays folded.
Weights that onnx2torch keeps as buffers are made parameters here. What comes back is the user's own
file with its initialisers replaced. If the exporter let several layers share one initialiser
because its numbers happened to be equal (torch does, by an Identity), each layer gets its own: a
repair may change one and not the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from airepair.errors import UsageError, one_line
from airepair.formats import OpenOptions
from airepair.formats.answer import answer as ours_for
from airepair.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.formats.heads import head_note, headed
from airepair.formats.mmdnn.ir import Array
from airepair.formats.model_file import ModelFile
from airepair.formats.onnx.ends import Ends, network_in
from airepair.formats.onnx.graph import array, copied, fill, in_order, inlined, load, numbers, unshared
from airepair.formats.onnx.operations import converter
from airepair.formats.onnx.terms import in_terms
from airepair.host.atomic import replacing
from airepair.models.layouts import LAYOUTS, Shape, shape_in

_REFERENCE_INPUTS = 16  # for onnx's own evaluator, which is slow; with onnxruntime it is all of them


def open_file(path: Path, kind: str, options: OpenOptions) -> ModelFile:
    """Opens an ONNX model; see open_model."""
    loaded, beside = load(path, options.max_bytes)
    whole = loaded.SerializeToString() if beside else path.read_bytes()
    model, parted = unshared(loaded)
    network, ends = network_in(inlined(model), path, _sizes(options), options.outputs)
    module = _module(in_terms(network, path), path)
    places = _places(model, module, path, options)
    fidelity = _check(whole, module, ends, str(path), options.images)

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        changed, _ = unshared(load(path, options.max_bytes)[0])
        state = repaired.state_dict()
        for name, tensor in numbers(changed).items():
            if name in places:
                key, turned = places[name]
                value = state[key].detach().cpu().numpy()
                fill(tensor, np.ascontiguousarray(value.T if turned else value).reshape(tuple(tensor.dims)))
        with replacing(out, keep_name=True) as temporary:
            temporary.write_bytes(changed.SerializeToString())
            return _check(temporary.read_bytes(), repaired, ends, str(out), options.images)

    layers = {key: name for name, (key, _) in places.items()}
    notes = tuple(_notes(loaded, ends, beside, parted))
    return ModelFile(
        module,
        "onnx",
        path,
        writer,
        ends.shape,
        ends.feed,
        fidelity,
        notes,
        layers,
        ".onnx",
        channels_last=ends.turned,
    )


def _sizes(options: OpenOptions) -> list[Shape]:
    """The shapes of one input that a file may mean where it leaves its sizes open, the likeliest first."""
    images = tuple(options.images.shape[1:]) if options.images is not None else None
    found = [shape_in(word, images) for word in LAYOUTS] if images is not None else []
    return [shape for shape in (options.shape, *found) if shape is not None]


def _notes(model: Any, ends: Ends, beside: tuple[str, ...], parted: int) -> list[str]:
    notes = ["through onnx2torch: folded batch norms stay folded"]
    outputs = [o.name for o in model.graph.output]
    notes += (
        [f"of its outputs {', '.join(outputs)} the network's is {ends.output}; the others stay in the file"]
        if len(outputs) > 1
        else []
    )
    notes += [head_note(ends.head)] if ends.head else []
    notes += (
        [f"the numbers that stand beside it in {', '.join(beside)} are inside the file that is written"]
        if beside
        else []
    )
    notes += (
        [f"{parted} initialisers that layers shared by an Identity are written once for each layer"]
        if parted
        else []
    )
    notes += (
        [f"scaling ({ends.feed.source}) is kept in the file and taken out of the network"]
        if ends.feed
        else []
    )
    return notes


def _module(model: Any, path: Path) -> nn.Module:
    try:
        module = converter()(model)
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


def _places(model: Any, module: nn.Module, path: Path, options: OpenOptions) -> dict[str, tuple[str, bool]]:
    """Constant of the file -> (state-dict key, transposed), from a second conversion in which every
    constant holds its own number.
    """
    tagged = copied(model)
    floats = [
        (name, t) for name, t in numbers(tagged).items() if array(t, path).dtype == np.float32 and len(t.dims)
    ]
    for i, (_, tensor) in enumerate(floats):
        fill(tensor, np.full(tuple(tensor.dims), i + 1, np.float32))
    values = {name: array(t, path) for name, t in numbers(model).items()}
    network, _ = network_in(inlined(tagged), path, _sizes(options), options.outputs)
    state, found = module.state_dict(), {}
    for key, tensor in _module(in_terms(network, path), path).state_dict().items():
        number = float(tensor.flatten()[0]) if tensor.numel() else 0.0
        if not (number == int(number) and 1 <= number <= len(floats) and bool((tensor == number).all())):
            continue
        name, ours = floats[int(number) - 1][0], state[key].numpy()
        turned = not np.array_equal(ours.ravel(), values[name].ravel())
        if turned and not np.array_equal(ours.T.ravel(), values[name].ravel()):
            continue
        if name in found:
            raise UsageError(f"{path}: {name!r} is the weight of two layers; shared weights are not repaired")
        found[name] = (key, turned)
    lost = [k for k, _ in module.named_parameters() if k not in {key for key, _ in found.values()}]
    if lost:
        raise UsageError(
            f"{path}: no initialiser of the file holds the weight {lost[0]}; it could not be written back"
        )
    return found


def _check(file: bytes, module: nn.Module, ends: Ends, what: str, images: Array | None) -> Fidelity:
    inputs = check_inputs(ends.shape, images, ends.feed.largest if ends.feed else 1.0)
    theirs = answer(file, inputs.transpose(0, 2, 3, 1) if ends.turned else inputs, ends.output)
    return require(
        compare(theirs, headed(ours_for(module, inputs[: len(theirs)], ends.feed), ends.head)), what
    )


def answer(file: bytes, inputs: Array, output: str | None = None) -> Array:
    """Returns a value of an ONNX file (default: its first output), by onnxruntime where it is
    installed, by onnx's evaluator, on fewer inputs, if not.
    """
    if output is not None:
        model = onnx.ModelProto.FromString(file)
        if output not in {o.name for o in model.graph.output}:  # what stands before an arg-max
            model.graph.output.add().name = output
            file = model.SerializeToString()
    try:
        import onnxruntime
    except ImportError:
        return _by_evaluator(onnx.ModelProto.FromString(file), inputs, output)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    wanted = [output or session.get_outputs()[0].name]
    fixed = image.shape[0] if isinstance(image.shape[0], int) else None
    parts = [inputs[i : i + (fixed or 64)] for i in range(0, len(inputs), fixed or 64)]
    return np.concatenate([session.run(wanted, {image.name: p})[0] for p in parts if fixed in (None, len(p))])


def _by_evaluator(model: Any, inputs: Array, output: str | None) -> Array:
    evaluator = ReferenceEvaluator(in_order(model, "the file"))
    (image,) = (i for i in model.graph.input if i.name in evaluator.input_names)
    batch = image.type.tensor_type.shape.dim[0].dim_value or 1
    wanted = [output or evaluator.output_names[0]]
    count = min(len(inputs), _REFERENCE_INPUTS * batch) // batch * batch
    return np.concatenate(
        [evaluator.run(wanted, {image.name: inputs[i : i + batch]})[0] for i in range(0, count, batch)]
    )


def write(module: nn.Module, shape: Shape, out: Path) -> None:
    """Exports a network as ONNX with batch norms and dense layers kept as they are (torch's older
    exporter: the newer one folds them).
    """
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
