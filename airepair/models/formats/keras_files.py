"""Keras files (.h5, .keras; Keras 2 and 3): read by Keras on its torch backend, converted by MMdnn, written back into a copy of the file.

TensorFlow is not needed. Before Keras sees a file, its sizes, links and layer classes are checked here (docs/formats.md, section on trust).
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from airepair.errors import UsageError, one_line
from airepair.models.checkpoint import replacing
from airepair.models.formats import OpenOptions
from airepair.models.formats.departure import INPUTS, first_departure
from airepair.models.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.models.formats.from_keras import LAYERS, feed_of, from_keras
from airepair.models.formats.ir import Array, IRModel, renamed, without_nodes, without_softmax
from airepair.models.formats.opened import Feed, Opened
from airepair.models.formats.to_torch import arrays_of, to_torch

_WRAPPERS = ("Functional", "Model", "Sequential")
_ORDER = ("scale", "weights", "bias", "mean", "var")  # the order of get_weights()


def open_file(path: Path, kind: str, options: OpenOptions) -> Opened:
    """Opens a .h5 or .keras file; see open_model."""
    keras = load_keras()
    check_file(path, kind, options)
    model = load(keras, path, kind)
    feed, scaling = feed_of(model)
    ir = from_keras(model)
    ir, cut = without_softmax(renamed_without(ir, scaling))
    module = to_torch(ir)
    _same_parameters(model, module, scaling)
    fidelity = _check(keras, model, module, ir, feed, cut, str(path), options.images)
    addresses = _addresses(path, kind, model, ir)

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        new = arrays_of(repaired, ir)
        with replacing(out) as temporary:
            write_arrays(path, kind, {addresses[k]: new[k[0]][k[1]] for k in addresses}, temporary)
            written = load(keras, temporary, kind)
            return _check(keras, written, repaired, ir, feed, cut, str(out), options.images)

    notes = ["the final softmax stays in the file; the network, and what it is converted to, answers with logits"] if cut else []
    if feed:
        notes.append(f"scaling at the input ({feed.source}) is kept in the file and taken out of the network")
    if getattr(model, "optimizer", None) is not None or _has_optimizer(path, kind):
        notes.append("the optimizer's state in the file stays as it was: it belongs to the weights before the repair")
    names, suffix = dict(ir.names), path.suffix or ".keras"
    return Opened(module, kind, path, writer, ir.input_shape, feed, fidelity, tuple(notes), names, suffix, channels_last=True)


def load_keras() -> Any:
    """Keras; on its torch backend unless the user's program has loaded it with another one."""
    import sys

    if "keras" not in sys.modules:
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "torch"
        try:
            import keras

            _leave_tensorflow_out()
        finally:
            if before is None:
                del os.environ["KERAS_BACKEND"]
            else:
                os.environ["KERAS_BACKEND"] = before
    import keras

    return keras


def _leave_tensorflow_out() -> None:
    """Keras on torch still imports TensorFlow, where it is installed, to compare types while it writes: seconds, and gigabytes of GPU memory."""
    import sys

    from keras.src.utils import module_utils

    if "tensorflow" not in sys.modules and hasattr(module_utils.tensorflow, "_available"):
        module_utils.tensorflow._available = False


def renamed_without(ir: IRModel, scaling: set[str]) -> IRModel:
    """Without the scaling nodes, and with nodes named n0, n1, ..."""
    return renamed(without_nodes(ir, scaling))


# ---- before Keras sees the file ------------------------------------------------------------------------------------------------------------


def check_file(path: Path, kind: str, options: OpenOptions) -> None:
    """UsageError where the file holds links, too much, numbers that are not finite, or layers that are not Keras's own."""
    import h5py

    if kind == "keras":
        with zipfile.ZipFile(path) as archive:
            config = _json(archive.read("config.json"), path)
            weights: Any = io.BytesIO(archive.read("model.weights.h5"))
    else:
        weights = path
    try:
        with h5py.File(weights, "r") as file:
            if kind == "keras-h5":
                if "model_config" not in file.attrs:
                    raise UsageError(f"{path} holds no model_config: it is weights only (or no Keras file); save the whole model")
                config = _json(file.attrs["model_config"], path)
            _check_datasets(file, path, options.max_bytes)
    except UsageError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise UsageError(f"{path} is damaged or truncated: {one_line(error, 160)}") from None
    _check_config(config, path, options)


def _json(text: Any, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError):
        raise UsageError(f"{path}: its configuration is damaged") from None


def _check_datasets(file: Any, path: Path, max_bytes: int) -> None:
    total = 0
    for count, (name, dataset) in enumerate(_datasets(file, path)):
        if dataset.external or dataset.is_virtual:
            raise UsageError(f"{path}: {name} keeps its numbers in another file; such files are not read")
        total += dataset.size * dataset.dtype.itemsize
        if total > max_bytes or count > 100_000:
            raise UsageError(f"{path} unpacks to more than {max_bytes / 1e9:.1f} GB; that is not read")
        if dataset.dtype.kind == "f" and "optimizer" not in name and not np.isfinite(dataset[()]).all():
            raise UsageError(f"{path}: {name} holds NaN or infinite numbers")


def _datasets(group: Any, path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    import h5py

    if depth > 40:
        raise UsageError(f"{path} is nested too deeply")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UsageError(f"{path}: {prefix}{name} is a link to elsewhere; files with links are not read")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, path, f"{prefix}{name}/", depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield prefix + name, item


def _check_config(config: Any, path: Path, options: OpenOptions) -> None:
    """Every class that Keras would build is one of those that are converted, and Keras's own."""
    if not isinstance(config, dict) or config.get("class_name") not in _WRAPPERS:
        found = config.get("class_name") if isinstance(config, dict) else type(config).__name__
        raise UsageError(f"{path} holds a {found!r} model; Sequential and Functional ones are read")
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    if not isinstance(layers, list):
        raise UsageError(f"{path}: its configuration has no list of layers")
    for layer in layers:
        kind = layer.get("class_name") if isinstance(layer, dict) else None
        settings = layer.get("config") if isinstance(layer, dict) else None
        name = settings.get("name", "?") if isinstance(settings, dict) else "?"
        if kind == "Lambda":
            hint = (
                "even trusted it cannot be converted: replace it by a layer"
                if options.trust_lambda
                else "it is refused without --trust-lambda"
            )
            raise UsageError(f"{path}: layer {name!r} is a Lambda, code inside the file; {hint}")
        if kind not in LAYERS:
            raise UsageError(f"{path}: layer {name!r} ({kind}) cannot be converted; these can: {', '.join(sorted(LAYERS))}")
    for part in _parts(config):
        home = part.get("module") or "keras"
        if not str(home).split(".")[0] == "keras" or (
            part.get("class_name") in ("__lambda__", "function") and home not in ("builtins", "keras")
        ):
            raise UsageError(f"{path}: {part.get('class_name')!r} comes from {home!r}; only Keras's own classes are read")
        if ">" in str(part.get("registered_name") or ""):
            raise UsageError(f"{path}: {part['registered_name']!r} is a custom class; only Keras's own are read")
        if part.get("class_name") == "__lambda__":
            raise UsageError(f"{path}: its configuration holds a lambda, code inside the file; it is refused")


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary with a class_name in a configuration, except the description of training."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            waiting.extend(v for k, v in item.items() if k != "compile_config")
        elif isinstance(item, list):
            waiting.extend(item)


# ---- reading, checking ---------------------------------------------------------------------------------------------------------------------


def load(keras: Any, path: Path, kind: str) -> Any:
    """The Keras model in a checked file: not compiled, safe mode on."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / ("model.h5" if kind == "keras-h5" else "model.keras")  # Keras goes by the ending
        names = _modern_archive(path, copy) if kind == "keras" else _modern_hdf5(path, copy)
        try:
            model = keras.models.load_model(copy, compile=False, safe_mode=True)
        except Exception as error:
            raise UsageError(f"{path}: Keras cannot read it: {one_line(error, 200)}") from None
    for layer in model.layers:
        layer.name = names.get(layer.name, layer.name)
    if keras.backend.backend() == "torch":
        for layer in model.layers:
            if type(layer) is keras.layers.AveragePooling2D and layer.padding == "same":
                layer.call = _average_as_tensorflow(keras, layer)
    return model


def _average_as_tensorflow(keras: Any, layer: Any) -> Any:
    """Keras 3.15 on torch repeats the border in uneven "same" padding; on TensorFlow, where files are served, padding does not count."""

    def call(inputs: Any) -> Any:
        size = [*inputs.shape[1:3]]
        total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, layer.pool_size, layer.strides, strict=True)]
        border = [[0, 0], *([t // 2, t - t // 2] for t in total), [0, 0]]
        inside = keras.ops.pad(keras.ops.ones_like(inputs), border)
        pooled, share = (
            keras.ops.average_pool(x, layer.pool_size, layer.strides, "valid") for x in (keras.ops.pad(inputs, border), inside)
        )
        return pooled / share

    return call


def _modern_archive(path: Path, copy: Path) -> dict[str, str]:
    """A copy in which module names of Keras 2.13 to 2.15 are those of Keras 3, and the batch-norm axis is a number; as `_nameable`."""
    names: dict[str, str] = {}
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename == "config.json":
                text = data.decode("utf-8").replace("keras.src.engine.functional", "keras.src.models.functional")
                text = text.replace("keras.src.engine.sequential", "keras")
                config, names = _nameable(json.loads(re.sub(r'"axis": \[(-?\d+)\]', r'"axis": \1', text)))
                data = json.dumps(config).encode("utf-8")
            new.writestr(entry.filename, data)
    return names


def _modern_hdf5(path: Path, copy: Path) -> dict[str, str]:
    """A copy for Keras 3 on torch; as `_nameable`. Its groups of weights may keep their names: Keras goes by their order."""
    import h5py

    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        config, names = _nameable(json.loads(file.attrs["model_config"]))
        if names:
            file.attrs["model_config"] = json.dumps(config)
    return names


def _nameable(config: Any) -> tuple[Any, dict[str, str]]:
    """The configuration with layer names that torch can have (no "."; Keras 3: no "/"), and new name -> the file's.

    Keras 2 had both; Keras on torch raises `parameter name can't contain "."`.
    """
    inner = config["config"]
    old = [layer["config"].get("name") for layer in (inner["layers"] if isinstance(inner, dict) else inner)]
    new: dict[str, str] = {}
    for name in old:
        if isinstance(name, str) and re.search(r"[./]", name):
            plain = re.sub(r"[./]", "_", name)
            while plain in old or plain in new.values():
                plain += "_"
            new[name] = plain

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        if isinstance(value, list):
            return [put(v) for v in value]
        return new.get(value, value) if isinstance(value, str) else value

    return put(config) if new else config, {v: k for k, v in new.items()}


def _same_parameters(model: Any, module: nn.Module, scaling: set[str]) -> None:
    theirs = sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.trainable_weights)
    frozen = sum(int(np.prod(w.shape)) for layer in model.layers if not layer.trainable for w in layer.weights)
    ours = sum(p.numel() for p in module.parameters())
    if theirs != ours and not frozen:
        raise UsageError(f"the converted network has {ours} parameters, the file {theirs}")


def outputs(keras: Any, model: Any, inputs: Array) -> Array:
    """What Keras answers for N x C x H x W (or N x F) inputs in inference mode."""
    inputs = inputs.transpose(0, 2, 3, 1) if inputs.ndim == 4 else inputs
    found = [keras.ops.convert_to_numpy(model(x, training=False)) for x in np.array_split(inputs, max(1, len(inputs) // 64))]
    return np.concatenate(found)


def _check(
    keras: Any, model: Any, module: nn.Module, ir: IRModel, feed: Feed | None, cut: bool, what: str, images: Array | None
) -> Fidelity:
    """The model against the module; with a final softmax in both spaces. UsageError above the tolerance."""
    inputs = check_inputs(ir.input_shape, images, feed.largest if feed else 1.0, channels_last=True)
    ours = answer(module, inputs, feed)
    as_saved = outputs(keras, model, inputs)
    if cut:
        _without_softmax(keras, model)
    found = compare(outputs(keras, model, inputs) if cut else as_saved, ours)
    where = "" if found.faithful else first_difference(keras, model, module, ir, feed, inputs)
    require(found, what, where)
    if cut:
        require(compare(as_saved, torch.softmax(torch.from_numpy(ours), 1).numpy()), what, "the softmax at the end")
    return found


def answer(module: nn.Module, inputs: Array, feed: Feed | None) -> Array:
    """The module's logits for inputs of the file (scaled as the file would scale them)."""
    if feed is not None:
        scale, offset = (np.asarray(v, np.float32).reshape(1, -1, *[1] * (inputs.ndim - 2)) for v in (feed.scale, feed.offset))
        inputs = inputs * scale + offset
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    training = module.training
    module.eval()
    with torch.no_grad():
        found = torch.cat([module(x.to(device)) for x in torch.from_numpy(inputs).split(64)])
    module.train(training)
    return found.cpu().numpy()


def _without_softmax(keras: Any, model: Any) -> None:
    """Turns the last layer's softmax off in this (private) model, so that its logits can be compared."""
    last = model.layers[-1]
    if hasattr(last, "activation"):
        last.activation = keras.activations.linear
    else:
        last.call = lambda inputs, mask=None: inputs


def first_difference(keras: Any, model: Any, module: nn.Module, ir: IRModel, feed: Feed | None, inputs: Array) -> str:
    """The first layer whose activations differ between the file and the converted network; "" where that cannot be found."""
    layers = {layer.name: layer for layer in model.layers}

    def theirs(name: str) -> Array | None:
        return outputs(keras, keras.Model(model.inputs, layers[name].output), inputs[:INPUTS]) if name in layers else None

    name = first_departure(module, inputs, feed, ir.names, theirs)
    return f"{name!r} ({type(layers[name]).__name__})" if name else ""


# ---- writing back --------------------------------------------------------------------------------------------------------------------------


def _addresses(path: Path, kind: str, model: Any, ir: IRModel) -> dict[tuple[str, str], str]:
    """(IR node, kind of weight) -> dataset in the file's HDF5 part; every one is checked to hold the weight that was read."""
    import h5py

    nodes = {ir.names[node]: node for node in ir.weights}
    found = {}
    with h5py.File(_hdf5_part(path, kind), "r") as file:
        places = _h5_places(file, model) if kind == "keras-h5" else _archive_places(file, model)
        for layer, datasets in places.items():
            if layer not in nodes:
                continue
            node = nodes[layer]
            order = [k for k in _ORDER if k in ir.weights[node]]
            for weight, place in zip(order, datasets, strict=True):
                if place not in file or not np.array_equal(file[place][()], ir.weights[node][weight]):
                    raise UsageError(
                        f"{path}: the weights of layer {layer!r} are not where Keras keeps them ({place}); writing would be a guess"
                    )
                found[node, weight] = place
    missing = [(n, k) for n, kinds in ir.weights.items() for k in kinds if (n, k) not in found]
    if missing:
        raise UsageError(f"{path}: no place in the file for the weights of {ir.names[missing[0][0]]!r}")
    return found


def _hdf5_part(path: Path, kind: str) -> Any:
    if kind == "keras-h5":
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _h5_places(file: Any, model: Any) -> dict[str, list[str]]:
    root = file.get("model_weights", file)
    places = {}
    for layer in model.layers:
        if layer.weights and layer.name in root:
            group = root[layer.name]
            names = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]
            places[layer.name] = [f"{group.name}/{n}" for n in names]
    return places


def _archive_places(file: Any, model: Any) -> dict[str, list[str]]:
    """By class and order of the layers (conv2d, conv2d_1, ...): the names in the archive are not the layers' own."""
    root = "layers" if "layers" in file else "_layer_checkpoint_dependencies"
    used: dict[str, int] = {}
    places = {}
    for layer in model._functional.layers if hasattr(model, "_functional") and root not in file else model.layers:
        name = _snake(type(layer).__name__)
        number = used.get(name, 0)
        used[name] = number + 1
        place = f"{root}/{name}_{number}" if number else f"{root}/{name}"
        if layer.weights and f"{place}/vars" in file:
            group = file[f"{place}/vars"]
            places[layer.name] = [f"{place}/vars/{k}" for k in sorted(group, key=int)]
    return places


def _snake(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def write_arrays(path: Path, kind: str, new: Mapping[str, Array], out: Path) -> None:
    """A copy of the file with some datasets overwritten; everything else stays byte for byte."""
    import h5py

    if kind == "keras-h5":
        shutil.copyfile(path, out)
        with h5py.File(out, "r+") as file:
            for place, array in new.items():
                file[place][...] = array
        return
    part = _hdf5_part(path, kind)
    with h5py.File(part, "r+") as file:
        for place, array in new.items():
            file[place][...] = array
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as archive:
        for entry in old.infolist():
            archive.writestr(entry, part.getvalue() if entry.filename == "model.weights.h5" else old.read(entry))


def _has_optimizer(path: Path, kind: str) -> bool:
    import h5py

    with h5py.File(_hdf5_part(path, kind), "r") as file:
        return "optimizer_weights" in file or bool(len(file.get("optimizer/vars", ())))
