"""The folder that a cell and an external tool exchange: what the tool gets, and what it must leave. No pickles.

job.json            name, seed, classes, groups, options, device "cpu", recipe
data.npz            train_x, train_y, failing_x, failing_y, passing_x, passing_y, validation_x, validation_y, unlabelled (float32 in [0, 1], int64)
model.pt            the module as TorchScript ("torchscript"): the parameters keep their names
model.json          the module as a sequence of layers ("layers"), with model.safetensors, its state_dict
result.safetensors  written by the tool: the repaired state_dict, the same names and shapes
result.json         written by the tool, if it likes: images through forward and backward ("backward"), through forward only ("forward"), "notes"

A line of output such as {"progress": ["training", 3, 10, 0.52]} is reported as progress.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from airepair.engines.layers import describe
from airepair.errors import Unsupported, one_line
from airepair.types import Meter, Task


def write(folder: Path, task: Task, model: str, options: Mapping[str, Any]) -> None:
    """Writes the job; Unsupported where the module has no such form."""
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
    else:
        _script(module, folder / "model.pt")


def plain(module: nn.Module) -> nn.Module:
    """A copy on the CPU without the harness's hooks."""
    found = copy.deepcopy(module).cpu()
    for part in found.modules():
        for key in [k for k, hook in part._forward_pre_hooks.items() if isinstance(hook, Meter)]:
            del part._forward_pre_hooks[key]
    return found


def _script(module: nn.Module, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is frozen, not gone: it trains without its classes
            torch.jit.save(torch.jit.script(module), str(path))
    except Exception as error:
        raise Unsupported(f"the module cannot be written as TorchScript: {one_line(error, 120)}") from error


def read(folder: Path, task: Task) -> nn.Module:
    """The task's module with the tool's weights; its images are counted and its notes filed. RuntimeError for a result that does not fit."""
    result = folder / "result.safetensors"
    if not result.exists():
        raise RuntimeError("the tool left no result.safetensors")
    try:
        state = load_file(result)
    except (SafetensorError, OSError) as error:
        raise RuntimeError(f"the tool's result.safetensors cannot be read: {one_line(error)}") from error
    expected = task.module.state_dict()
    wrong = [k for k in expected.keys() | state.keys() if k not in state or k not in expected or state[k].shape != expected[k].shape]
    if wrong:
        raise RuntimeError(f"the tool's weights do not fit the module: {sorted(wrong)[:3]} differ in name or shape")
    spoilt = [k for k, v in state.items() if not bool(torch.isfinite(v.float()).all())]
    if spoilt:
        raise RuntimeError(f"the tool's weights are not finite: {sorted(spoilt)[:3]}")
    report = _report(folder / "result.json")
    task.module.load_state_dict({k: v.to(expected[k]) for k, v in state.items()})
    for name, training in (("backward", True), ("forward", False)):
        task.meter.add(report.get(name, 0), training=training)
    for note in report.get("notes", ()):
        task.note(str(note))
    return task.module


def _report(path: Path) -> dict[str, Any]:
    """What the tool says of its work, checked; nothing where it says nothing."""
    if not path.exists():
        return {}
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RuntimeError(f"the tool's result.json cannot be read: {one_line(error, 120)}") from error
    counts = [found.get(k, 0) for k in ("backward", "forward")] if isinstance(found, dict) else []
    if not counts or not all(type(c) is int and c >= 0 for c in counts) or not isinstance(found.get("notes", []), list):
        raise RuntimeError("the tool's result.json is another thing than {backward: images, forward: images, notes: [text]}")
    return dict(found)
