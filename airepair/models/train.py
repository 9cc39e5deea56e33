"""Training a baseline: an epoch at a time, resumable after a kill, stopped early where a validation accuracy is wanted.

Same steps, in the same order, as airepair.training.fit without validation: the weights are equal to the last bit, resumed or not (tested).
Data and augmentation stay on the device.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from airepair.augment import augmentation
from airepair.errors import UsageError, one_line
from airepair.exam import sit
from airepair.stepping import Stepper
from airepair.training import CrossEntropy, Epoch, batches, optimizer_of, rate
from airepair.types import Recipe, Split

# inside(epoch, images of this epoch so far, of how many, mean loss): about once a second.
Inside = Callable[[int, int, int, float], None]
STATE = "state.pt"


@dataclass(frozen=True)
class Plan:
    """`until`: stop after the first epoch whose validation accuracy reaches it (never test); `keep`: after which epochs `kept` is called."""

    recipe: Recipe
    seed: int
    until: float | None = None
    keep: tuple[int, ...] = ()


@dataclass(frozen=True)
class Watcher:
    """What a caller wants to hear: every epoch, the module after the epochs of `keep`, the progress inside an epoch."""

    epoch: Callable[[Epoch], None] = lambda _: None
    kept: Callable[[int, nn.Module], None] = lambda *_: None
    inside: Inside = lambda *_: None


def early_epoch(recipe: Recipe) -> int:
    """After which epoch the early checkpoint is kept."""
    return max(1, round(recipe.early * recipe.epochs))


def train(
    module: nn.Module, data: Split, validation: Split | None, plan: Plan, folder: Path | None = None, watch: Watcher = Watcher()
) -> list[Epoch]:
    """Trains `module` in place to its last epoch (or to `until`); all epochs. With `folder`, the state after each epoch is kept there.

    A run that was killed goes on from that state when it is called with the same plan. UsageError where the state is of another plan.
    """
    recipe, device = plan.recipe, data.x.device
    generator = torch.Generator().manual_seed(plan.seed)
    optimizer = optimizer_of(module, recipe)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(plan.seed)  # dropout draws from the global generator
        history = _resume(folder, module, optimizer, generator, plan, device) if folder else []
        loss, change = CrossEntropy(recipe.label_smoothing), augmentation(recipe.augment)
        with Stepper(module, optimizer, loss, change, generator, plain=True) as step:
            for number in range(len(history) + 1, recipe.epochs + 1):
                if plan.until is not None and history and (history[-1].accuracy or 0) >= plan.until:
                    break
                images, mean = _epoch(step, data, recipe, number, watch.inside)
                accuracy = sit(module, validation).accuracy if validation is not None else None
                history.append(Epoch(number, images, mean, accuracy))
                if number in plan.keep:
                    watch.kept(number, module)
                if folder:
                    _save(folder, module, optimizer, generator, plan, history, device)
                watch.epoch(history[-1])
    module.eval()
    return history


def _epoch(step: Stepper, data: Split, recipe: Recipe, number: int, inside: Inside) -> tuple[int, float]:
    """One pass over the data: images through the module since the start of training, mean loss."""
    per_epoch = len(data) - (1 if len(data) > 1 and len(data) % recipe.batch_size == 1 else 0)
    done, running, told = 0, torch.zeros((), device=data.x.device), time.monotonic()
    step.module.train()
    for index in batches(len(data), recipe.batch_size, step.generator):
        share = ((number - 1) * per_epoch + done) / (per_epoch * recipe.epochs)
        running.add_(step(data, index, rate(recipe, share)), alpha=len(index))
        done += len(index)
        if time.monotonic() - told > 1:
            told = time.monotonic()
            inside(number, done, per_epoch, float(running) / done)
    return number * per_epoch, float(running) / max(1, per_epoch)


def _plan(plan: Plan, module: nn.Module) -> dict[str, Any]:
    shapes = {k: list(v.shape) for k, v in module.state_dict().items()}
    return {"recipe": asdict(plan.recipe), "seed": plan.seed, "until": plan.until, "shapes": shapes}


def _save(
    folder: Path,
    module: nn.Module,
    optimizer: Any,
    generator: torch.Generator,
    plan: Plan,
    history: Collection[Epoch],
    device: torch.device,
) -> None:
    state = {
        "plan": _plan(plan, module),
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "dropout": torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state(),
        "history": [asdict(e) for e in history],
    }
    save_atomically(state, folder / STATE)


def save_atomically(content: Any, path: Path) -> None:
    """torch.save to a temporary name, then to its place: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _resume(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator, plan: Plan, device: torch.device
) -> list[Epoch]:
    file = folder / STATE
    if not file.exists():
        return []
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        same = state["plan"] == _plan(plan, module)
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise UsageError(f"{file} is damaged ({one_line(error, 120)}); delete it to train from the start") from None
    if not same:
        raise UsageError(f"{file} belongs to a training with other settings; delete it, or give another folder")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["dropout"], device)
    else:
        torch.set_rng_state(state["dropout"])
    return [Epoch(**e) for e in state["history"]]
