"""Keras files (.h5, .keras; Keras 2 and 3): read by Keras on its torch backend, converted by MMdnn,
written back into a copy of the file.

TensorFlow is not needed. Before Keras sees a file, its sizes, links and layer classes are checked
here (docs/formats.md, section on trust).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torch import nn

from airepair.errors import UsageError, printable, shortened
from airepair.formats import OpenOptions
from airepair.formats.answer import answer
from airepair.formats.fidelity import Fidelity, check_inputs, compare, require
from airepair.formats.first_difference import INPUTS, first_departure
from airepair.formats.heads import HEADS, head_note, headed
from airepair.formats.keras.checks import architecture_of, check_file
from airepair.formats.keras.legacy import Architecture
from airepair.formats.keras.weights import addresses_of, as_in_an_archive, has_optimizer, write_arrays
from airepair.formats.mmdnn.from_keras import feed_of, from_keras
from airepair.formats.mmdnn.ir import Array, IRModel, channels_last, renamed, without_head, without_nodes
from airepair.formats.mmdnn.to_torch import arrays_of, to_torch
from airepair.formats.model_file import InputScaling, ModelFile
from airepair.host.atomic import replacing


@dataclass(frozen=True, eq=False)
class Read:
    """What was made of a file: the network in MMdnn's terms, the scaling and the softmax (`head`, see
    airepair/formats/heads.py) taken out of it, and loaded names -> the file's.
    """

    ir: IRModel
    feed: InputScaling | None
    head: str
    names: Mapping[str, str]


def open_file(path: Path, kind: str, options: OpenOptions) -> ModelFile:
    """Opens a .h5 or .keras file; see open_model."""
    keras = load_keras()
    with on_cpu(keras):
        return _opened(keras, path, kind, options)


def _opened(keras: Any, path: Path, kind: str, options: OpenOptions) -> ModelFile:
    known = architecture_of(path, kind)
    check_file(path, kind, known.config, options)
    model = load(keras, path, kind, known)
    feed, scaling = feed_of(model)
    ir = from_keras(model)
    ir, head = without_head(
        renamed_without(replace(ir, names={k: known.names.get(v, v) for k, v in ir.names.items()}), scaling)
    )
    module, read = to_torch(ir), Read(ir, feed, head, known.names)
    _same_parameters(model, module, scaling)
    fidelity = _check(keras, model, module, read, str(path), options.images)
    addresses = addresses_of(path, kind, model, ir, known.names)

    def writer(repaired: nn.Module, out: Path) -> Fidelity:
        new = arrays_of(repaired, ir)
        with replacing(out, keep_name=True) as temporary, on_cpu(keras):
            write_arrays(path, kind, {addresses[k]: new[k[0]][k[1]] for k in addresses}, temporary)
            written = load(keras, temporary, kind, known)
            found = _check(keras, written, repaired, read, str(out), options.images)
        if known.beside and not (pair := out.with_name(known.beside.name)).exists():
            shutil.copyfile(known.beside, pair)
        return found

    notes = [head_note(head)] if head else []
    if known.beside:
        notes.append(
            f"the file holds weights only; the architecture is that of {known.beside.name} beside it"
        )
    if feed:
        notes.append(f"scaling at the input ({feed.source}) is kept in the file and taken out of the network")
    if getattr(model, "optimizer", None) is not None or has_optimizer(path, kind):
        notes.append(
            "the optimizer's state in the file stays as it was: it belongs to the weights before the repair"
        )
    names, suffix = dict(ir.names), path.suffix or ".keras"
    return ModelFile(
        module,
        kind,
        path,
        writer,
        ir.input_shape,
        feed,
        fidelity,
        tuple(notes),
        names,
        suffix,
        channels_last=True,
    )


def load_keras() -> Any:
    """Returns Keras; on its torch backend unless the user's program has loaded it with another one."""
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


def on_cpu(keras: Any) -> AbstractContextManager[Any]:
    """Where a file's own model is read and asked: on torch Keras would take a GPU that is there, whose
    convolutions round to ten bits by default, too few for the comparison with the converted network.
    """
    return keras.device("cpu") if keras.backend.backend() == "torch" else nullcontext()


def _leave_tensorflow_out() -> None:
    """Keras on torch still imports TensorFlow, where it is installed, to compare types while it
    writes: seconds, and gigabytes of GPU memory.
    """
    from keras.src.utils import module_utils

    if "tensorflow" not in sys.modules and hasattr(module_utils.tensorflow, "_available"):
        module_utils.tensorflow._available = False


def renamed_without(ir: IRModel, scaling: set[str]) -> IRModel:
    """Returns the model without the scaling nodes, and with nodes named n0, n1, ..."""
    return renamed(without_nodes(ir, scaling))


def load(keras: Any, path: Path, kind: str, known: Architecture | None = None) -> Any:
    """Returns the Keras model in a checked file: not compiled, safe mode on.

    `known`: its architecture, where that is not read from the file.
    """
    found = known or architecture_of(path, kind)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = _loaded(keras, path, kind, found.config, Path(folder))
        except Exception as error:
            raise UsageError(f"{path}: Keras cannot read it: {_reason(error)}") from None
    if keras.backend.backend() == "torch":
        for layer in model.layers:
            if type(layer) is keras.layers.AveragePooling2D and layer.padding == "same":
                layer.call = _average_as_tensorflow(keras, layer)
    return model


def _reason(error: Exception) -> str:
    """What Keras objects to: the last of the exceptions that its message quotes, behind a page of
    configuration and colours.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).rpartition("Exception encountered: ")[2]
    return shortened(printable(" ".join(text.split())) or type(error).__name__, 200)


def _average_as_tensorflow(keras: Any, layer: Any) -> Any:
    """Keras 3.15 on torch repeats the border in uneven "same" padding; on TensorFlow, where files
    are served, padding does not count.
    """

    def call(inputs: Any) -> Any:
        size = [*inputs.shape[1:3]]
        total = [
            max(0, (-(-n // s) - 1) * s + k - n)
            for n, k, s in zip(size, layer.pool_size, layer.strides, strict=True)
        ]
        border = [[0, 0], *([t // 2, t - t // 2] for t in total), [0, 0]]
        inside = keras.ops.pad(keras.ops.ones_like(inputs), border)
        pooled, share = (
            keras.ops.average_pool(x, layer.pool_size, layer.strides, "valid")
            for x in (keras.ops.pad(inputs, border), inside)
        )
        return pooled / share

    return call


def _loaded(keras: Any, path: Path, kind: str, config: dict[str, Any], folder: Path) -> Any:
    """A copy with the configuration in today's words, read by Keras.

    Groups of weights may keep their names: Keras goes by their order.
    """
    text = json.dumps(config)
    if kind == "keras":
        copy = folder / "model.keras"  # Keras goes by the ending
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
            for entry in old.infolist():
                new.writestr(entry.filename, text if entry.filename == "config.json" else old.read(entry))
        return keras.models.load_model(copy, compile=False, safe_mode=True)
    copy = folder / "model.h5"
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        if as_in_an_archive(file):
            weights = copy.rename(folder / "model.weights.h5")
            model = keras.models.model_from_json(text)
            model.load_weights(weights)
            return model
        if "model_weights" not in file:  # weights only
            file.create_group("model_weights").attrs.update(file.attrs)
            for name in [n for n in file if n != "model_weights"]:
                file.move(name, f"model_weights/{name}")
        file.attrs["model_config"] = text
    return keras.models.load_model(copy, compile=False, safe_mode=True)


def _same_parameters(model: Any, module: nn.Module, scaling: set[str]) -> None:
    theirs = sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.trainable_weights)
    frozen = sum(
        int(np.prod(w.shape)) for layer in model.layers if not layer.trainable for w in layer.weights
    )
    ours = sum(p.numel() for p in module.parameters())
    if theirs != ours and not frozen:
        raise UsageError(f"the converted network has {ours} parameters, the file {theirs}")


def outputs(keras: Any, model: Any, inputs: Array) -> Array:
    """What Keras answers for N x C x H x W inputs (or such without channels) in inference mode."""
    inputs = channels_last(inputs)
    found = [
        keras.ops.convert_to_numpy(model(x, training=False))
        for x in np.array_split(inputs, max(1, len(inputs) // 64))
    ]
    return np.concatenate(found)


def _check(
    keras: Any, model: Any, module: nn.Module, read: Read, what: str, images: Array | None
) -> Fidelity:
    """The model against the module; with a final softmax (or its logarithm) in both spaces.

    UsageError above the tolerance.
    """
    inputs = check_inputs(
        read.ir.input_shape, images, read.feed.largest if read.feed else 1.0, channels_last=True
    )
    ours = answer(module, inputs, read.feed)
    as_saved = outputs(keras, model, inputs)
    if read.head:
        _without_head(keras, model)
    found = compare(outputs(keras, model, inputs) if read.head else as_saved, ours)
    where = "" if found.faithful else first_difference(keras, model, module, read, inputs)
    require(found, what, where)
    if read.head:
        require(compare(as_saved, headed(ours, read.head)), what, f"the {HEADS[read.head]} at the end")
    return found


def _without_head(keras: Any, model: Any) -> None:
    """Turns the softmax of the last layer, or its logarithm, off in this (private) model, so that
    its logits can be compared.
    """
    last = model.layers[-1]
    if hasattr(last, "activation"):
        last.activation = keras.activations.linear
    else:
        last.call = lambda inputs, mask=None: inputs


def first_difference(keras: Any, model: Any, module: nn.Module, read: Read, inputs: Array) -> str:
    """Returns the first layer whose activations differ between the file and the converted network;
    "" if that cannot be found.
    """
    layers = {read.names.get(layer.name, layer.name): layer for layer in model.layers}

    def theirs(name: str) -> Array | None:
        return (
            outputs(keras, keras.Model(model.inputs, layers[name].output), inputs[:INPUTS])
            if name in layers
            else None
        )

    name = first_departure(module, inputs, read.feed, read.ir.names, theirs)
    return f"{name!r} ({type(layers[name]).__name__})" if name else ""
