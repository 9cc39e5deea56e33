"""A subject with a fault of known cause, and its clean twin: same recipe, same seed, without the fault.

The twin is trained and cached like any baseline. If the fault is not one of the training (weights,
environment), the faulty subject starts from the weights of the clean training, too. The twin's
images and scores stand in the record: it is the control `retrain`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from airepair.data.splits import with_train
from airepair.errors import UsageError
from airepair.evaluation.exam import sit
from airepair.faults import HEALTHY
from airepair.faults.fault import Fault, options_of
from airepair.host.tensor_cache import digest_of_module
from airepair.subjects.baseline import trained
from airepair.subjects.recipes import Training, without_fault
from airepair.types import Dataset, KnownFault, Recipe, Split, Subject

Progress = Callable[[str, int, int, float], None]
# Parts of the fault's stream: each split is corrupted by random numbers of its own, the same for
# every subject and method.
SALTS = {"train": 1, "repair": 2, "validation": 3, "test": 4}


def faulty(
    names: tuple[str, str],
    clean: Dataset,
    training: Training,
    fault: Fault,
    seed: int,
    cache: Path,
    progress: Progress = lambda *_: None,
) -> Subject:
    """Returns the subject of a case's data set and model (`names`) with that fault, drawn by
    `seed`; `clean` and `training` are those without it.

    UsageError for a fault that changes nothing at its severity or spoils no test input.
    """
    fault = dataclasses.replace(fault, seed=seed)
    plain, model = names[0].partition("+")[0], names[1].partition("+")[0]
    healthy, own = without_fault(training), _own(training, fault)
    data = with_train(clean, fault.train(clean.train, len(clean.classes)))
    if (
        fault.kind == "training"
        and own.recipe == healthy.recipe
        and data.digests["train"] == clean.digests["train"]
    ):
        raise UsageError(
            f"fault {fault.name} at severity {fault.severity:g} changes nothing in the training on {plain}"
        )
    spoiled, others = parts(fault, clean)
    _refuse_if_none(spoiled, fault, clean)
    base = f"{plain}-{model}+{HEALTHY}"
    lesson = f"{base}+{fault.environment}" if fault.environment else base
    twin = trained(
        lesson, with_train(clean, _twin_train(fault, clean.train)), model, healthy, seed, cache, progress
    )
    subject = trained(
        "-".join(names) if fault.kind == "training" else base, data, model, own, seed, cache, progress
    )
    damaged = fault.damage(subject.module)
    if damaged:  # what it spoils is what it turned wrong
        spoiled = sit(twin.module, clean.test).right & ~sit(subject.module, clean.test).right
        others = ~spoiled
        _refuse_if_none(spoiled, fault, clean)
    subject = dataclasses.replace(
        subject,
        name="-".join(names),
        dataset=dataset_under(fault, data),
        environment=fault.environment,
        origin={**subject.origin, "model": names[1]},
    )
    known = KnownFault(_facts(fault), spoiled, others, 0.0, fault.target, damaged)
    return dataclasses.replace(subject, fault=_with_scores(known, subject, twin, clean.test))


def in_environment(subject: Subject, fault: Fault) -> Subject:
    """Returns a network that was trained elsewhere, on the clean images of its data set, as it
    works in the fault's environment. It has no clean twin.
    """
    fault = dataclasses.replace(fault, seed=subject.dataset.seed)
    spoiled, others = parts(fault, subject.dataset)
    known = KnownFault({}, spoiled, others, None)
    return dataclasses.replace(
        subject, dataset=dataset_under(fault, subject.dataset), environment=fault.environment, fault=known
    )


def _refuse_if_none(spoiled: Tensor | Split, fault: Fault, data: Dataset) -> None:
    if not int(spoiled.sum() if isinstance(spoiled, Tensor) else len(spoiled)):
        raise UsageError(
            f"fault {fault.name} at severity {fault.severity:g} spoils none of the {len(data.test)} test "
            f"inputs of {data.name}"
        )


def _refuse_if_same(data: Dataset, changed: Split, environment: str) -> None:
    most = float((changed.images() - data.test.images()).abs().max()) if len(changed) else 1.0
    if most * 255 < 1.5:
        size = " x ".join(map(str, data.shape[1:]))
        raise UsageError(
            f"{environment} changes no image of {data.name} ({size} pixels); accepted: "
            f"another corruption or severity"
        )


def _own(training: Training, fault: Fault) -> Training:
    """The faulty subject's training; the clean one where the fault is not of the training."""
    plain = without_fault(training)
    if fault.kind != "training":
        return plain
    return dataclasses.replace(
        plain, recipe=fault.recipe(plain.recipe), fault=fault.name, fault_options=options_of(fault)
    )


def _twin_train(fault: Fault, train: Split) -> Split:
    """What the clean twin learns from: where the environment is the fault, each image once as it is
    and once changed.
    """
    return train + fault.change_inputs(train, SALTS["train"]) if fault.environment else train


def parts(fault: Fault, clean: Dataset) -> tuple[Tensor | Split, Tensor | Split]:
    """Returns the test inputs that the fault spoils and the others: booleans over the subject's
    test split, or inputs of their own.
    """
    every = torch.ones(len(clean.test), dtype=torch.bool)
    if fault.environment:
        return every, clean.test
    trigger = fault.triggered(clean.test)
    if trigger is not None:
        return trigger, every
    spoiled = fault.spoils(clean)
    return spoiled, ~spoiled


def dataset_under(fault: Fault, data: Dataset) -> Dataset:
    """The splits as the subject meets them: corrupted in an environment; with triggered copies
    beside the images for a backdoor.
    """
    changed: dict[str, Split] = {}
    note = ""
    if fault.environment:
        changed = {
            n: fault.change_inputs(getattr(data, n), SALTS[n]) for n in ("repair", "validation", "test")
        }
        _refuse_if_same(data, changed["test"], str(fault.environment))
        note = f"repair, validation and test images are corrupted: {fault.environment}"
    elif fault.triggered(data.validation) is not None:
        for name in ("repair", "validation"):
            split: Split = getattr(data, name)
            copies = fault.triggered(split)
            changed[name] = split + copies if copies else split
        note = (
            "repair and validation hold triggered copies with their right labels beside their images; "
            "test is clean"
        )
    if not changed:
        return data
    digests = {**data.digests, **{n: s.digest() for n, s in changed.items()}}
    made: dict[str, Any] = dict(changed)
    return dataclasses.replace(data, **made, digests=digests, notes=(*data.notes, note))


def _facts(fault: Fault) -> dict[str, Any]:
    return {"name": fault.name, **dataclasses.asdict(fault)}


def _with_scores(known: KnownFault, subject: Subject, twin: Subject, test: Split) -> KnownFault:
    """The fault with the scores of the faulty subject and of the twin in its facts; `test` is the
    clean test split.
    """
    before, after = (
        {n: _accuracy(m, getattr(known, n), subject.dataset.test) for n in ("spoiled", "others")}
        for m in (subject.module, twin.module)
    )
    counts = {
        n: int(p.sum()) if isinstance(p, Tensor) else len(p)
        for n, p in (("spoiled", known.spoiled), ("others", known.others))
    }
    of_twin = after | {
        "clean_accuracy": sit(twin.module, test).accuracy,
        "images": None
        if "until" in twin.origin
        else images_of(twin.recipe, len(twin.dataset.train)),  # None: it stopped at an accuracy
        "weights": digest_of_module(twin.module),
    }
    weights = (
        {
            "damaged_weights": sum(int(m.sum()) for m in known.damaged.values()),
            "layer": next(iter(known.damaged)),
        }
        if known.damaged
        else {}
    )
    facts = {**known.facts, **weights, "n": counts, "before": before, "twin": of_twin}
    return dataclasses.replace(known, facts=facts, twin=after["spoiled"] or 0.0)


def _accuracy(module: nn.Module, part: Tensor | Split, test: Split) -> float | None:
    exam = sit(module, part) if isinstance(part, Split) else sit(module, test).select(part)
    return exam.accuracy if len(exam.y) else None


def images_of(recipe: Recipe, train: int) -> int:
    """Returns the images through forward and backward in a whole training; a last batch of one image is
    dropped.
    """
    return recipe.epochs * (train - (1 if train > 1 and train % recipe.batch_size == 1 else 0))
