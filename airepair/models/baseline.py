"""Baselines: trained once, cached by content, written atomically and locked, so that parallel workers do not train twice.

The key covers everything that the weights depend on: architecture, data, fault, recipe, seed, threads, torch version, device kind, split version.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from airepair.data.splits import SPLIT_VERSION, digest
from airepair.exam import Exam
from airepair.models import build
from airepair.models.recipes import Training
from airepair.training import Epoch, Watch, cross_entropy, fit
from airepair.types import Dataset, Recipe, Subject

Progress = Callable[[str, int, int, float], None]
EARLY = "early."  # prefix of the early checkpoint's tensors in the file


def key_of(module: nn.Module, data: Dataset, training: Training, seed: int) -> dict[str, Any]:
    """What the weights of a baseline depend on, as JSON values."""
    return {
        "architecture": hashlib.sha256(repr(module).encode()).hexdigest(),
        "train": digest(data.train),
        "fault": [training.fault, list(map(list, training.fault_options))],
        "recipe": dataclasses.asdict(training.recipe),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": data.train.x.device.type,
        "split_version": SPLIT_VERSION,
    }


def trained(
    name: str, dataset: Dataset, model: str, training: Training, seed: int, cache: Path, progress: Progress = lambda *_: None
) -> Subject:
    """The subject of that seed: from the cache, or trained now on `dataset.train` (fault included) and put there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(model, dataset.name, len(dataset.classes), dataset.shape).to(dataset.train.x.device)
    key = key_of(module, dataset, training, seed)
    content = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = cache / f"{name}-s{seed}-{content[:16]}.safetensors"
    cache.mkdir(parents=True, exist_ok=True)
    early = copy.deepcopy(module)
    with FileLock(f"{file}.lock"):
        if not _restore(file, module, early):
            _train(module, early, dataset, training.recipe, seed, progress)
            _store(file, module, early, key)
    origin = {"kind": "trained here", "model": model, "seed": seed, "key": content, "recipe_origin": training.origin}
    if training.fault:
        origin["fault"] = {"name": training.fault, **dict(training.fault_options)}
    return Subject(name, module.eval(), dataset, training.recipe, "split", origin, {"early": early.eval()})


def _train(module: nn.Module, early: nn.Module, data: Dataset, recipe: Recipe, seed: int, progress: Progress) -> None:
    at = max(1, round(recipe.early * recipe.epochs))

    def keep_early(epoch: Epoch) -> None:
        if epoch.number == at:
            early.load_state_dict(module.state_dict())

    def loss(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(net(x), y, label_smoothing=recipe.label_smoothing)

    generator = torch.Generator().manual_seed(seed)
    chosen = loss if recipe.label_smoothing else cross_entropy
    watch = Watch(progress=progress, epoch=keep_early)
    fit(module, data.train, None, recipe, generator, phase="training the baseline", loss=chosen, watch=watch)


def _restore(file: Path, module: nn.Module, early: nn.Module) -> bool:
    """Puts the cached weights into both modules; False where there are none or the file is damaged (it is then made anew)."""
    if not file.exists():
        return False
    try:
        tensors = load_file(file)
        module.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(EARLY)})
        early.load_state_dict({k.removeprefix(EARLY): v for k, v in tensors.items() if k.startswith(EARLY)})
    except (SafetensorError, OSError, RuntimeError):
        return False
    return True


def _store(file: Path, module: nn.Module, early: nn.Module, key: dict[str, Any]) -> None:
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    tensors |= {EARLY + k: v.detach().cpu().contiguous() for k, v in early.state_dict().items()}
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        save_file(tensors, part)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    file.with_suffix(".json").write_text(json.dumps(key, indent=1, sort_keys=True))


def chance(exam: Exam, classes: int) -> bool:
    """Whether an accuracy cannot be told from guessing (within three standard errors of 1 / classes)."""
    p = 1 / classes
    return bool(exam.accuracy <= p + 3 * (p * (1 - p) / max(1, len(exam.y))) ** 0.5)
