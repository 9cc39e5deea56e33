"""Where a Keras file keeps the weights of each layer, and a copy of the file with other weights there."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from airepair.errors import UsageError
from airepair.formats.mmdnn.ir import Array, IRModel

_ORDER = ("scale", "weights", "bias", "mean", "var")  # the order of get_weights()


def addresses_of(
    path: Path, kind: str, model: Any, ir: IRModel, names: Mapping[str, str]
) -> dict[tuple[str, str], str]:
    """Maps (IR node, kind of weight) to the dataset in the file's HDF5 part; every one is checked to
    hold the weight that was read.

    `names`: layers of the loaded model -> their names in the file, where these differ.
    """

    nodes = {ir.names[node]: node for node in ir.weights}
    found = {}
    with h5py.File(hdf5_part(path, kind), "r") as file:
        places = _archive_places(file, model) if as_in_an_archive(file) else _h5_places(file, model, names)
        for loaded, datasets in places.items():
            layer = names.get(loaded, loaded)
            if layer not in nodes:
                continue
            node = nodes[layer]
            order = [k for k in _ORDER if k in ir.weights[node]]
            for weight, place in zip(order, datasets, strict=True):
                if place not in file or not np.array_equal(file[place][()], ir.weights[node][weight]):
                    raise UsageError(
                        f"{path}: the weights of layer {layer!r} are not where Keras keeps them "
                        f"({place}); writing would be a guess"
                    )
                found[node, weight] = place
    missing = [(n, k) for n, kinds in ir.weights.items() for k in kinds if (n, k) not in found]
    if missing:
        raise UsageError(f"{path}: no place in the file for the weights of {ir.names[missing[0][0]]!r}")
    return found


def hdf5_part(path: Path, kind: str) -> Any:
    """Returns the HDF5 file, or the one inside an archive."""
    if kind == "keras-h5":
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _h5_places(file: Any, model: Any, names: Mapping[str, str]) -> dict[str, list[str]]:
    root = file.get("model_weights", file)
    places = {}
    for layer in model.layers:
        name = names.get(layer.name, layer.name)
        if layer.weights and name in root:
            group = root[name]
            held = [n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs["weight_names"]]
            places[layer.name] = [f"{group.name}/{n}" for n in held]
    return places


def _archive_places(file: Any, model: Any) -> dict[str, list[str]]:
    """By class and order of the layers (conv2d, conv2d_1, ...): the names in the archive are not
    the layers' own.
    """
    root = "layers" if "layers" in file else "_layer_checkpoint_dependencies"
    used: dict[str, int] = {}
    places = {}
    for layer in (
        model._functional.layers if hasattr(model, "_functional") and root not in file else model.layers
    ):
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
    """Writes a copy of the file with some datasets overwritten; everything else stays byte for byte."""
    if kind == "keras-h5":
        shutil.copyfile(path, out)
        with h5py.File(out, "r+") as file:
            for place, array in new.items():
                file[place][...] = array
        return
    part = hdf5_part(path, kind)
    with h5py.File(part, "r+") as file:
        for place, array in new.items():
            file[place][...] = array
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as archive:
        for entry in old.infolist():
            archive.writestr(
                entry, part.getvalue() if entry.filename == "model.weights.h5" else old.read(entry)
            )


def has_optimizer(path: Path, kind: str) -> bool:
    """Whether the file keeps an optimizer's state."""
    with h5py.File(hdf5_part(path, kind), "r") as file:
        return "optimizer_weights" in file or bool(len(file.get("optimizer/vars", ())))


def as_in_an_archive(file: Any) -> bool:
    """Whether HDF5 holds weights as Keras 3 keeps them (in a .keras archive, in .weights.h5): by
    class and order, not by name.
    """
    return "model_weights" not in file and "layer_names" not in file.attrs
