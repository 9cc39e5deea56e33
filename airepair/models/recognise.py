"""Recognises the architecture of a state dict from its names and shapes alone, for the common
public variants.

Prefixes (`module.`, `net.`, `model.`, ...) and wrappers ({"state_dict": ...}, {"net": ...}) come
off, `shortcut` and `linear` (the widely used CIFAR ResNets) become `downsample` and `fc`; depth,
width, classes and channels are read from the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.models import MODELS, build
from airepair.models.checkpoint import weights_in
from airepair.models.input_adapter import InputAdapter
from airepair.models.resnet import STAGES

PREFIXES = ("module.", "net.", "model.", "network.", "backbone.", "encoder.", "_orig_mod.")
RENAMED = (
    (r"\.shortcut\.", ".downsample."),
    (r"^(linear|classifier)\.", "fc."),
    (
        r"^conv1\.0\.",
        "conv1.",
    ),  # the widely used CIFAR-100 collection: conv1.0, conv2_x.0.residual_function.0, ...
    (r"^conv1\.1\.", "bn1."),
    (r"\.residual_function\.([036])\.", lambda m: f".conv{int(m[1]) // 3 + 1}."),
    (r"\.residual_function\.([147])\.", lambda m: f".bn{int(m[1]) // 3 + 1}."),
)
SHAPES = (
    (1, 28, 28),
    (3, 32, 32),
    (1, 8, 8),
)  # tried for networks whose shapes do not say the size of the image
SHOWN = 3  # tensors that differ, in an error


@dataclass(frozen=True)
class Found:
    """The field `name` is as the registry knows it (`resnet18w16`), `state` is in our names;
    `shortcut` is for the ResNet-20 family.
    """

    name: str
    classes: int
    channels: int
    state: Mapping[str, Tensor]
    shortcut: str = "A"


def load(
    found: Mapping[str, Any],
    name: str | None = None,
    shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
) -> nn.Module:
    """Returns the network of a state dict (or of a dictionary that holds one), float32, in
    evaluation mode.

    A dictionary with `mean` and `std` (of pixels in 0..1) gives a InputAdapter around it.
    UsageError if nothing known fits.
    """
    weights, _ = weights_in(dict(found), "the file")
    state = cleaned(weights.state_dict() if isinstance(weights, nn.Module) else weights)
    module = _built(state, name or _named(found), shape or _size(found), classes)
    mean, std = (found.get("mean"), found.get("std")) if "conv1.weight" not in found else (None, None)
    if mean is not None and std is not None:
        module = InputAdapter(
            module, torch.as_tensor(mean).flatten().tolist(), torch.as_tensor(std).flatten().tolist()
        )
    return module.eval()


def _named(found: Mapping[str, Any]) -> str | None:
    """What a checkpoint says of itself; only a name that we know counts, and a network of one data
    set's own comes first.
    """
    arch, data = found.get("arch"), found.get("data")
    names = [
        n
        for n in (f"{data}/{arch}", arch)
        if isinstance(arch, str) and n in MODELS.names() and "resnet" not in arch
    ]
    return names[0] if names else None


def _size(found: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """The size of its images, where a checkpoint says it."""
    size = found.get("shape")
    if (
        isinstance(size, (list, tuple))
        and len(size) == 3
        and all(isinstance(n, int) and 0 < n < 10_000 for n in size)
    ):
        return size[0], size[1], size[2]
    return None


def cleaned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state in our names: no common prefix, torchvision's names for shortcut and last layer."""
    state = dict(state)
    if {"mean", "std"} < state.keys() and all(
        k.startswith("net.") for k in state if k not in ("mean", "std")
    ):
        state = {
            k: v for k, v in state.items() if k not in ("mean", "std")
        }  # a InputAdapter's own state dict
    while (shorter := without_prefix(state)) is not None:
        state = shorter
    return {_renamed(k): v for k, v in state.items()}


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Returns the state without one of PREFIXES that all its names have; None if there is none."""
    prefix = next((p for p in PREFIXES if state and all(k.startswith(p) for k in state)), None)
    return None if prefix is None else {k.removeprefix(prefix): v for k, v in state.items()}


def _renamed(name: str) -> str:
    for pattern, new in RENAMED:
        name = re.sub(pattern, new, name)
    return re.sub(r"^conv(\d)_x\.", lambda m: f"layer{int(m[1]) - 1}.", name)


def recognise(state: Mapping[str, Tensor]) -> Found | None:
    """Returns a ResNet's name, classes and channels from the shapes of its (cleaned) state; None
    if it is none that we build.
    """
    stem = state.get("conv1.weight")
    last = state.get("fc.weight")
    if (
        stem is None
        or last is None
        or stem.ndim != 4
        or last.ndim != 2
        or "layer1.0.conv1.weight" not in state
    ):
        return None
    if tuple(stem.shape[2:]) != (3, 3):
        raise UsageError(
            f"conv1.weight is {tuple(stem.shape)}: an ImageNet stem; the ResNets here have the CIFAR "
            f"stem (3 x 3)"
        )
    blocks = tuple(len({k.split(".")[1] for k in state if k.startswith(f"layer{n}.")}) for n in range(1, 5))
    width, classes, channels = int(stem.shape[0]), int(last.shape[0]), int(stem.shape[1])
    if blocks[3] == 0:
        depth = 6 * blocks[0] + 2
        name = f"resnet{depth}"
        known = blocks[0] == blocks[1] == blocks[2] and name in MODELS.names()
        shortcut = "B" if "layer2.0.downsample.0.weight" in state else "A"
        if not known:
            raise UsageError(f"stages of {blocks[:3]} blocks are no ResNet-20, -32, -44 or -56")
        return Found(name + (f"w{width}" if width != 16 else ""), classes, channels, state, shortcut)
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    for name, expected in STAGES.items():
        if expected == (kind, blocks):
            return Found(name + (f"w{width}" if width != 64 else ""), classes, channels, state)
    raise UsageError(f"stages of {blocks} {kind} blocks are no ResNet-18, -34 or -50")


def _built(
    state: Mapping[str, Tensor], name: str | None, shape: tuple[int, int, int] | None, classes: int | None
) -> nn.Module:
    if name is None:
        found = recognise(state)
        if found:
            module = _resnet(found, shape)
        else:
            name, shape = _plain(state, shape)
    if name is not None:
        matrices = [v for v in state.values() if v.ndim == 2]
        classes = classes or (len(matrices[-1]) if matrices else 0)
        module = _as_named(state, name, classes, shape)
    problems = differences(module, state)
    if problems:
        raise UsageError(f"the weights do not fit {name or 'the recognised ResNet'}: {problems}")
    load_weights(module, state)
    return module


def load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the tensors that the network has names for; a counter of batches may be stored as one
    number or as a list of one.
    """
    ours = module.state_dict()
    fitting = {k: v.reshape(ours[k].shape) if _counter(k) else v for k, v in state.items() if k in ours}
    module.load_state_dict(fitting, strict=False)


def _counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _resnet(found: Found, shape: tuple[int, int, int] | None) -> nn.Module:
    size = shape or (found.channels, 32, 32)
    return build(
        found.name, "", found.classes, size, shortcut=found.shortcut if found.shortcut == "B" else None
    )


def _as_named(
    state: Mapping[str, Tensor], name: str, classes: int, shape: tuple[int, int, int] | None
) -> nn.Module:
    dataset, slash, model = name.rpartition("/")
    stem = next((v for v in state.values() if v.ndim == 4), None)
    size = shape or next((s for s in SHAPES if stem is None or s[0] == stem.shape[1]), (3, 32, 32))
    option = (
        "B"
        if any("downsample.0.weight" in k for k in state) and not any(k.startswith("layer4.") for k in state)
        else None
    )
    return build(model, dataset if slash else "", classes, size, shortcut=option)


def _plain(
    state: Mapping[str, Tensor], shape: tuple[int, int, int] | None
) -> tuple[str, tuple[int, int, int]]:
    """The registered network without a ResNet's names whose tensors fit, and for which size of
    images; UsageError if none does.
    """
    matrices = [v for v in state.values() if v.ndim == 2]
    candidates = [n for n in MODELS.builtin if "resnet" not in n] if matrices else []
    for name, size in product(candidates, (shape,) if shape else SHAPES):
        try:
            if not differences(_as_named(state, name, len(matrices[-1]), size), state):
                return name, size
        except UsageError:
            continue
    first = ", ".join(f"{k} {tuple(v.shape)}" for k, v in list(state.items())[:SHOWN])
    raise UsageError(
        f"no known architecture has these tensors ({first}, ...); accepted: {', '.join(MODELS.names())}, "
        f"or your own by --net_arch"
    )


def differences(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Returns the first tensors that differ between a network and a state dict ("" if none does);
    counters of batches may be absent.
    """
    ours = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in state.items()}
    theirs |= {k: ours[k] for k in ours if k in theirs and _counter(k) and sorted(theirs[k]) in ([], [1])}
    found = [
        f"{k}: the file has {theirs[k]}, the network {ours[k]}"
        for k in ours
        if k in theirs and ours[k] != theirs[k]
    ]
    found += [f"{k} {ours[k]} is not in the file" for k in ours if k not in theirs and not _counter(k)]
    found += [f"{k} {theirs[k]} is not in the network" for k in theirs if k not in ours and not _counter(k)]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more
