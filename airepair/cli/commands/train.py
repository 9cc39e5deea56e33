"""Trains a baseline and writes its folder."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from airepair import data
from airepair.cli.train_progress import Epochs
from airepair.errors import UsageError
from airepair.host.arithmetic.precision import mark
from airepair.models import build
from airepair.models.names import model_name
from airepair.runner.device import device_of
from airepair.subjects.grid import on_device, spoil
from airepair.subjects.model_folder import (
    MODEL,
    Schedule,
    TrainedModel,
    read_trained,
    train_into,
    training_facts,
)
from airepair.subjects.recipes import Training, training_of
from airepair.types import Dataset, Recipe


def run(args: argparse.Namespace) -> int:
    """Trains and writes; 0 when it is done, 1 when --until-accuracy was not reached."""
    architecture, plus, fault = args.net_arch.partition("+")
    model = model_name(architecture, args.depth, args.width) + plus + fault
    schedule_of(args, training_of("", model))  # what cannot be meant is refused before the data are read
    device = device_of(args.device)
    torch.set_num_threads(args.threads)
    found = data.load(data.registered_name(args.dataset), seed=args.seed)
    training = training_of(found.name, model)
    training = replace(training, fault=None) if args.clean else training
    dataset = on_device(spoil(found, training, args.seed), device)
    schedule = schedule_of(args, training)
    if given := {k: v for k, v in _recipe_options(args).items() if v is not None}:
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
    facts = training_facts(module, model, dataset, training, schedule)
    done = read_trained(folder, facts)
    if done is not None:
        print(f"{folder / MODEL}: trained already: {_summary(done)}")
    else:
        print(_heading(dataset, model, training, schedule), flush=True)
        done = train_into(folder, module, facts, dataset, schedule, Epochs(schedule.recipe.epochs))
        print(f"{folder / MODEL}: {_summary(done)}")
    accuracy, until = done.accuracy["validation"], schedule.until
    if until is None or accuracy >= until:
        return 0
    print(
        f"airepair: validation accuracy {accuracy:.4f} did not reach {until}; the model is kept",
        file=sys.stderr,
    )
    return 1


def _recipe_options(args: argparse.Namespace) -> dict[str, Any]:
    """What may stand in the recipe's place; None if it was not given."""
    return {"epochs": args.epochs, "lr": args.lr, "batch_size": args.batch_size}


def schedule_of(args: argparse.Namespace, training: Training) -> Schedule:
    """Returns the recipe with what was given in its place; UsageError for a value out of range."""
    given = _recipe_options(args)
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
    return Schedule(recipe, args.seed, until, _epochs(args, recipe))


def _epochs(args: argparse.Namespace, recipe: Recipe) -> tuple[int, ...]:
    """Those of --keep-epochs."""
    words = [w for w in args.keep_epochs.replace(" ", "").split(",") if w]
    if not all(w.isdigit() and 1 <= int(w) <= recipe.epochs for w in words):
        raise UsageError(
            f"--keep-epochs {args.keep_epochs!r}; accepted: epochs in 1..{recipe.epochs}, for example 2,10"
        )
    return tuple(map(int, words))


def _heading(dataset: Dataset, model: str, training: Training, schedule: Schedule) -> str:
    """What is trained, in one line."""
    options = ", ".join(f"{k} {v}" for k, v in training.fault_options)
    fault = f", fault: {training.fault} ({options})" if training.fault else ""
    until = f", until validation accuracy {schedule.until}" if schedule.until is not None else ""
    size = f"{schedule.recipe.epochs} epochs of {len(dataset.train):,} images{until}"
    return f"{dataset.name} {model}: {size}; recipe of {training.origin}{fault}"


def _summary(done: TrainedModel) -> str:
    scores = ", ".join(f"{name} {done.accuracy[name]:.4f}" for name in ("validation", "test"))
    return f"{scores} after {done.epochs} epochs"
