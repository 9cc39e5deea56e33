"""Training a baseline: the loop (loop.py) with its state on disk, so that a kill costs a minute or
an epoch at
most, and stopped at a validation accuracy.

The weights equal those of airepair.training.fit without validation to the last bit, resumed or not (tested).
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair.errors import UsageError, one_line
from airepair.evaluation.exam import sit
from airepair.evaluation.memory import say
from airepair.host.arithmetic.precision import facts_of
from airepair.host.atomic import replacing
from airepair.training.best_state import CrossEntropy, optimizer_of, rate
from airepair.training.loop import Course, Epoch, Inside, Position, Resume, batches, images_of, passes
from airepair.training.step import Stepper, augmentation
from airepair.types import Recipe, Split

STATE = "state.pt"
MINUTE = 60.0  # seconds between two states within an epoch


@dataclass(frozen=True)
class Plan:
    """`until`: stop after the first epoch whose validation accuracy reaches it (never test), and after
    `most` epochs of the recipe's schedule; `keep`: after which epochs `kept` is called.
    """

    recipe: Recipe
    seed: int
    until: float | None = None
    keep: tuple[int, ...] = ()
    most: int | None = None


@dataclass(frozen=True)
class Watcher:
    """What a caller wants to hear: every epoch, the module after the epochs of `keep`, the progress
    inside an epoch, and that the state is about to be saved.
    """

    epoch: Callable[[Epoch], None] = lambda _: None
    kept: Callable[[int, nn.Module], None] = lambda *_: None
    inside: Inside = lambda *_: None
    saving: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Folder:
    """Where the state of a training is kept: at the end of each epoch, unless it was saved less than
    `every` seconds ago, and within an epoch once a minute.
    """

    path: Path
    every: float = 0.0


def early_epoch(recipe: Recipe) -> int:
    """Returns after which epoch the early checkpoint is kept."""
    return max(1, round(recipe.early * recipe.epochs))


def train(
    module: nn.Module,
    data: Split,
    validation: Split | None,
    plan: Plan,
    folder: Folder | None = None,
    watch: Watcher = Watcher(),
) -> list[Epoch]:
    """Trains `module` in place to its last epoch (or as far as the plan wants); all epochs.

    A run that was stopped or killed goes on from the state in `folder` when it is called with the
    same plan. UsageError if the state is of another plan.
    """
    recipe = plan.recipe
    state = Resumable(
        module, optimizer_of(module, recipe), torch.Generator().manual_seed(plan.seed), data.x.device
    )
    history: list[Epoch] = []

    def order() -> list[Tensor]:
        """Batches of the next epoch; none if the accuracy has been reached, or the most epochs."""
        if history and (
            len(history) == plan.most
            or (plan.until is not None and (history[-1].accuracy or 0) >= plan.until)
        ):
            return []
        return batches(len(data), recipe.batch_size, state.generator)

    def step(index: Tensor, done: float) -> tuple[Tensor]:
        return (stepper(data, index, rate(recipe, done)),)

    def examine(number: int) -> float | None:
        accuracy = sit(module, validation, quick=True).accuracy if validation is not None else None
        if number in plan.keep:
            watch.kept(number, module)
        return accuracy

    course = Course(recipe.epochs, images_of(len(data), recipe.batch_size), order)
    loss, change = CrossEntropy(recipe.label_smoothing), augmentation(recipe.augment)
    with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
        torch.manual_seed(plan.seed)  # dropout draws from the global generator
        resume = state.resume(folder, plan, watch.saving)
        history += resume.history
        module.train()
        with Stepper(module, state.optimizer, loss, change, state.generator, plain=True) as stepper:
            for epoch in passes(course, step, examine, resume, watch.inside):
                history.append(epoch)
                watch.epoch(epoch)
                module.train()
    module.eval()
    return history


@dataclass(frozen=True, eq=False)
class Resumable:
    """It holds all that a training depends on: weights, optimiser, the generators of batches and of
    dropout (the global one of `device`).
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    device: torch.device

    def resume(self, folder: Folder | None, plan: Plan, saving: Callable[[], None]) -> Resume:
        """Puts back what the folder has, and saves there.

        UsageError for a damaged state and for one of another plan.
        """
        if folder is None:
            return Resume()
        file, saved = folder.path / STATE, [time.monotonic()]

        def save(history: Sequence[Epoch], position: Position | None) -> None:
            if time.monotonic() - saved[0] < (folder.every if position is None else MINUTE):
                return
            saving()
            keep(self.content(plan, history, position), file)
            saved[0] = time.monotonic()

        if not file.exists():
            return Resume(save=save)
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
            same = found["plan"] == _plan(plan, self.module)
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise UsageError(
                f"{file} is damaged ({one_line(error, 120)}); delete it to train from the start"
            ) from None
        if not same:
            raise UsageError(
                f"{file} belongs to a training with other settings; delete it, or give another folder"
            )
        return Resume([Epoch(**e) for e in found["history"]], self.restore(found), save)

    def content(self, plan: Plan, history: Sequence[Epoch], position: Position | None) -> dict[str, Any]:
        """What a file holds of it."""
        return {
            "plan": _plan(plan, self.module),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.cuda.get_rng_state(self.device)
            if self.device.type == "cuda"
            else torch.get_rng_state(),
            "history": [asdict(e) for e in history],
            "position": None
            if position is None
            else {"rest": list(position.rest), "losses": [list(p) for p in position.losses]},
        }

    def restore(self, found: Mapping[str, Any]) -> Position | None:
        """Puts a file's content back; where it stands within an epoch."""
        self.module.load_state_dict(found["module"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.generator.set_state(found["generator"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(found["dropout"], self.device)
        else:
            torch.set_rng_state(found["dropout"])
        position = found.get("position")
        return position and Position(
            position["rest"], [(loss.to(self.device), images) for loss, images in position["losses"]]
        )


def _plan(plan: Plan, module: nn.Module) -> dict[str, Any]:
    shapes = {k: list(v.shape) for k, v in module.state_dict().items()}
    facts = {
        "recipe": asdict(plan.recipe),
        "seed": plan.seed,
        "until": plan.until,
        "shapes": shapes,
    } | facts_of(module)
    return facts | ({} if plan.most is None else {"most": plan.most})


def keep(content: Any, path: Path) -> None:
    """Keeps state that only a killed training needs: a full disk is a remark, and the training goes on."""
    try:
        save_atomically(content, path)
    except (OSError, RuntimeError) as error:  # torch's writer has no error of its own
        say(f"the state of the training is not kept: {one_line(error, 120)}")


def save_atomically(content: Any, path: Path) -> None:
    """Writes with torch.save to a temporary name, then to its place: a kill leaves the old file or
    the new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, part.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
