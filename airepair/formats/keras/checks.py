"""A Keras file before Keras sees it: its architecture in today's words, its sizes, links and layer
classes (docs/formats.md, on trust).
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from airepair.errors import UsageError, one_line
from airepair.formats import OpenOptions
from airepair.formats.keras.legacy import Architecture, modern, nameable, parsed
from airepair.formats.keras.weights import hdf5_part
from airepair.formats.mmdnn.from_keras import LAYERS

MAX_JSON = 64 << 20  # of an architecture beside its weights


def architecture_of(path: Path, kind: str) -> Architecture:
    """Returns the configuration inside a .keras or .h5 file, or beside an .h5 file that holds
    weights only, as Keras 3 takes it.
    """
    beside = None
    if kind == "keras":
        with zipfile.ZipFile(path) as archive:
            text: Any = archive.read("config.json")
    else:
        with _readable(path), h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    if text is None:
        beside = _beside(path)
        if beside.stat().st_size > MAX_JSON:
            raise UsageError(
                f"{beside} has {beside.stat().st_size / 1e6:.0f} MB; an architecture has at most "
                f"{MAX_JSON / 1e6:.0f}"
            )
        text = beside.read_bytes()
    config, names = nameable(modern(parsed(text, beside or path), beside or path))
    return Architecture(config, names, beside)


def _beside(path: Path) -> Path:
    """The `model.to_json()` beside weights: of the same name, else the only one in the folder."""
    stem = path.name.removesuffix(path.suffix).removesuffix(".weights")
    named = path.with_name(f"{stem}.json")
    if named.is_file():
        return named
    found = [p for p in sorted(path.parent.glob("*.json")) if _describes_a_model(p)]
    if len(found) == 1:
        return found[0]
    also = f"; found: {', '.join(p.name for p in found[:4])}" if found else ""
    wanted = f"the whole model, or its architecture (model.to_json()) as {named.name} beside it"
    raise UsageError(f"{path} holds weights only (no model_config); accepted: {wanted}{also}")


def _describes_a_model(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_JSON else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "class_name" in found and "config" in found


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise UsageError(f"{path} is damaged or truncated: {one_line(error, 160)}") from None


def check_file(path: Path, kind: str, config: Any, options: OpenOptions) -> None:
    """Raises UsageError if the file holds links, too much, numbers that are not finite, or layers that
    are not Keras's own.
    """
    with _readable(path), h5py.File(hdf5_part(path, kind), "r") as file:
        _check_datasets(file, path, options.max_bytes)
    _check_config(config, path, options)


def _check_datasets(file: Any, path: Path, max_bytes: int) -> None:
    total = 0
    for count, (name, dataset) in enumerate(_datasets(file, path, set())):
        if dataset.external or dataset.is_virtual:
            raise UsageError(f"{path}: {name} keeps its numbers in another file; such files are not read")
        total += dataset.size * dataset.dtype.itemsize
        if total > max_bytes or count > 100_000:
            raise UsageError(f"{path} unpacks to more than {max_bytes / 1e9:.1f} GB; that is not read")
        if dataset.dtype.kind == "f" and "optimizer" not in name and not np.isfinite(dataset[()]).all():
            raise UsageError(f"{path}: {name} holds NaN or infinite numbers")


def _datasets(
    group: Any, path: Path, seen: set[int], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    """The data sets in a group by their names; `seen` are the addresses of the groups above and
    before it: one of several names would be read once for each way to it.
    """
    if depth > 40:
        raise UsageError(f"{path} is nested too deeply")
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise UsageError(f"{path}: {prefix} is a group of several names; files with links are not read")
    seen.add(address)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UsageError(f"{path}: {prefix}{name} is a link to elsewhere; files with links are not read")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, path, seen, f"{prefix}{name}/", depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield prefix + name, item


def _check_config(config: Any, path: Path, options: OpenOptions) -> None:
    """Every class that Keras would build is one of those that are converted, and Keras's own."""
    for layer in config["config"]["layers"]:
        kind, name = layer["class_name"], layer["config"].get("name", "?")
        if kind == "Lambda":
            hint = (
                "even trusted it cannot be converted: replace it by a layer"
                if options.trust_lambda
                else "it is refused without --trust-lambda"
            )
            raise UsageError(f"{path}: layer {name!r} is a Lambda, code inside the file; {hint}")
        if kind not in LAYERS:
            raise UsageError(
                f"{path}: layer {name!r} ({kind}) cannot be converted; these can: {', '.join(sorted(LAYERS))}"
            )
    for part in _parts(config):
        home = part.get("module") or "keras"
        if not str(home).split(".")[0] == "keras" or (
            part.get("class_name") in ("__lambda__", "function") and home not in ("builtins", "keras")
        ):
            raise UsageError(
                f"{path}: {part.get('class_name')!r} comes from {home!r}; only Keras's own classes are read"
            )
        if ">" in str(part.get("registered_name") or ""):
            raise UsageError(
                f"{path}: {part['registered_name']!r} is a custom class; only Keras's own are read"
            )
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
