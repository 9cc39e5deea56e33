"""Torch weight files: state dicts, checkpoint dictionaries, safetensors, pickled modules. Nothing
is converted; what is written is read again, and held against the repaired module (as_held).

The architecture of a weight file comes from a callable (tensors of the file by name -> a module
that holds them). Which tensor of the file became which of the module is found by calling it a
second time with every tensor filled with its own number: names may change, prefixes fall, and the
way back is still unambiguous. A parameter that layers share has the number that was loaded last; the
file's other names of it are those with the same numbers.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from airepair.errors import UsageError, one_line
from airepair.formats import OpenOptions
from airepair.formats.fidelity import Fidelity
from airepair.formats.model_file import InputScaling, ModelFile
from airepair.formats.torch.held import as_held
from airepair.host.atomic import replacing
from airepair.models import checkpoint

# Beginnings of words in a key beside the weights that a repair makes untrue: what was measured, and
# what a training would go on from.
STALE = (
    "acc",
    "best",
    "err",
    "f1",
    "hist",
    "loss",
    "metric",
    "optim",
    "prec",
    "result",
    "scaler",
    "sched",
    "score",
    "top",
)


def open_file(path: Path, kind: str, options: OpenOptions) -> ModelFile:
    """Opens a torch or safetensors file; see open_model."""
    if kind == "safetensors":
        found: Any = _safetensors(path)
    else:
        found = checkpoint.load(path, trust_pickle=options.trust_pickle, classes=options.classes)
    weights, way = checkpoint.weights_in(found, str(path), options.weights)
    if isinstance(weights, nn.Module):
        return _whole_module(path, weights, found, way, options)
    checkpoint.sound(weights, str(path))
    module = _build(weights, options, path)
    places = _places(weights, options, module, path)
    feed = _feed(found) if isinstance(found, Mapping) else None

    def writer(repaired: nn.Module, out: Path) -> Fidelity | None:
        new = _back(repaired, places, weights)
        checkpoint.sound(new, str(out))
        with replacing(out, keep_name=True) as temporary:
            _write_weights(path, kind, found, way, new, temporary)
            held = open_file(temporary, kind, options).module
            return as_held(held, repaired, weights.values(), options, str(out))

    notes, facts = _notes(found, way), _facts(found, way)
    return ModelFile(
        module, kind, path, writer, feed=feed, notes=notes, suffix=path.suffix or ".pt", facts=facts
    )


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        raise UsageError(f"{path} is damaged or truncated: {one_line(error, 120)}") from None
    return {
        k: tensors[k] for k in sorted(tensors, key=_natural)
    }  # the format keeps no order; the last layer should come last


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _whole_module(
    path: Path, module: nn.Module, found: Any, way: tuple[str, ...], options: OpenOptions
) -> ModelFile:
    checkpoint.sound_module(module, str(path))
    names = checkpoint.names_of(path, options.classes)

    def writer(repaired: nn.Module, out: Path) -> Fidelity | None:
        changed = copy.deepcopy(found)
        target = changed
        for key in way:
            target = target[key]
        target.load_state_dict(repaired.state_dict())
        with replacing(out, keep_name=True) as temporary:
            with checkpoint.pickled_as(names):
                torch.save(changed, temporary)
            held = open_file(temporary, "torch", options).module
            return as_held(held, repaired, module.state_dict().values(), options, str(out))

    return ModelFile(
        copy.deepcopy(module).float().eval(),  # the writer casts back
        "torch",
        path,
        writer,
        notes=("a pickled module", *_notes(found, way)),
        suffix=path.suffix or ".pt",
    )


def _build(weights: Mapping[str, Tensor], options: OpenOptions, path: Path) -> nn.Module:
    first = ", ".join(f"{k} {tuple(v.shape)}" for k, v in list(weights.items())[:2])
    if options.architecture is None:
        raise UsageError(
            f"{path} holds weights only ({len(weights)} tensors: {first}, ...); "
            f"say which network they belong to (--net_arch)"
        )
    try:
        module = options.architecture(weights)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{path}: the weights ({first}, ...) do not fit the network: {one_line(error, 200)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"{path}: the architecture callable gave a {type(module).__name__}, not an nn.Module"
        )
    return module.eval()


def _places(
    weights: Mapping[str, Tensor], options: OpenOptions, module: nn.Module, path: Path
) -> dict[str, str]:
    """Name in the file -> name in the module, from a second building with numbered tensors."""
    names = list(weights)
    numbered = {
        name: torch.full(weights[name].shape, i + 1, dtype=torch.float32) for i, name in enumerate(names)
    }
    assert options.architecture is not None
    tagged = options.architecture(numbered)
    state = module.state_dict()
    places: dict[str, str] = {}
    shared = set()
    for name, tensor in tagged.state_dict().items():
        number = float(tensor.flatten()[0]) if tensor.numel() else 0.0
        if number == int(number) and 1 <= number <= len(names) and bool((tensor == number).all()):
            source = names[int(number) - 1]
            if torch.equal(state[name].flatten(), weights[source].to(state[name].dtype).flatten()):
                shared |= {source} & places.keys()
                places[source] = name
    if not places:
        raise UsageError(
            f"{path}: the architecture callable does not load the file's weights ({names[0]}, ...)"
        )
    others = {
        name: next((s for s in places if _tied(weights[name], weights[s], known=s in shared)), None)
        for name in names
        if name not in places
    }
    return places | {name: places[source] for name, source in others.items() if source}


def _tied(a: Tensor, b: Tensor, *, known: bool) -> bool:
    """Whether two tensors of a file are one parameter: the same numbers, which the network is known
    to share or the file stores once.
    """
    same = a.dtype == b.dtype and torch.equal(a, b)
    return same and (known or a.data_ptr() == b.data_ptr() != 0)


def _back(repaired: nn.Module, places: Mapping[str, str], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The repaired tensors under the file's names, shapes and types."""
    state = repaired.state_dict()
    return {
        name: state[place].detach().cpu().to(old.dtype).reshape(old.shape).contiguous().clone()
        for name, old in weights.items()
        if (place := places.get(name)) in state
    }


def _write_weights(
    path: Path, kind: str, found: Any, way: tuple[str, ...], new: Mapping[str, Tensor], out: Path
) -> None:
    if kind == "safetensors":
        with safe_open(path, framework="pt") as old:
            metadata = old.metadata()
        save_file({**{k: v.contiguous() for k, v in found.items()}, **new}, out, metadata=metadata)
        return
    changed = copy.copy(found)
    inner = changed
    for key in way:
        inner[key] = copy.copy(inner[key])
        inner = inner[key]
    for name, tensor in new.items():
        inner[name] = nn.Parameter(tensor) if isinstance(inner[name], nn.Parameter) else tensor
    torch.save(changed, out)
    shutil.copymode(path, out)


def _feed(found: Mapping[Any, Any]) -> InputScaling | None:
    """Mean and standard deviation that a checkpoint dictionary keeps beside its weights."""
    for scope in (
        found,
        *(
            v
            for k, v in found.items()
            if k in ("normalize", "normalization", "preprocess", "args") and isinstance(v, Mapping)
        ),
    ):
        mean, std = scope.get("mean"), scope.get("std")
        if mean is not None and std is not None:
            m, s = (torch.as_tensor(v, dtype=torch.float64).flatten().tolist() for v in (mean, std))
            if len(m) == len(s) and all(v > 0 for v in s):
                return InputScaling(
                    tuple(1 / v for v in s),
                    tuple(-a / v for a, v in zip(m, s, strict=True)),
                    "mean and std in the checkpoint",
                )
    return None


def _facts(found: Any, way: tuple[str, ...]) -> dict[str, Any]:
    """The plain values beside the weights: "trained_on", "classes", "arch", ..."""
    if not isinstance(found, Mapping):
        return {}
    return {
        str(k): v
        for k, v in found.items()
        if k not in way and isinstance(v, str | int | float | list | tuple | dict)
    }


def _notes(found: Any, way: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(found, Mapping):
        return ()
    others = [key for key in checkpoint.sets_of(found) if way and key != way[0]]
    rest = [str(k) for k in found if str(k) not in (*way, *others) and not isinstance(found[k], Tensor)]
    stale = [*others, *(k for k in rest if any(w.startswith(STALE) for w in re.findall("[a-z]+", k.lower())))]
    notes = (
        [
            f"of its weights {', '.join((way[0], *others))} those of {way[0]} are repaired; "
            f"--weights {others[0]} takes others"
        ]
        if others
        else []
    )
    told = (
        f"the checkpoint's {', '.join(stale)} "
        f"{'stay as they were: they belong' if len(stale) > 1 else 'stays as it was: it belongs'}"
    )
    return (*notes, f"{told} to the weights before the repair") if stale else tuple(notes)
