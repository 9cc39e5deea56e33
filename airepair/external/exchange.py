"""The folder that a cell and an external tool exchange: what the tool gets, and what it must leave.
No pickles.

job.json            name, seed, classes, groups, options, device "cpu", recipe
data.npz            train_x, train_y, failing_x, failing_y, passing_x, passing_y, validation_x,
                    validation_y, unlabelled (float32 in [0, 1], int64)
model.pt            the module as TorchScript ("torchscript"): the parameters keep their names
model.json          the module as a sequence of layers ("layers"), with model.safetensors, its
                    state_dict
model.keras         and model.h5, model.onnx, model.pb, model (a SavedModel): converted, and checked
                    to give the same answers ("keras", ...)
result.safetensors  written by the tool: the repaired state_dict, the same names and shapes
                    ("state")
result.keras        and so on: the repaired model as a whole, converted back and checked likewise
                    ("keras", ...)
result.json         written by the tool, if it likes: images through forward and backward
                    ("backward"), through forward only ("forward"), "notes"

A line of output such as {"progress": ["training", 3, 10, 0.52]} is reported as progress.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from airepair.errors import Unsupported, UsageError, one_line
from airepair.evaluation.work import billed
from airepair.external.layer_list import describe
from airepair.external.manifest import CONVERTED
from airepair.formats import open_model
from airepair.formats.export import export
from airepair.types import Task, without_meter


def write(folder: Path, task: Task, model: str, options: Mapping[str, Any]) -> None:
    """Writes the job; Unsupported if the module has no such form."""
    splits = {name: getattr(task, name) for name in ("train", "failing", "passing", "validation")}
    arrays = {f"{name}_x": split.images().cpu().numpy() for name, split in splits.items()}
    arrays |= {f"{name}_y": split.y.cpu().numpy() for name, split in splits.items()}
    np.savez(folder / "data.npz", unlabelled=task.unlabelled.cpu().numpy(), **arrays)
    content = {
        "seed": task.seed,
        "classes": list(task.classes),
        "groups": [list(g) for g in task.groups],
        "options": dict(options),
        "device": "cpu",
        "recipe": dataclasses.asdict(task.recipe),
    }
    (folder / "job.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    module = plain(task.module)
    if model == "layers":
        (folder / "model.json").write_text(json.dumps(describe(module), indent=1), encoding="utf-8")
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "model.safetensors")
    elif model in CONVERTED:
        _export(module, task, folder / f"model{CONVERTED[model]}")
    else:
        _script(module, folder / "model.pt")


def plain(module: nn.Module) -> nn.Module:
    """Returns a copy on the CPU without the harness's hooks."""
    return without_meter(copy.deepcopy(module).cpu())


@contextmanager
def _generators_kept() -> Iterator[None]:
    """The converters make layers and draw their start weights from the global generators, which a
    method leaves alone.
    """
    state = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(state)


def _export(module: nn.Module, task: Task, path: Path) -> None:
    c, h, w = task.validation.x.shape[1:]
    try:
        with _generators_kept(), billed(task):
            export(module, (c, h, w), path)
    except UsageError as error:
        raise Unsupported(f"the module cannot be written as the tool wants it: {one_line(error)}") from error


def _script(module: nn.Module, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # TorchScript is frozen, not gone: it trains without its classes
            torch.jit.save(torch.jit.script(module), str(path))
    except Exception as error:
        raise Unsupported(f"the module cannot be written as TorchScript: {one_line(error, 120)}") from error


def read(folder: Path, task: Task, result: str = "state") -> nn.Module:
    """Returns the repaired module: the task's own with the tool's weights, or what the tool's file
    converts to. RuntimeError for one that does not fit.

    The images that the tool reports are counted, its notes filed, and the passes that check a
    conversion billed as forward images.
    """
    if result in CONVERTED:
        module, report = _opened(folder / f"result{CONVERTED[result]}", task), _report(folder / "result.json")
    else:
        state, report = (
            _state(folder / "result.safetensors", task.module.state_dict()),
            _report(folder / "result.json"),
        )
        task.module.load_state_dict(state)
        module = task.module
    for name, training in (("backward", True), ("forward", False)):
        task.meter.add(report.get(name, 0), training=training)
    for note in report.get("notes", ()):
        task.note(str(note))
    return module


def _opened(result: Path, task: Task) -> nn.Module:
    if not result.exists():
        raise RuntimeError(f"the tool wrote no {result.name}")
    try:
        with _generators_kept(), billed(task):
            opened = open_model(result, images=task.validation.images(slice(0, 100)).cpu().numpy())
    except UsageError as error:
        raise RuntimeError(f"the tool's {result.name} cannot be used: {one_line(error)}") from error
    _finite(opened.module.state_dict(), result.name)
    return opened.module.to(task.device)


def _finite(state: Mapping[str, torch.Tensor], name: str) -> None:
    spoilt = [k for k, v in state.items() if not bool(torch.isfinite(v.float()).all())]
    if spoilt:
        raise RuntimeError(f"the tool's weights are not finite: {sorted(spoilt)[:3]} in {name}")


def _state(result: Path, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if not result.exists():
        raise RuntimeError("the tool wrote no result.safetensors")
    try:
        state = load_file(result)
    except (SafetensorError, OSError) as error:
        raise RuntimeError(f"the tool's result.safetensors cannot be read: {one_line(error)}") from error
    wrong = [
        k
        for k in expected.keys() | state.keys()
        if k not in state or k not in expected or state[k].shape != expected[k].shape
    ]
    if wrong:
        raise RuntimeError(
            f"the tool's weights do not fit the module: {sorted(wrong)[:3]} differ in name or shape"
        )
    _finite(state, result.name)
    return {k: v.to(expected[k]) for k, v in state.items()}


def _report(path: Path) -> dict[str, Any]:
    """What the tool says of its work, checked; nothing if it says nothing."""
    if not path.exists():
        return {}
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RuntimeError(f"the tool's result.json cannot be read: {one_line(error, 120)}") from error
    counts = [found.get(k, 0) for k in ("backward", "forward")] if isinstance(found, dict) else []
    if (
        not counts
        or not all(type(c) is int and c >= 0 for c in counts)
        or not isinstance(found.get("notes", []), list)
    ):
        raise RuntimeError(
            "the tool's result.json is another thing than {backward: images, forward: images, notes: [text]}"
        )
    return dict(found)
