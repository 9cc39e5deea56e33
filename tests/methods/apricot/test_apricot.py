"""Apricot: roll-back, acceptance, phases, failing cases, variants, determinism, refusals."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import sit
from airepair.methods.apricot import method as apricot
from airepair.methods.apricot.method import Apricot, correctness, failing_cases
from airepair.methods.apricot.stack import floating, stacked
from airepair.testing import toy
from airepair.training.best_state import snapshot
from airepair.types import Task

SMALL = Apricot(submodels=4, submodel_epochs=2, further_epochs=2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submodels of these tests stay in a folder of their own."""
    monkeypatch.setenv("AIREPAIR_CACHE", str(tmp_path))


def equal(a: nn.Module, b: nn.Module) -> bool:
    """Whether all parameters and buffers are the same bit for bit."""
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_a_block_that_does_not_help_is_rolled_back_bit_for_bit() -> None:
    """With a step that ruins the model nothing remains of it: parameters, statistics and counters
    are the subject's.
    """
    task = toy.task("mlp", seed=3)
    start = copy.deepcopy(task.module)
    repaired = replace(SMALL, strategy=3, rate=1.0, sets="swapped").repair(task)
    assert equal(repaired, start)


def test_weights_that_are_no_numbers_are_rolled_back_too() -> None:
    """A step that overflows leaves nothing behind."""
    task = toy.task("mlp")
    start = copy.deepcopy(task.module)
    assert equal(replace(SMALL, strategy=3, rate=1e6).repair(task), start)


def test_the_adjustment_alone_gains_on_validation() -> None:
    """Without any further training the submodels' mean moves the weights to where validation is better."""
    task = toy.task("cnn")
    start = copy.deepcopy(task.module)
    repaired = Apricot(submodels=6, submodel_epochs=4, further_epochs=0, rate=0.05, strategy=1).repair(task)
    assert not equal(repaired, start)
    assert sit(repaired, task.validation).accuracy > sit(start, task.validation).accuracy


def test_the_controls_change_who_counts_as_right() -> None:
    """Given, random and swapped sets lead to different weights."""
    method = Apricot(submodels=6, submodel_epochs=4, further_epochs=0, rate=0.05, strategy=1)
    repaired = [replace(method, sets=sets).repair(toy.task("cnn")) for sets in ("given", "random", "swapped")]  # type: ignore[arg-type]
    assert not equal(repaired[0], repaired[1])
    assert not equal(repaired[0], repaired[2])


def improving(task: Task, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task whose submodels all are a better model: any step towards them helps."""
    better = nn.Sequential(*copy.deepcopy(list(task.module)))
    good = snapshot(better)
    worse = copy.deepcopy(task.module)
    with torch.no_grad():
        worse.get_parameter("4.bias").add_(torch.tensor([9.0, 0.0, 0.0, 0.0]))
    monkeypatch.setattr(apricot.training, "train", lambda *_: stacked([good, good], floating(better)))
    wrong = ~sit(worse, toy.dataset().repair).right
    return replace(task, module=worse, failing=toy.dataset().repair.select(wrong))


def test_steps_towards_better_submodels_repair_without_further_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weight arithmetic alone repairs a model whose bias was broken, and trains on no image at all."""
    task = improving(toy.task("mlp"), monkeypatch)
    before = sit(task.module, task.validation).accuracy
    repaired = Apricot(submodels=2, rate=0.05, further_epochs=0).repair(task)
    assert sit(repaired, task.validation).accuracy > before + 0.2
    assert task.meter.backward == 0


def test_each_accepted_block_is_strictly_better_and_phases_are_kept_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The adjustment is handed in before the first further training, the trained state after it;
    the note splits the gain.
    """
    kept: list[tuple[str, float]] = []
    notes: list[str] = []
    task = improving(toy.task("mlp"), monkeypatch)
    start = sit(task.module, task.validation).accuracy
    task = replace(
        task, keep=lambda name, m: kept.append((name, sit(m, task.validation).accuracy)), note=notes.append
    )
    repaired = Apricot(submodels=2, rate=0.05, further_epochs=2).repair(task)
    end = sit(repaired, task.validation).accuracy
    assert [name for name, _ in kept] == ["adjustment", "further training"]
    assert start < kept[0][1] <= kept[1][1] <= end
    gains = [float(word) for word in notes[-1].split() if word.replace(".", "", 1).isdigit() and "." in word]
    assert sum(gains) == pytest.approx(100 * (end - start), abs=0.02)


def test_equal_validation_accuracy_is_no_improvement() -> None:
    """A rate of 0 changes nothing, so no block is kept and nothing is trained further."""
    notes: list[str] = []
    task = replace(toy.task("mlp"), note=notes.append)
    start = copy.deepcopy(task.module)
    assert equal(replace(SMALL, rate=0.0, submodel_epochs=1).repair(task), start)
    assert "0 of" in notes[-1]


def test_failing_cases_come_from_train_or_else_from_the_failing_inputs() -> None:
    """The training images that the subject gets wrong; where there are none the repair split's, and
    the origin says which.
    """
    task = toy.task("mlp")
    guesses = sit(task.module, task.train).predictions
    all_right = replace(task, train=replace(task.train, y=guesses))
    cases, origin = failing_cases(all_right)
    assert cases is task.failing
    assert origin == "the repair split (train has none)"
    one_wrong = replace(task, train=replace(task.train, y=torch.cat([(guesses[:1] + 1) % 4, guesses[1:]])))
    cases, origin = failing_cases(one_wrong)
    assert (len(cases), origin) == (1, "train")


def test_correctness_is_a_case_by_submodel_matrix() -> None:
    """Row n, column k: submodel k is right on case n (the authors' code has it reversed)."""
    task = toy.task("mlp")
    stuck = copy.deepcopy(task.module)
    with torch.no_grad():
        stuck.get_parameter("4.weight").zero_()
        stuck.get_parameter("4.bias").copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
    right = correctness(
        task, stacked([snapshot(task.module), snapshot(stuck)], floating(stuck)), task.validation
    )
    assert torch.equal(right[:, 0], sit(task.module, task.validation).right)
    assert torch.equal(right[:, 1], task.validation.y == 2)


def test_a_second_run_starts_at_the_adjustment_with_the_same_budget_and_result() -> None:
    """The cached submodels give the same module bit for bit, and the same count of training images."""
    first, second = toy.task("mlp", seed=4), toy.task("mlp", seed=4)
    notes: list[str] = []
    one = SMALL.repair(first)
    two = SMALL.repair(replace(second, note=notes.append))
    assert equal(one, two)
    assert first.meter.backward == second.meter.backward > 0
    assert any("from the cache" in note for note in notes)


@pytest.mark.parametrize("variant", ["original", "plus", "lite"])
def test_variants_follow_their_schedules(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plus goes through the cases three times, the others once; a block is 20 failing cases."""
    task, steps = toy.task("mlp"), []
    task = replace(
        task,
        progress=lambda phase, step, total, _: steps.append((step, total)) if phase == "adjustment" else None,
    )
    replace(SMALL, variant=variant, submodel_epochs=1, further_epochs=0).repair(task)  # type: ignore[arg-type]
    blocks = -(-len(failing_cases(toy.task("mlp"))[0]) // 20) * (3 if variant == "plus" else 1)
    assert steps == [(k + 1, blocks) for k in range(blocks)]


def test_without_an_early_checkpoint_it_says_what_it_does_instead() -> None:
    """The stated substitute: the subject's own weights."""
    notes: list[str] = []
    replace(SMALL, submodel_epochs=1).repair(replace(toy.task("mlp"), checkpoints={}, note=notes.append))
    assert any(
        "no early checkpoint; the submodels start from the subject's own weights" in note for note in notes
    )


def test_without_training_data_it_refuses() -> None:
    """Submodels need training data."""
    task = toy.task("mlp")
    with pytest.raises(Unsupported, match="train is empty"):
        SMALL.repair(replace(task, train=task.train.select(torch.zeros(0, dtype=torch.long))))


def test_a_block_is_one_step_of_weight_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 failing cases are two models, made in one product."""
    task = toy.task("mlp")
    calls: list[int] = []
    original = apricot.moved
    monkeypatch.setattr(apricot, "moved", lambda *a: (calls.append(len(a[1])), original(*a))[1])
    monkeypatch.setattr(apricot, "failing_cases", lambda t: (t.train.select(torch.arange(40)), "a test"))
    replace(SMALL, submodel_epochs=1, further_epochs=0).repair(task)
    assert calls == [2]


def test_models_made_ahead_are_those_of_one_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is made ahead, a block that is kept is where the next starts from."""
    results = []
    for ahead in (1, 3, 10):
        monkeypatch.setattr(apricot, "AHEAD", ahead)
        notes: list[str] = []
        task = replace(improving(toy.task("mlp"), monkeypatch), note=notes.append)
        module = Apricot(submodels=2, block=2, further_epochs=0, rate=0.03).repair(task)
        results.append((module.state_dict(), notes[-1]))
    assert all(note == results[0][1] for _, note in results)
    assert int(results[0][1].split()[1]) >= 2
    for state, _ in results[1:]:
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, results[0][0][name], rtol=1e-6, atol=1e-7)


def test_the_budget_pays_for_whole_further_trainings() -> None:
    """As many images as the submodels use, rounded down to whole trainings; one where that is more."""
    task = toy.task("mlp")
    small = Apricot(submodels=20, submodel_epochs=4, further_epochs=3)
    submodels, further = small._submodel_images(task), 3 * len(task.labelled)
    assert 2 * further < submodels
    assert 2 * submodels - further < small.budget(task) <= 2 * submodels
    assert replace(small, further_epochs=100).budget(task) == submodels + 100 * len(task.labelled)
    assert replace(small, further_epochs=0).budget(task) == submodels


def test_without_further_epochs_there_is_no_phase_of_further_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The budget has room for one, but none was asked for: only the adjustment is handed in."""
    kept: list[str] = []
    task = replace(improving(toy.task("mlp"), monkeypatch), keep=lambda name, _: kept.append(name))
    Apricot(submodels=2, rate=0.05, further_epochs=0).repair(task)
    assert kept == ["adjustment"]


@pytest.mark.parametrize(
    ("variant", "settings"),
    [("original", (0.005, 20, 1)), ("plus", (0.0005, 3, 3)), ("lite", (0.01, 0, 1))],
)
def test_variants_have_the_published_settings(variant: str, settings: tuple[float, int, int]) -> None:
    """Rate, epochs of further training (lite: none) and loops over the cases."""
    assert Apricot(variant=variant)._settings == settings  # type: ignore[arg-type]
