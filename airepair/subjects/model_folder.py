"""A network that is trained into a folder: `model.pt`, `early.pt`, the weights after chosen epochs and
`log.jsonl`.

Every file of weights loads with `weights_only` and states what it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from airepair.errors import UsageError
from airepair.evaluation.exam import sit
from airepair.host.arithmetic.canary import arithmetic
from airepair.host.arithmetic.precision import facts_of
from airepair.models import checkpoint
from airepair.subjects.recipes import Training
from airepair.training.loop import Epoch
from airepair.training.resumable import STATE, Folder, Plan, Watcher, early_epoch, save_atomically, train
from airepair.types import Dataset, Recipe

MODEL, EARLY, LOG = "model.pt", "early.pt", "log.jsonl"


@dataclass(frozen=True)
class Schedule:
    """How long a network is trained.

    until   the validation accuracy at which the training stops; None: after the recipe's epochs
    epochs  those whose weights are kept, beside those of the early checkpoint
    """

    recipe: Recipe
    seed: int
    until: float | None = None
    epochs: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainedModel:
    """It holds the accuracies of a finished training on validation and test, and its epochs."""

    accuracy: Mapping[str, float]
    epochs: int


class Screen(Protocol):
    """Shows a training to a person."""

    def epoch(self, epoch: Epoch) -> None:
        """Shows a finished epoch."""

    def inside(self, epoch: int, done: int, images: int, loss: float) -> None:
        """Shows how far an epoch is."""


def training_facts(
    module: nn.Module, model: str, dataset: Dataset, training: Training, schedule: Schedule
) -> dict[str, Any]:
    """What a file states of itself beside its weights, as plain values."""
    return {
        "arch": model,
        "classes": len(dataset.classes),
        "data": dataset.name,
        "shape": list(dataset.shape),
        "trained_on": f"split of seed {schedule.seed}",
        "digests": dict(dataset.digests),
        "recipe": asdict(schedule.recipe),
        "recipe_origin": training.origin,
        "fault": training.fault or "",
        "seed": schedule.seed,
        "until": schedule.until,
        "arithmetic": arithmetic(dataset.train.x.device),
        "parameters": sum(p.numel() for p in module.parameters()),
    } | facts_of(module)


def read_trained(folder: Path, facts: Mapping[str, Any]) -> TrainedModel | None:
    """Returns the model that the same training left in the folder; None if there is none.

    UsageError if the model is another training's: it is never overwritten.
    """
    file = folder / MODEL
    if not file.exists() or (folder / STATE).exists():
        return None
    found = checkpoint.load(file)
    if not isinstance(found, dict) or any(found.get(k) != v for k, v in facts.items()):
        raise UsageError(f"{file} belongs to another training; accepted: another --out, or delete it")
    return TrainedModel(found["accuracy"], found["epochs"])


def train_into(
    folder: Path,
    module: nn.Module,
    facts: Mapping[str, Any],
    dataset: Dataset,
    schedule: Schedule,
    screen: Screen,
) -> TrainedModel:
    """Trains the module, or goes on with a training that was stopped in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    early, until = early_epoch(schedule.recipe), schedule.until

    def save(name: str, saved: nn.Module, **more: Any) -> None:
        save_atomically({**facts, **more, "state_dict": _cpu(saved)}, folder / name)

    def keep(epoch: int, kept: nn.Module) -> None:
        for name in [EARLY] * (epoch == early) + [f"epoch-{epoch}.pt"] * (epoch in schedule.epochs):
            save(name, kept, epochs=epoch)

    def after(epoch: Epoch) -> None:
        """A training that stops at an accuracy may end before its early epoch: the last one before
        the end stands in.
        """
        if until is not None and epoch.number < early and (epoch.accuracy or 0) < until:
            save(EARLY, module, epochs=epoch.number)
        screen.epoch(epoch)

    plan = Plan(schedule.recipe, schedule.seed, until, tuple(sorted({early, *schedule.epochs})))
    watcher = Watcher(after, keep, screen.inside)
    history = train(module, dataset.train, dataset.validation, plan, Folder(folder), watcher)
    splits = {"validation": dataset.validation, "test": dataset.test}
    accuracy = {name: sit(module, split).accuracy for name, split in splits.items()}
    save(MODEL, module, epochs=len(history), accuracy=accuracy)
    (folder / LOG).write_text("".join(json.dumps(asdict(e)) + "\n" for e in history))
    (folder / STATE).unlink(missing_ok=True)
    return TrainedModel(accuracy, len(history))


def _cpu(module: nn.Module) -> dict[str, Any]:
    return {k: v.detach().cpu() for k, v in module.state_dict().items()}
