"""Trains a baseline and writes its folder."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from airepair import data
from airepair.cli.train_progress import Epochs
from airepair.errors import UsageError
from airepair.evaluation.exam import sit
from airepair.host.arithmetic.canary import arithmetic
from airepair.host.arithmetic.precision import facts_of, mark
from airepair.models import build, checkpoint
from airepair.models.names import model_name
from airepair.runner.device import device_of
from airepair.subjects.grid import on_device, spoil
from airepair.subjects.recipes import Training, training_of
from airepair.training.loop import Epoch
from airepair.training.resumable import STATE, Folder, Plan, Watcher, early_epoch, save_atomically, train
from airepair.types import Dataset, Recipe


def run(args: argparse.Namespace) -> int:
    """Trains and writes; 0 when it is done, 1 when --until-accuracy was not reached."""
    architecture, plus, fault = args.net_arch.partition("+")
    model = model_name(architecture, args.depth, args.width) + plus + fault
    plan_of(args, training_of("", model))  # what cannot be meant is refused before the data are read
    device = device_of(args.device)
    torch.set_num_threads(args.threads)
    found = data.load(data.registered_name(args.dataset), seed=args.seed)
    training = training_of(found.name, model)
    training = replace(training, fault=None) if args.clean else training
    dataset = on_device(spoil(found, training, args.seed), device)
    plan = plan_of(args, training)
    if given := {k: v for k, v in _given(args).items() if v is not None}:
        training = replace(
            training, origin=f"{training.origin}; given: {', '.join(f'{k} {v}' for k, v in given.items())}"
        )
    torch.manual_seed(args.seed)
    module = mark(
        build(model, dataset.name, len(dataset.classes), dataset.shape).to(device), dataset.name, device
    )
    if args.remark:
        print(args.remark)
    folder = args.out or Path(f"{dataset.name}-{model}-s{args.seed}")
    facts = _facts(module, model, dataset, training, plan)
    accuracy = _finished(folder, facts) or _train(
        module, facts, dataset, training, plan, _epochs(args, plan.recipe), folder
    )
    reached = plan.until is None or accuracy["validation"] >= plan.until
    if not reached:
        print(
            f"airepair: validation accuracy {accuracy['validation']:.4f} did not reach {plan.until}; "
            f"the model is kept",
            file=sys.stderr,
        )
    return 0 if reached else 1


def _finished(folder: Path, facts: Mapping[str, Any]) -> Mapping[str, float] | None:
    """Accuracies of the model that the same command left here; None if there is none. UsageError
    for another's: it is never overwritten.
    """
    file = folder / "model.pt"
    if not file.exists() or (folder / STATE).exists():
        return None
    found = checkpoint.load(file)
    if not isinstance(found, dict) or any(found.get(k) != v for k, v in facts.items()):
        raise UsageError(f"{file} belongs to another training; accepted: another --out, or delete it")
    accuracy: dict[str, float] = found["accuracy"]
    print(
        f"{file}: trained already: validation {accuracy['validation']:.4f}, "
        f"test {accuracy['test']:.4f} after {found['epochs']} epochs"
    )
    return accuracy


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What may stand in the recipe's place; None where it was not given."""
    return {"epochs": args.epochs, "lr": args.lr, "batch_size": args.batch_size}


def plan_of(args: argparse.Namespace, training: Training) -> Plan:
    """The recipe with what was given in its place; UsageError for a value out of range."""
    given = _given(args)
    for name, value in (given | {"threads": args.threads, "until-accuracy": args.until_accuracy}).items():
        if value is not None and (not value > 0 or value == float("inf")):
            raise UsageError(f"--{name} {value} is out of range; accepted: above 0")
    if args.until_accuracy is not None and args.until_accuracy > 1:
        raise UsageError(
            f"--until-accuracy {args.until_accuracy} is out of range; accepted: a share in 0..1, "
            f"for example 0.4684"
        )
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed} is negative; accepted: 0, 1, 2, ...")
    recipe = replace(training.recipe, **{k: v for k, v in given.items() if v is not None})
    until = args.until_accuracy if args.until_accuracy is not None else training.until
    return Plan(recipe, args.seed, until, tuple(sorted({early_epoch(recipe), *_epochs(args, recipe)})))


def _epochs(args: argparse.Namespace, recipe: Recipe) -> tuple[int, ...]:
    """Those of --keep-epochs."""
    words = [w for w in args.keep_epochs.replace(" ", "").split(",") if w]
    if not all(w.isdigit() and 1 <= int(w) <= recipe.epochs for w in words):
        raise UsageError(
            f"--keep-epochs {args.keep_epochs!r}; accepted: epochs in 1..{recipe.epochs}, for example 2,10"
        )
    return tuple(map(int, words))


def _train(
    module: nn.Module,
    facts: dict[str, Any],
    dataset: Dataset,
    training: Training,
    plan: Plan,
    asked: tuple[int, ...],
    folder: Path,
) -> Mapping[str, float]:

    folder.mkdir(parents=True, exist_ok=True)
    show, early = Epochs(plan.recipe.epochs), early_epoch(plan.recipe)

    def keep(epoch: int, kept: nn.Module) -> None:
        for name in ["early.pt"] * (epoch == early) + [f"epoch-{epoch}.pt"] * (epoch in asked):
            save_atomically(facts | {"epochs": epoch, "state_dict": _cpu(kept)}, folder / name)

    def after(epoch: Epoch) -> None:
        """A training that stops at an accuracy may end before its early epoch: the last one before
        the end stands in.
        """
        if plan.until is not None and epoch.number < early and (epoch.accuracy or 0) < plan.until:
            save_atomically(facts | {"epochs": epoch.number, "state_dict": _cpu(module)}, folder / "early.pt")
        show.epoch(epoch)

    fault = (
        f", fault: {training.fault} ({', '.join(f'{k} {v}' for k, v in training.fault_options)})"
        if training.fault
        else ""
    )
    until = f", until validation accuracy {plan.until}" if plan.until is not None else ""
    size = f"{plan.recipe.epochs} epochs of {len(dataset.train):,} images{until}"
    print(f"{dataset.name} {facts['arch']}: {size}; recipe of {training.origin}{fault}", flush=True)
    history = train(
        module, dataset.train, dataset.validation, plan, Folder(folder), Watcher(after, keep, show.inside)
    )
    accuracy = {
        "validation": sit(module, dataset.validation).accuracy,
        "test": sit(module, dataset.test).accuracy,
    }
    save_atomically(
        facts | {"epochs": len(history), "accuracy": accuracy, "state_dict": _cpu(module)},
        folder / "model.pt",
    )
    (folder / "log.jsonl").write_text("".join(json.dumps(asdict(e)) + "\n" for e in history))
    (folder / STATE).unlink(missing_ok=True)
    print(
        f"{folder / 'model.pt'}: validation {accuracy['validation']:.4f}, "
        f"test {accuracy['test']:.4f} after {len(history)} epochs"
    )
    return accuracy


def _facts(module: nn.Module, model: str, dataset: Dataset, training: Training, plan: Plan) -> dict[str, Any]:
    """What a file says of itself beside its weights (plain values: it loads with weights_only)."""
    return {
        "arch": model,
        "classes": len(dataset.classes),
        "data": dataset.name,
        "shape": list(dataset.shape),
        "trained_on": f"split of seed {plan.seed}",
        "digests": dict(dataset.digests),
        "recipe": asdict(plan.recipe),
        "recipe_origin": training.origin,
        "fault": training.fault or "",
        "seed": plan.seed,
        "until": plan.until,
        "arithmetic": arithmetic(dataset.train.x.device),
        "parameters": sum(p.numel() for p in module.parameters()),
    } | facts_of(module)


def _cpu(module: nn.Module) -> dict[str, Any]:
    return {k: v.detach().cpu() for k, v in module.state_dict().items()}
