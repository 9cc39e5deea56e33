"""TorchScript files and exported programs: code as much as weights, so they need trust. Converted
through MMdnn to layers that can be repaired.

If MMdnn cannot, a TorchScript module itself is repaired: its parameters are there, its layers
are not (methods that need them say so).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from airepair.errors import UsageError, one_line
from airepair.formats import OpenOptions
from airepair.formats.answer import answer
from airepair.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.formats.first_difference import INPUTS, first_departure
from airepair.formats.heads import head_note, headed
from airepair.formats.library_warnings import hushed
from airepair.formats.mmdnn.from_torch import Traced, from_program
from airepair.formats.mmdnn.ir import Array, IRModel, renamed, without_head
from airepair.formats.mmdnn.to_torch import arrays_of, to_torch
from airepair.formats.model_file import InputScaling, ModelFile
from airepair.formats.torch.archive_check import check_program, check_records
from airepair.host.atomic import replacing
from airepair.models.checkpoint import sound_module
from airepair.models.layouts import Shape

_SIZES = {
    1: (28, 32, 8, 64),
    3: (32, 64, 224, 28, 96, 299),
}  # tried, where the file does not say its image size


def open_file(path: Path, kind: str, options: OpenOptions) -> ModelFile:
    """Opens a file of torch.jit.save or torch.export.save; see open_model."""
    if not options.trust_pickle:
        raise UsageError(
            f"{path} is a {kind} file, a program; it is refused. If you trust its origin: --trust-pickle"
        )
    with hushed():
        return _script(path, options) if kind == "torchscript" else _exported(path, options)


def _script(path: Path, options: OpenOptions) -> ModelFile:
    check_records(path)
    script = torch.jit.load(path, map_location="cpu").eval()
    sound_module(script, str(path))
    shape = options.shape or guessed_shape(script, str(path))
    try:
        from torch._export.converter import TS2EPConverter

        traced = from_program(TS2EPConverter(script, (torch.zeros(1, *shape),)).convert(), shape)
        module, ir, places, fidelity, head, feed = _convert(traced, script, shape, str(path), options.images)
    except (UsageError, RuntimeError, AttributeError, ImportError, KeyError, TypeError) as error:
        return _as_it_is(path, script, shape, one_line(error, 160))

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        changed = torch.jit.load(path, map_location="cpu").eval()
        _put(changed.state_dict(), arrays_of(repaired, ir), places, traced)
        with replacing(out, keep_name=True) as temporary:
            torch.jit.save(changed, str(temporary))
            return _against(
                torch.jit.load(temporary).eval(), repaired, shape, head, feed, str(out), options.images
            )

    return ModelFile(
        module,
        "torchscript",
        path,
        writer,
        shape,
        feed,
        fidelity,
        _notes(head, feed),
        dict(ir.names),
        path.suffix or ".pt",
    )


def _exported(path: Path, options: OpenOptions) -> ModelFile:
    program = torch.export.load(path)
    check_program(path, program)
    inputs = [n for n in program.graph.nodes if n.op == "placeholder"]
    images = [n for n in inputs if n.name in program.graph_signature.user_inputs]
    size = list(images[0].meta["val"].shape) if len(images) == 1 else []
    if len(size) != 4:
        raise UsageError(
            f"{path}: the program's input has shape {size}; one N x C x H x W input was expected"
        )
    shape = int(size[1]), int(size[2]), int(size[3])
    traced = from_program(program, shape)
    batch = None if not isinstance(size[0], int) else int(size[0])
    module, ir, places, fidelity, head, feed = _convert(
        traced, program.module(), shape, str(path), options.images, batch
    )

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        changed = torch.export.load(path)
        _put(changed.state_dict, arrays_of(repaired, ir), places, traced)
        with replacing(out, keep_name=True) as temporary:
            torch.export.save(changed, temporary)
            return _against(
                torch.export.load(temporary).module(),
                repaired,
                shape,
                head,
                feed,
                str(out),
                options.images,
                batch,
            )

    return ModelFile(
        module, "exported", path, writer, shape, feed, fidelity, _notes(head, feed), dict(ir.names), ".pt2"
    )


def _notes(head: str, feed: InputScaling | None) -> tuple[str, ...]:
    notes = [head_note(head)] if head else []
    return (
        (*notes, f"scaling ({feed.source}) is kept in the file and taken out of the network")
        if feed
        else tuple(notes)
    )


def _convert(
    traced: Traced, source: Any, shape: Any, what: str, images: Array | None, batch: int | None = None
) -> tuple[nn.Module, IRModel, Any, Fidelity, str, InputScaling | None]:
    whole = renamed(traced.model)
    new = dict(
        zip((n.name for n in traced.model.graph.node), (n.name for n in whole.graph.node), strict=True)
    )
    ir, head = without_head(whole)
    module = to_torch(ir)
    places = {(new[node], kind): (node, kind) for node, kind in traced.places}
    plain = set(traced.scale) == {1.0} and set(traced.offset) == {0.0}
    feed = (
        None if plain else InputScaling(traced.scale, traced.offset, "constants at the input of the program")
    )
    try:
        fidelity = _against(source, module, shape, head, feed, what, images, batch)
    except UsageError as error:
        sources = {new[k]: v for k, v in traced.sources.items()}
        name = first_departure(
            module,
            check_inputs(shape),
            feed,
            sources,
            _graph_activations(source, shape, set(sources.values()), batch),
        )
        names = {v: ir.names[k] for k, v in sources.items()}
        raise (
            UsageError(f"{error}; the first layer that differs: {names[name]!r} ({name})") if name else error
        ) from None
    return module, ir, places, fidelity, head, feed


def _graph_activations(
    source: Any, shape: Any, names: set[str], batch: int | None
) -> Callable[[str], Array | None]:
    """Activations of an exported program's module by the names of its graph's nodes, channels last;
    none of a TorchScript module.
    """
    seen: dict[str, list[Array]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.name in names and isinstance(value, Tensor):
                seen.setdefault(n.name, []).append(value.detach().numpy())
            return value

    if isinstance(source, fx.GraphModule):
        with torch.no_grad():
            for images in torch.from_numpy(check_inputs(shape)[:INPUTS]).split(batch or INPUTS):
                Recorder(source).run(images)

    def theirs(name: str) -> Array | None:
        found = np.concatenate(seen[name]) if name in seen else None
        return found.transpose(0, 2, 3, 1) if found is not None and found.ndim == 4 else found

    return theirs


def _against(
    source: Any,
    module: nn.Module,
    shape: Any,
    head: str,
    feed: InputScaling | None,
    what: str,
    images: Array | None,
    batch: int | None = None,
) -> Fidelity:
    inputs = check_inputs(shape, images, feed.largest if feed else 1.0)
    with torch.no_grad():
        theirs = torch.cat([source(x) for x in torch.from_numpy(inputs).split(batch or 64)]).numpy()
    ours = answer(module, inputs, feed)
    return require(compare(theirs, headed(ours, head)), what)


def _put(state: Any, arrays: dict[str, dict[str, Array]], places: Any, traced: Traced) -> None:
    """Copies IR arrays into torch tensors, in torch's layout and order."""
    for (node, kind), origin in places.items():
        array = arrays[node][kind]
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T if array.ndim == 2 else array
        order = traced.orders.get(origin)
        if order is not None:
            back = np.empty_like(array)
            back[..., order] = array
            array = back
        with torch.no_grad():
            state[traced.places[origin]].copy_(torch.from_numpy(np.ascontiguousarray(array)))


class AsItIs(nn.Module):
    """It is a TorchScript module with a clean name for its weights, for the case that it is
    repaired as it is.
    """

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        """Returns the script's outputs, N x K."""
        found: Tensor = self.script(x)
        return found


def _as_it_is(path: Path, script: Any, shape: Any, why: str) -> ModelFile:
    def writer(repaired: nn.Module, out: Path) -> None:
        changed = torch.jit.load(path, map_location="cpu")
        changed.load_state_dict({k.removeprefix("script."): v for k, v in repaired.state_dict().items()})
        with replacing(out, keep_name=True) as temporary:
            torch.jit.save(changed, str(temporary))

    notes = (
        f"not converted ({why}): the TorchScript module itself is repaired; "
        f"methods that look for layers find none",
    )
    return ModelFile(
        AsItIs(copy.deepcopy(script)).eval(),
        "torchscript",
        path,
        writer,
        shape,
        notes=notes,
        suffix=path.suffix or ".pt",
    )


def guessed_shape(module: Any, what: str) -> Shape:
    """Returns one input with which the network in the file `what` runs: images of the common sizes,
    then the vector that its first layer takes.

    UsageError if none fits.
    """
    first = next((p for p in module.parameters() if p.ndim in (2, 4)), None)
    image = first is not None and first.ndim == 4
    for channels in [int(first.shape[1])] if first is not None and image else [1, 3]:
        for size in _SIZES.get(channels, (32,)):
            if _takes(module, (channels, size, size)):
                return channels, size, size
    if first is not None and not image and _takes(module, (int(first.shape[1]),)):
        return (int(first.shape[1]),)
    raise UsageError(
        f"{what} does not say the size of its images, and none of the common ones fits; give it: "
        f"--shape C,H,W"
    )


def _takes(module: Any, shape: Shape) -> bool:
    try:
        with torch.no_grad():
            found: bool = module(torch.zeros(1, *shape)).ndim == 2
    except Exception:  # whatever a user's network raises on what it does not take
        return False
    return found
