"""What a method declares of itself, held against what it does: its sources, its budget, and the
ablations in which only its idea is off.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from airepair.case import SOURCES
from airepair.errors import UsageError
from airepair.methods.information import restricted
from airepair.options import configure
from airepair.testing.bench import Bench, violated, where
from airepair.testing.card import frozen
from airepair.testing.trial import Trial, answers, attempt, digest
from airepair.types import Method

NONE = "sources: ClassVar[frozenset[Source]] = frozenset(('train', 'failing'))"
FACTOR = 2.0  # within which the change of an ablation is of the method's size


def sources(bench: Bench) -> None:
    """Its `sources` are what the method learns from; the harness hands over nothing else."""
    if not frozen(bench.method):
        return  # the card says so
    found: Any = getattr(bench.configured, "sources", None)
    known = isinstance(found, frozenset) and found <= set(SOURCES)
    if not known:
        violated(f"`sources` is a frozenset of {', '.join(SOURCES)}", repr(found), NONE)
    if not found and bench.method.category != "control":
        violated("a method learns from something", "sources is empty", NONE)


def budget(bench: Bench) -> None:
    """`budget(task)` says before the repair how many images it may send through forward and
    backward; the meter never counts more.
    """
    if bench.first.refusal is not None:
        return
    declared, remedy = (
        _declared(bench, bench.configured),
        "an upper bound from the task's sizes and the options",
    )
    used = bench.first.task.meter.backward
    if used > declared:
        violated("budget(task) is not exceeded", f"declared {declared}, used {used}", remedy)
    if bench.first.task.meter.selection and bench.method.category != "control":
        violated(
            "a method's training images count as such",
            f"{bench.first.task.meter.selection} under Meter.choosing",
            "that is for the controls, which choose their options within a cell",
        )


def _declared(bench: Bench, method: Method) -> int:
    """The budget that the method declares; Violation where asking leaves a trace, or it is no number."""
    task = restricted(
        dataclasses.replace(bench.task, module=copy.deepcopy(bench.task.module)), method.sources
    )
    before = digest(task.module)
    try:
        found: Any = method.budget(task)
        again: Any = method.budget(task)
    except Exception as error:
        violated(
            "budget(task) gives a number for a task that is repaired",
            where(error),
            "def budget(self, task: Task) -> int: ...",
        )
    if type(found) is not int or found < 0 or found != again:
        violated(
            "budget(task) is a number of images, the same each time",
            f"{found!r}, then {again!r}",
            "an int, 0 if nothing is trained",
        )
    if digest(task.module) != before:
        violated(
            "budget(task) changes nothing",
            "the module is another one after it",
            "compute it from the sizes in the task",
        )
    return found


def ablations(bench: Bench) -> None:
    """Each setting in `ablations` leaves out the method's own idea alone: as many images, a change
    of the same size, one at least.
    """
    named: Any = getattr(bench.method, "ablations", None)
    remedy = 'ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {"random_choice": {"choice": "random"}}'
    if not isinstance(named, Mapping):
        violated("`ablations` maps names to options", repr(named), remedy)
    if not named and bench.method.category != "control":
        violated("a method that is no control names an ablation", "none", remedy)
    trial = bench.first
    if trial.refusal is not None or not _sound(trial):
        return
    for name, options in named.items():
        _ablation(bench, str(name), options)


def _ablation(bench: Bench, name: str, options: Mapping[str, Any]) -> None:
    """One ablation of the method, run on the same task."""
    if not name.isidentifier():
        violated(
            "an ablation's name is a word, since it becomes part of test ids",
            repr(name),
            "letters, digits and underscores",
        )
    try:
        method = configure(bench.method, {**bench.options, **options})
    except (UsageError, TypeError) as error:
        violated(
            f"ablation {name} gives options that the method has",
            str(error),
            "the names and values of its own options",
        )
    changed = [
        f.name
        for f in dataclasses.fields(method)  # type: ignore[arg-type]
        if getattr(method, f.name) != getattr(bench.configured, f.name)
    ]
    if not changed:
        violated(
            f"ablation {name} differs from the method",
            f"{dict(options)} is what it has anyway",
            "the option that switches its idea off",
        )
    try:
        trial = attempt(method, bench.task)
    except Exception as error:
        violated(
            f"ablation {name} repairs what the method repairs",
            where(error),
            "an option that works wherever the method does",
        )
    if trial.refusal is not None:
        violated(
            f"ablation {name} repairs what the method repairs",
            trial.refusal,
            "an option that works wherever the method does",
        )
    _images(bench, name, method, trial)
    _size(bench.first, name, trial)


def _images(bench: Bench, name: str, method: Method, trial: Trial) -> None:
    """Between half and all of the method's images.

    A direct modification whose ablation declares fewer may use fewer: they buy nothing there.
    """
    used, mine = bench.first.task.meter.backward, trial.task.meter.backward
    share = 1.0
    if bench.method.category == "direct weight modification" and used:
        share = min(1.0, _declared(bench, method) / max(1, _declared(bench, bench.configured)))
    if not 0.5 * share * used <= mine <= used:
        violated(
            f"ablation {name} trains on 50 to 100 % of the method's images",
            f"{mine} of {used}",
            "switch off the idea, not the training: train on other images, or with weight 0",
        )


def _size(first: Trial, name: str, trial: Trial) -> None:
    """A change is made, within a factor of two of the method's; nothing is asked where the method
    itself changes nothing.
    """
    whole, mine = changes(first, trial)
    if whole and not whole / FACTOR <= mine <= whole * FACTOR:
        violated(
            f"ablation {name} changes the network within a factor of {FACTOR:g} of what the method changes",
            f"{mine:.4g} beside {whole:.4g}",
            "another direction, place or order, but a change of the same size",
        )


def _sound(trial: Trial) -> bool:
    """Whether the result can be compared with the start; another rule says what is wrong otherwise."""
    x = trial.task.validation.images()
    return trial.logits.shape == (len(x), len(trial.task.classes)) and bool(
        torch.isfinite(trial.logits).all()
    )


def changes(*trials: Trial) -> list[float]:
    """Returns how far each repair moved the network (L2): over its parameters, or if one of them
    has others now, over the logits of the validation images.
    """
    return [_of_weights(t) for t in trials] if all(map(_alike, trials)) else [_of_logits(t) for t in trials]


def _alike(trial: Trial) -> bool:
    before, after = ({k: v.shape for k, v in m.named_parameters()} for m in (trial.start, trial.module))
    return before == after


def _of_weights(trial: Trial) -> float:
    after = dict(trial.module.named_parameters())
    return float(
        torch.stack(
            [(after[k] - v).detach().double().square().sum() for k, v in trial.start.named_parameters()]
        )
        .sum()
        .sqrt()
    )


def _of_logits(trial: Trial) -> float:
    return float((trial.logits - answers(trial.start, trial.task.validation.images())).double().norm())
