"""Torch weight files in and out: what is in them, without running what is in them.

Default is torch's weights-only unpickler. Whole pickled modules load through it as well, with
exactly those classes allowed that are torch's own layers, torchvision's or our models, or classes
that the user names; everything else needs `trust_pickle`.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from airepair.errors import UsageError, one_line, shortened

# Where checkpoint dictionaries of common training scripts keep the weights, most telling first.
WEIGHT_KEYS = ("state_dict", "model_state_dict", "model_state", "net", "model", "weights", "module")
_MODULE_HOMES = (
    "torch.nn.modules.",
    "torchvision.models.",
    "airepair.models.",
    "airepair.formats.extra_layers.",
)
_RENAMED = {
    "airepair.models.feed.Feed": "airepair.models.input_adapter.InputAdapter"
}  # layers in files from before, and their names now
_MOVED = {
    "airepair.models.formats.layers": "airepair.formats.extra_layers"
}  # the same of modules whose layers kept their names
_HARMLESS: dict[str, Any] = {
    "builtins.set": builtins.set,
    "collections.OrderedDict": OrderedDict,
    "argparse.Namespace": argparse.Namespace,
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    "numpy._core.multiarray.scalar": np._core.multiarray.scalar,  # type: ignore[attr-defined]
    "numpy.core.multiarray.scalar": np._core.multiarray.scalar,  # type: ignore[attr-defined]
}


def load(path: Path, *, trust_pickle: bool = False, classes: tuple[type, ...] = ()) -> Any:
    """Returns the object in a torch file, on the CPU. UsageError for a damaged file, or one that
    names code outside the allow-list (which is shown).

    `classes` are the user's own: a file may name them by the module that they were pickled in
    (`__main__.Net`).
    """
    try:
        if trust_pickle:
            with pickled_as(names_of(path, classes) | _moved_in(path)):
                return torch.load(path, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals(_allowed(path, classes)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        reason = next(
            (line for line in str(error).splitlines() if "GLOBAL" in line or "nsupported" in line), ""
        )
        hint = (
            f"it needs more than weights ({shortened(reason.strip(), 120)}); if you trust its origin: "
            f"--trust-pickle"
            if reason
            else one_line(error, 120)
        )
        raise UsageError(f"{path} is refused or damaged: {hint}") from None
    except (
        AttributeError,
        ImportError,
    ) as error:  # a class that is defined in a script, or in a module that is not installed
        raise UsageError(
            f"{path} needs code that is not found here: {one_line(error, 160)}; if it is yours, "
            f"name it too: --net_arch file.py:Net"
        ) from None
    except Exception as error:
        raise UsageError(f"{path} is damaged or truncated: {one_line(error, 160)}") from None


def names_of(path: Path, classes: tuple[type, ...]) -> dict[str, type]:
    """Maps each full name in a pickle to the class of the user's code that it means, found by the
    class's own name.
    """
    declared = {c.__name__: c for c in classes}
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path) if classes else []
    except Exception:  # a legacy file, or a damaged one: torch.load decides
        return {}
    homes = [
        (name, name.rpartition(".")[2])
        for name in names
        if not name.startswith(_MODULE_HOMES) and name not in _HARMLESS
    ]
    return {name: declared[last] for name, last in homes if last in declared}


def _moved_in(path: Path) -> dict[str, type]:
    """Full name in a pickle -> the layer of ours that stood there when the file was written."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a legacy file, or a damaged one: torch.load decides
        return {}
    found = {
        name: _layer_class(name) for name in names if name in _RENAMED or name.rpartition(".")[0] in _MOVED
    }
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def pickled_as(names: Mapping[str, type]) -> Iterator[None]:
    """Within it those classes are found under the full names that a file has for them, and are
    pickled under these names.
    """
    with ExitStack() as back:
        for name, value in names.items():
            home, _, last = name.rpartition(".")
            steps = home.split(".")
            for place in (".".join(steps[: k + 1]) for k in range(len(steps))):
                if place not in sys.modules:
                    sys.modules[place] = ModuleType(place)
                    back.callback(sys.modules.pop, place, None)
            module = sys.modules[home]
            back.callback(_put, module, last, vars(module).get(last))
            back.callback(_put, value, "__module__", value.__module__)
            setattr(module, last, value)
            value.__module__ = home
        yield


def _put(owner: Any, name: str, value: Any) -> None:
    """An attribute as it was; None if there was none."""
    if value is None:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _allowed(path: Path, classes: tuple[type, ...]) -> list[Any]:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a legacy file, or a damaged one: torch.load decides
        return []
    own = names_of(path, classes)
    found = {name: _HARMLESS.get(name) or own.get(name) or _layer_class(name) for name in names}
    refused = sorted(name for name, value in found.items() if value is None)
    if refused:
        raise UsageError(
            f"{path} would run code that is not allowed ({', '.join(refused[:5])}); "
            f"if its classes are yours: --net_arch file.py:Net; "
            "if you trust its origin: --trust-pickle; better: save the state dict"
        )
    if any(value is np.ndarray or name.startswith("numpy.") for name, value in found.items()):
        return [*_named(found), *{type(np.dtype(t)) for t in ("f4", "f8", "i4", "i8", "?", "u1")}]
    return _named(found)


def _named(found: Mapping[str, Any]) -> list[Any]:
    """A class for torch's unpickler, under the name that the file has for it."""
    return [
        value if value is None or not isinstance(value, type) else (value, name)
        for name, value in found.items()
    ]


def _layer_class(name: str) -> type | None:
    """The class of that full name if it is a layer of torch, torchvision or ours; nothing else is
    imported.
    """
    module, _, attribute = _RENAMED.get(name, name).rpartition(".")
    module = _MOVED.get(module, module)
    if not (module + ".").startswith(_MODULE_HOMES):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, RuntimeError):
        return None
    return (
        found
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module
        else None
    )


def weights_in(
    found: Any, where: str, wanted: str | None = None
) -> tuple[Mapping[str, Tensor] | nn.Module, tuple[str, ...]]:
    """Returns the state dict (or module) inside a loaded object and the keys that lead to it.
    UsageError if there is none.

    `wanted`: the one under that key, where a checkpoint holds several (`model_ema`).
    """
    if wanted is not None:
        held = sets_of(found)
        if wanted not in held:
            raise UsageError(
                f"{where} holds no weights under {wanted!r}; accepted: "
                f"{', '.join(held) or 'none, it has one set of weights'}"
            )
        inside, way = weights_in(found[wanted], where)
        return inside, (wanted, *way)
    if isinstance(found, nn.Module):
        return found, ()
    if isinstance(found, Mapping):
        for key in WEIGHT_KEYS:
            if isinstance(found.get(key), (Mapping, nn.Module)):
                inside, way = weights_in(found[key], where)
                return inside, (key, *way)
        tensors = {k: v for k, v in found.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if tensors:
            return tensors, ()
        if held := sets_of(found):
            inside, way = weights_in(found[held[0]], where)
            return inside, (held[0], *way)
        raise UsageError(
            f"{where} holds a dictionary without weights (keys: "
            f"{', '.join(map(str, list(found)[:6])) or 'none'})"
        )
    raise UsageError(
        f"{where} holds a {type(found).__name__}; a state dict, a checkpoint dictionary or a module was "
        f"expected"
    )


def sets_of(found: Any) -> tuple[str, ...]:
    """Returns the keys of a checkpoint dictionary under which there are weights."""
    return tuple(str(k) for k, v in found.items() if _holds_weights(v)) if isinstance(found, Mapping) else ()


def _holds_weights(value: Any) -> bool:
    """A module, or a dictionary of named tensors, also one step further in (`{"shadow": {...}}`);
    the state of an optimiser is none.
    """
    if isinstance(value, nn.Module):
        return True
    if not isinstance(value, Mapping) or "param_groups" in value:
        return False
    inside = [value, *(v for v in value.values() if isinstance(v, Mapping))]
    return any(
        isinstance(k, str) and isinstance(v, Tensor) and v.ndim > 0
        for part in inside
        for k, v in part.items()
    )


def sound(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises UsageError if a tensor is not finite, claims more elements than it stores, or is of a kind
    that is not read.
    """
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
            raise UsageError(
                f"{where}: {name} is a {tensor.dtype} {tensor.layout} tensor; dense real tensors are read"
            )
        if (
            tensor.device.type == "meta"
            or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
        ):
            raise UsageError(
                f"{where}: {name} claims shape {tuple(tensor.shape)}, but the file does not hold that "
                f"many numbers"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UsageError(f"{where}: {name} holds NaN or infinite numbers")


def sound_module(module: nn.Module, where: str) -> None:
    """Checks the same for the parameters and buffers of a module."""
    sound({**dict(module.named_parameters()), **dict(module.named_buffers())}, where)
