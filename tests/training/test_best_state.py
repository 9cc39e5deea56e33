"""Which state a training keeps: the best on validation, the earlier one on a tie."""

import pytest
import torch

from airepair.evaluation.exam import sit
from airepair.testing import toy
from airepair.training.best_state import Best, Choice, rate, snapshot
from airepair.types import Recipe, Split, Task


def scaled(task: Task, factor: float) -> None:
    """The same answers with logits `factor` times as large: accuracy stays, the loss moves."""
    layer = task.module[5]  # type: ignore[index]
    with torch.no_grad():
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)


def test_a_state_that_is_as_good_does_not_replace_the_earlier_one() -> None:
    """A weight of a unit that never fires changes no answer: the offer is declined, and the first
    state comes back.
    """
    task = toy.task("plain")
    layer = task.module[1]  # type: ignore[index]
    with torch.no_grad():
        layer.bias[3] = -1e3
    best, before = Best(task.module, task.validation), snapshot(task.module)
    with torch.no_grad():
        layer.weight[3] += 1
    assert not best.offer()
    assert best.last == best.key
    best.restore()
    assert all(torch.equal(v, before[k]) for k, v in task.module.state_dict().items())


def test_equal_accuracy_is_decided_by_the_loss() -> None:
    """Logits twice as large or as they are: the state with the smaller validation loss is kept,
    whichever comes first.
    """
    task = toy.task("plain")
    losses = [sit(task.module, task.validation).loss]
    scaled(task, 2.0)
    losses.append(sit(task.module, task.validation).loss)
    to_better = 1.0 if losses[1] < losses[0] else 0.5
    scaled(task, to_better)
    better = snapshot(task.module)
    best = Best(task.module, task.validation)
    to_worse = 0.5 if to_better == 1.0 else 2.0
    scaled(task, to_worse)
    assert not best.offer()
    best.restore()
    assert all(torch.equal(v, better[k]) for k, v in task.module.state_dict().items())
    scaled(task, to_worse)
    best = Best(task.module, task.validation)
    scaled(task, 1 / to_worse)
    assert best.offer()
    assert best.key == (sit(task.module, task.validation).accuracy, -min(losses))


def test_accuracy_comes_before_the_loss() -> None:
    """A network that is right more often and very sure of its mistakes replaces one that is never sure."""
    task = toy.task("plain")
    good = snapshot(task.module)
    scaled(task, 0.0)
    best = Best(task.module, task.validation)
    task.module.load_state_dict(good)
    scaled(task, 1e3)
    assert best.offer()
    assert best.key[0] > 0.5
    assert best.key[1] < -10


def test_a_loss_that_is_no_number_is_the_worst() -> None:
    """Weights that overflow lose against any finite state of the same accuracy, and never win a tie."""
    task = toy.task("plain")
    best = Best(task.module, task.validation)
    finite = best.key
    with torch.no_grad():
        task.module[5].weight.fill_(float("nan"))  # type: ignore[index]
    assert not best.offer()
    assert best.last[1] == -float("inf")
    assert best.key == finite


def test_validation_and_held_out_count_half_each() -> None:
    """Half of validation right and all of the held-out inputs right is three quarters."""
    task = toy.task("plain")
    right = sit(task.module, task.validation).right
    good, bad = (task.validation.select(part.nonzero()[:1, 0]) for part in (right, ~right))
    half = Split(torch.cat([good.x, bad.x]), torch.cat([good.y, bad.y]))
    assert Choice(half).standing(task.module)[0] == 0.5
    assert Choice(half, good).standing(task.module)[0] == 0.75
    assert Choice(half, bad).standing(task.module)[0] == 0.25


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing() -> None:
    """From a 25th at the start to the recipe's rate at three tenths, half of it in the middle of the
    fall, 0 at the end.
    """
    recipe = Recipe(lr=0.5, schedule="onecycle")
    rates = [rate(recipe, done) for done in (0.0, 0.15, 0.3, 0.65, 1.0)]
    assert rates == pytest.approx([0.02, 0.26, 0.5, 0.25, 0.0], abs=1e-6)
