"""Baselines: trained once, cached by content, written atomically and locked, so that parallel workers
do not train twice.

The key covers everything that the weights depend on: architecture, the source of its own classes,
data, fault, recipe, seed, threads, torch version, device kind, arithmetic, benchmark version.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair import BENCHMARK_VERSION
from airepair.errors import UsageError, one_line
from airepair.evaluation.memory import noting, say
from airepair.host import tensor_cache
from airepair.host.arithmetic.canary import arithmetic
from airepair.host.arithmetic.precision import facts_of, mark
from airepair.host.digest import of_json, of_text
from airepair.host.source_code import classes_digest
from airepair.models import build
from airepair.subjects.recipes import Training
from airepair.training.loop import images_of
from airepair.training.resumable import STATE, Folder, Plan, Watcher, early_epoch, keep, train
from airepair.types import Dataset, Subject

Progress = Callable[[str, int, int, float], None]
LONG = 10.0  # seconds from which on a stopped training goes on where it was
EARLY = "early."  # prefix of the early checkpoint's tensors in the file


def key_of(module: nn.Module, data: Dataset, training: Training, seed: int) -> dict[str, Any]:
    """Returns what the weights of a baseline depend on, as JSON values."""
    facts = {
        "architecture": of_text(repr(module)),
        "train": data.train.digest(),
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
    # a network of torch's layers alone is known by its text; own classes have a forward() beside it
    facts |= {"code": code} if (code := classes_digest(map(type, module.modules()))) else {}
    return facts | facts_of(module) | {name: value for name, value in ends.items() if value is not None}


def trained(
    name: str,
    dataset: Dataset,
    model: str,
    training: Training,
    seed: int,
    cache: Path,
    progress: Progress = lambda *_: None,
) -> Subject:
    """Returns the subject of that seed: from the cache, or trained now on `dataset.train` (fault
    included) and put there.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(model, dataset.name, len(dataset.classes), dataset.shape).to(dataset.train.x.device)
    mark(module, dataset.name, dataset.train.x.device)
    key = key_of(module, dataset, training, seed)
    content = of_json(key)
    file = cache / f"{name}-s{seed}-{content[:16]}.safetensors"
    early, remarks = copy.deepcopy(module), list[str]()

    def made() -> tensor_cache.Tensors:
        with noting(remarks.append):
            _train(module, early, dataset, training, seed, file.with_suffix(".part"), progress)
            _describe(file, key)
        return module.state_dict() | {EARLY + k: v for k, v in early.state_dict().items()}

    tensors, was_there = tensor_cache.cached(file, content, made, remarks.append)
    if was_there:
        module.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(EARLY)})
        early.load_state_dict({k.removeprefix(EARLY): v for k, v in tensors.items() if k.startswith(EARLY)})
    dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *remarks))
    origin = {
        "kind": "trained here",
        "model": model,
        "seed": seed,
        "key": content,
        "recipe_origin": training.origin,
    }
    origin |= {
        name: value
        for name, value in (("until", training.until), ("most", training.most))
        if value is not None
    }
    if training.fault:
        origin["fault"] = {"name": training.fault, **dict(training.fault_options)}
    return Subject(
        name,
        module.eval(),
        dataset,
        training.recipe,
        f"split of seed {dataset.seed}",
        origin,
        {"early": early.eval()},
    )


def _train(
    module: nn.Module,
    early: nn.Module,
    data: Dataset,
    training: Training,
    seed: int,
    folder: Path,
    progress: Progress,
) -> None:
    """Trains; what takes longer than LONG is resumable, with its state in `folder` until it is done.

    A state that is damaged or incomplete is dropped.
    """
    fresh = copy.deepcopy(module.state_dict())
    try:
        _trained(module, early, data, training, seed, folder, progress)
    except UsageError as error:
        say(f"a half-trained baseline was dropped: {one_line(error, 200)}")
        shutil.rmtree(folder, ignore_errors=True)
        module.load_state_dict(fresh)
        _trained(module, early, data, training, seed, folder, progress)
    shutil.rmtree(folder, ignore_errors=True)


def _trained(
    module: nn.Module,
    early: nn.Module,
    data: Dataset,
    training: Training,
    seed: int,
    folder: Path,
    progress: Progress,
) -> None:
    """Trains both modules. UsageError if the state in `folder` is damaged, or lacks the early
    checkpoint that it is past.

    A training that stops at an accuracy may end before its early checkpoint; then that is the last
    epoch before the end.
    """
    recipe, at, kept = training.recipe, early_epoch(training.recipe), folder / "early.pt"
    images = images_of(len(data.train), recipe.batch_size)
    total = recipe.epochs * images
    waiting: list[nn.Module] = []
    known = not (folder / STATE).exists()  # whether `early` is what it must be by the end

    def keep_early(_: int, trained_so_far: nn.Module) -> None:
        nonlocal known
        known = True
        early.load_state_dict(trained_so_far.state_dict())
        waiting[:] = [early]

    def keep_on_disk() -> None:
        if waiting:  # before the state that makes its epoch a past one
            keep(waiting.pop().state_dict(), kept)

    def inside(epoch: int, done: int, images: int, loss: float) -> None:
        """In images of all epochs, so that the time that is left is the training's and not the epoch's."""
        progress(
            f"training the baseline, epoch {epoch} of {recipe.epochs}",
            (epoch - 1) * images + done,
            total,
            loss,
        )

    watch = Watcher(lambda e: inside(e.number, images, images, e.loss), keep_early, inside, keep_on_disk)
    plan = Plan(
        recipe, seed, training.until, tuple(range(1, at + 1)) if training.until else (at,), training.most
    )
    validation = data.validation if training.until is not None else None
    if kept.exists():
        early.load_state_dict(_early(kept))
        known = True
    train(module, data.train, validation, plan, Folder(folder, LONG), watch)
    if not known:
        raise UsageError(f"{kept} is missing")


def _early(file: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise UsageError(f"{file} is damaged ({one_line(error, 120)})") from None


def _describe(file: Path, key: dict[str, Any]) -> None:
    """What the key is made of, beside the file, for a person."""
    with suppress(OSError):  # the cache itself says why it keeps nothing
        file.with_suffix(".json").write_text(json.dumps(key, indent=1, sort_keys=True))
