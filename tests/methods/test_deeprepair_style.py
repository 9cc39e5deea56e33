"""Style-guided DeepRepair: where the failures come from, what it trains on, what it gains."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from airepair.corruptions import corrupted, parse
from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import sit
from airepair.methods.deeprepair_style.method import StyleGuidedDeepRepair
from airepair.options import check_range, describe
from airepair.testing import toy
from airepair.training.best_state import fit, rate
from airepair.types import Recipe, Task

SMALL = StyleGuidedDeepRepair(corruption="fog4", epochs=3, batch_size=32, lr=0.02, clusters=2)


def in_environment(text: str) -> Task:
    """The toy task in a corruption: the model fails there, validation is half clean and half corrupted."""
    task, environment = toy.task("cnn"), parse(text)
    repair = corrupted(toy.dataset().repair, environment, 1)
    right = sit(task.module, repair).right
    validation = task.validation + corrupted(task.validation, environment, 2)
    return replace(
        task,
        failing=repair.select(~right),
        passing=repair.select(right),
        validation=validation,
        environment=environment,
    )


def test_without_an_environment_it_refuses_and_says_what_to_give() -> None:
    """The style of failures that come from nowhere special is train's own."""
    with pytest.raises(Unsupported, match=r"deeprepair_style\.corruption=fog3"):
        replace(SMALL, corruption="none").repair(toy.task("cnn"))
    with pytest.raises(UsageError, match="fogg"):
        replace(SMALL, corruption="fogg3").repair(toy.task("cnn"))


def test_a_corruption_given_as_an_option_is_the_environment() -> None:
    """The failures are train's own in it; the failing inputs, which are clean, give no style; two
    references a class at most.
    """
    notes: list[str] = []
    task = replace(toy.task("cnn"), note=notes.append)
    SMALL.repair(task)
    assert notes[0].startswith("deeprepair_style: 0 failing inputs and ")
    assert "in fog4" in notes[0]
    assert 1 <= int(notes[1].split()[1]) <= 2 * len(toy.CLASSES)


def test_the_failures_of_an_environment() -> None:
    """The failing inputs and train's own failures under the corruption, with their labels: the
    model gets every one wrong.
    """
    notes: list[str] = []
    task = replace(in_environment("fog4"), note=notes.append)
    failures = SMALL._failures(task)
    more = len(failures) - len(task.failing)
    assert more > 0
    assert notes == [
        f"deeprepair_style: {len(task.failing)} failing inputs and {more} training images fail in fog4"
    ]
    assert sit(task.module, failures).accuracy == 0


def test_it_repairs_an_environment_that_more_of_the_same_training_does_not() -> None:
    """In glaring light the toy network errs.

    Learning from clean images, painted, it sees there; the same images unpainted do not help.
    """
    fresh = corrupted(toy.images(200, 77), parse("brightness3"), 5)
    task, other = in_environment("brightness3"), in_environment("brightness3")
    before = sit(task.module, fresh).accuracy
    repaired = replace(SMALL, epochs=12, lr=0.05, learn_from="train").repair(task)
    fit(
        other.module,
        other.train,
        other.validation,
        Recipe(lr=0.05, batch_size=32, epochs=36),
        other.generator(),
    )
    assert sit(repaired, fresh).accuracy > before + 0.2
    assert sit(repaired, fresh).accuracy > sit(other.module, fresh).accuracy + 0.2


def test_each_image_goes_through_three_times() -> None:
    """Clean and two changed copies: the budget counts all three."""
    task = toy.task("cnn")
    task.module.register_forward_pre_hook(task.meter)
    SMALL.repair(task)
    assert task.meter.backward == 3 * 3 * len(task.labelled)


def test_the_paper_s_form_learns_from_train_alone() -> None:
    """`learn_from` train: fewer images, and another model."""
    task, other = toy.task("cnn"), toy.task("cnn")
    task.module.register_forward_pre_hook(task.meter)
    one = replace(SMALL, learn_from="train").repair(task)
    assert task.meter.backward == 3 * 3 * len(task.train)
    assert not torch.equal(one.state_dict()["0.weight"], SMALL.repair(other).state_dict()["0.weight"])


@pytest.mark.parametrize("transfer", ["wavelet", "fourier"])
def test_one_seed_one_result_and_the_data_stays(transfer: str) -> None:
    """Bit for bit, with both transfers; inputs are not written to; global generators stay."""
    task, again = toy.task("cnn", 3), toy.task("cnn", 3)
    data, state = copy.deepcopy(task.labelled), torch.random.get_rng_state()
    one = replace(SMALL, transfer=transfer).repair(task).state_dict()  # type: ignore[arg-type]
    two = replace(SMALL, transfer=transfer).repair(again).state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert torch.equal(data.x, task.labelled.x)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_without_training_data_it_refuses() -> None:
    """It paints training images."""
    task = toy.task("cnn")
    with pytest.raises(Unsupported, match="train is empty"):
        SMALL.repair(replace(task, train=task.train.select(torch.zeros(0, dtype=torch.long))))


def test_cosine_falls_from_the_rate_to_nothing() -> None:
    """The schedule of the paper: full at the start, half in the middle, 0 at the end."""
    recipe = Recipe(lr=0.1, schedule="cosine")
    assert [rate(recipe, done) for done in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.05, 0.0])


def test_defaults_are_the_paper_s() -> None:
    """Each is named in the card and lies in its own range."""
    found = {o.name: o.default for o in describe(StyleGuidedDeepRepair)}
    assert (found["clusters"], found["per_class"], found["weight"], found["epochs"], found["batch_size"]) == (
        5,
        100,
        12.0,
        100,
        64,
    )
    for o in describe(StyleGuidedDeepRepair):
        check_range(o.default, {"low": o.low, "high": o.high}, o.name)


def test_the_declared_budget_is_what_it_uses() -> None:
    """Three passes of each image in every epoch, in both forms; nothing without training data."""
    for learn_from in ("train and failing", "train"):
        task, method = toy.task("cnn"), replace(SMALL, epochs=1, learn_from=learn_from)  # type: ignore[arg-type]
        task.module.register_forward_pre_hook(task.meter)
        declared = method.budget(task)
        method.repair(task)
        assert declared == task.meter.backward > 0
    assert SMALL.budget(replace(task, train=task.train.select(torch.zeros(0, dtype=torch.long)))) == 0
