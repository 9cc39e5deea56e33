"""Training a baseline: the loop (loop.py) with its state on disk, so that a kill costs one epoch at most, and
stopped at a validation accuracy.

The weights equal those of airepair.training.fit without validation to the last bit, resumed or not (tested).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair.augment import augmentation
from airepair.errors import UsageError, one_line
from airepair.exam import sit
from airepair.loop import Course, Epoch, Inside, Resume, batches, images_of, passes
from airepair.precision import facts_of
from airepair.stepping import Stepper
from airepair.training import CrossEntropy, optimizer_of, rate
from airepair.types import Recipe, Split

STATE = "state.pt"


@dataclass(frozen=True)
class Plan:
    """`until`: stop after the first epoch whose validation accuracy reaches it (never test), and after `most` epochs of the recipe's schedule;
    `keep`: after which epochs `kept` is called."""

    recipe: Recipe
    seed: int
    until: float | None = None
    keep: tuple[int, ...] = ()
    most: int | None = None


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
    recipe = plan.recipe
    state = Resumable(module, optimizer_of(module, recipe), torch.Generator().manual_seed(plan.seed), data.x.device)
    history: list[Epoch] = []

    def order() -> list[Tensor]:
        """Batches of the next epoch; none if the accuracy has been reached, or the most epochs."""
        if history and (len(history) == plan.most or (plan.until is not None and (history[-1].accuracy or 0) >= plan.until)):
            return []
        module.train()
        return batches(len(data), recipe.batch_size, state.generator)

    def step(index: Tensor, done: float) -> tuple[Tensor]:
        return (stepper(data, index, rate(recipe, done)),)

    def examine(number: int) -> float | None:
        accuracy = sit(module, validation, quick=True).accuracy if validation is not None else None
        if number in plan.keep:
            watch.kept(number, module)
        return accuracy

    def save(epochs: Sequence[Epoch]) -> None:
        if folder:
            save_atomically(state.content(plan, epochs), folder / STATE)

    course = Course(recipe.epochs, images_of(len(data), recipe.batch_size), order)
    loss, change = CrossEntropy(recipe.label_smoothing), augmentation(recipe.augment)
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        torch.manual_seed(plan.seed)  # dropout draws from the global generator
        history += state.restore(folder / STATE, plan) if folder else []
        with Stepper(module, state.optimizer, loss, change, state.generator, plain=True) as stepper:
            for epoch in passes(course, step, examine, Resume(tuple(history), save), watch.inside):
                history.append(epoch)
                watch.epoch(epoch)
    module.eval()
    return history


@dataclass(frozen=True, eq=False)
class Resumable:
    """All that a training depends on: weights, optimiser, the generators of batches and of dropout (the global one
    of `device`)."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    device: torch.device

    def content(self, plan: Plan, history: Sequence[Epoch]) -> dict[str, Any]:
        """What a file holds of it."""
        return {
            "plan": _plan(plan, self.module),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state(),
            "history": [asdict(e) for e in history],
        }

    def restore(self, file: Path, plan: Plan) -> list[Epoch]:
        """Puts the file's content back and returns the epochs so far; none if there is no file.

        UsageError for a damaged file and for one of another plan.
        """
        if not file.exists():
            return []
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
            same = found["plan"] == _plan(plan, self.module)
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise UsageError(f"{file} is damaged ({one_line(error, 120)}); delete it to train from the start") from None
        if not same:
            raise UsageError(f"{file} belongs to a training with other settings; delete it, or give another folder")
        self.module.load_state_dict(found["module"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.generator.set_state(found["generator"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(found["dropout"], self.device)
        else:
            torch.set_rng_state(found["dropout"])
        return [Epoch(**e) for e in found["history"]]


def _plan(plan: Plan, module: nn.Module) -> dict[str, Any]:
    shapes = {k: list(v.shape) for k, v in module.state_dict().items()}
    facts = {"recipe": asdict(plan.recipe), "seed": plan.seed, "until": plan.until, "shapes": shapes} | facts_of(module)
    return facts | ({} if plan.most is None else {"most": plan.most})


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
