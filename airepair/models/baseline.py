"""Baselines: trained once, cached by content, written atomically and locked, so that parallel workers do not train twice.

The key covers everything that the weights depend on: architecture, data, fault, recipe, seed, threads, torch version, device kind, arithmetic,
benchmark version.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from airepair import BENCHMARK_VERSION
from airepair.canary import arithmetic
from airepair.data.splits import digest
from airepair.exam import Exam
from airepair.loop import images_of
from airepair.models import build
from airepair.models.recipes import Training
from airepair.models.train import Folder, Plan, Watcher, early_epoch, save_atomically, train
from airepair.precision import facts_of, mark
from airepair.types import Dataset, Subject

Progress = Callable[[str, int, int, float], None]
LONG = 10.0  # seconds from which on a stopped training goes on where it was
EARLY = "early."  # prefix of the early checkpoint's tensors in the file


def key_of(module: nn.Module, data: Dataset, training: Training, seed: int) -> dict[str, Any]:
    """What the weights of a baseline depend on, as JSON values."""
    facts = {
        "architecture": hashlib.sha256(repr(module).encode()).hexdigest(),
        "train": digest(data.train),
        "fault": [training.fault, list(map(list, training.fault_options))],
        "recipe": dataclasses.asdict(training.recipe),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": data.train.x.device.type,
        "arithmetic": arithmetic(data.train.x.device),
        "benchmark_version": BENCHMARK_VERSION,
    }
    ends = {"until": training.until, "most": training.most}
    return facts | facts_of(module) | {name: value for name, value in ends.items() if value is not None}


def trained(
    name: str, dataset: Dataset, model: str, training: Training, seed: int, cache: Path, progress: Progress = lambda *_: None
) -> Subject:
    """The subject of that seed: from the cache, or trained now on `dataset.train` (fault included) and put there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(model, dataset.name, len(dataset.classes), dataset.shape).to(dataset.train.x.device)
    mark(module, dataset.name, dataset.train.x.device)
    key = key_of(module, dataset, training, seed)
    content = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    file = cache / f"{name}-s{seed}-{content[:16]}.safetensors"
    cache.mkdir(parents=True, exist_ok=True)
    early = copy.deepcopy(module)
    with FileLock(f"{file}.lock"):
        if not _restore(file, module, early):
            _train(module, early, dataset, training, seed, file.with_suffix(".part"), progress)
            _store(file, module, early, key)
    origin = {"kind": "trained here", "model": model, "seed": seed, "key": content, "recipe_origin": training.origin}
    origin |= {name: value for name, value in (("until", training.until), ("most", training.most)) if value is not None}
    if training.fault:
        origin["fault"] = {"name": training.fault, **dict(training.fault_options)}
    return Subject(name, module.eval(), dataset, training.recipe, f"split of seed {dataset.seed}", origin, {"early": early.eval()})


def _train(module: nn.Module, early: nn.Module, data: Dataset, training: Training, seed: int, folder: Path, progress: Progress) -> None:
    """Trains; what takes longer than LONG is resumable, with its state in `folder` until it is done.

    One that stops at an accuracy may end before its early checkpoint; then that is the last epoch before the end.
    """
    recipe, at, kept = training.recipe, early_epoch(training.recipe), folder / "early.pt"
    images = images_of(len(data.train), recipe.batch_size)
    total = recipe.epochs * images
    waiting: list[nn.Module] = []

    def keep_early(_: int, trained_so_far: nn.Module) -> None:
        early.load_state_dict(trained_so_far.state_dict())
        waiting[:] = [early]

    def keep_on_disk() -> None:
        if waiting:  # before the state that makes its epoch a past one
            save_atomically(waiting.pop().state_dict(), kept)

    def inside(epoch: int, done: int, images: int, loss: float) -> None:
        """In images of all epochs, so that the time that is left is the training's and not the epoch's."""
        progress(f"training the baseline, epoch {epoch} of {recipe.epochs}", (epoch - 1) * images + done, total, loss)

    watch = Watcher(lambda e: inside(e.number, images, images, e.loss), keep_early, inside, keep_on_disk)
    plan = Plan(recipe, seed, training.until, tuple(range(1, at + 1)) if training.until else (at,), training.most)
    validation = data.validation if training.until is not None else None
    if kept.exists():
        early.load_state_dict(torch.load(kept, map_location="cpu", weights_only=True))
    train(module, data.train, validation, plan, Folder(folder, LONG), watch)
    shutil.rmtree(folder, ignore_errors=True)


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
    return bool(exam.accuracy <= p + 3 * math.sqrt(p * (1 - p) / max(1, len(exam.y))))
