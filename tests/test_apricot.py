"""Apricot: the algebra of its strategies, its windows, its roll-back and its controls."""

import copy

import pytest
import torch

from airepair.exam import sit
from airepair.methods.apricot import Apricot, combination, flatten, float_names, put, windows
from airepair.provenance import digest
from airepair.testing import toy


def one_after_another(w: torch.Tensor, subs: torch.Tensor, right: torch.Tensor, strategy: int, rate: float) -> torch.Tensor:
    """The published loop, case by case."""
    for case in right:
        good, bad = subs[case], subs[~case]
        towards = w - good.mean(0) if len(good) and strategy in (1, 2) else torch.zeros_like(w)
        away = w - bad.mean(0) if len(bad) and strategy in (1, 3) else torch.zeros_like(w)
        w = w - rate * towards + rate * away
    return w


@pytest.mark.parametrize("strategy", [1, 2, 3])
def test_a_block_is_one_affine_combination(strategy: int) -> None:
    """K + 1 coefficients give what the published loop gives, for a block with empty sets in it."""
    generator = torch.Generator().manual_seed(0)
    w, subs = torch.randn(7, generator=generator).double(), torch.randn(5, 7, generator=generator).double()
    right = torch.rand(9, 5, generator=generator) < 0.5
    right[2], right[5] = True, False
    own, others = combination(right, strategy, 0.03)
    torch.testing.assert_close(own * w + others @ subs, one_after_another(w, subs, right, strategy, 0.03))


@pytest.mark.parametrize(
    ("strategy", "right", "expected"),
    [
        (1, [True, False], 0.2),  # w + rate (C - I), C = 1, I = -1: towards the right ones
        (2, [True, False], 0.1),  # w - rate (w - C)
        (3, [True, False], 0.1),  # w + rate (w - I)
        (2, [False, False], 0.0),  # nobody is right: the difference is 0
        (3, [True, True], 0.0),  # nobody is wrong
        (1, [False, False], 0.0 + 0.1 * (0 - 0)),  # I = mean(1, -1) = 0
    ],
)
def test_the_sign_on_hand_made_weights(strategy: int, right: list[bool], expected: float) -> None:
    """w = 0, submodels at 1 and -1, rate .1: the step goes towards those that are right and away from those that are wrong."""
    own, others = combination(torch.tensor([right]), strategy, 0.1)
    assert float(own * 0.0 + others @ torch.tensor([1.0, -1.0]).double()) == pytest.approx(expected)


def test_windows_slide_over_all_of_train() -> None:
    """The authors' numbers: 20 windows of 10,000 over 40,000 images, step 1,500."""
    found = windows(40_000, 20, 0.25)
    assert [(w.start, w.stop) for w in found[:3]] == [(0, 10_000), (1_500, 11_500), (3_000, 13_000)]
    assert found[-1].stop <= 40_000


def test_batch_norm_statistics_move_with_the_weights_and_stay_possible() -> None:
    """Running means are part of the vector; a running variance never falls below 0; integer buffers stay."""
    module = toy.subject("mlp").module
    names = float_names(module)
    assert "2.running_mean" in names
    assert "2.num_batches_tracked" not in names
    put(module, -flatten(module, names), names)
    assert float(module.state_dict()["2.running_var"].min()) >= 0


def test_without_an_improvement_the_weights_come_back_bit_by_bit() -> None:
    """A step far too large never helps: every block is rolled back."""
    task = toy.task("mlp")
    before = digest(task.module)
    notes: list[str] = []
    object.__setattr__(task, "note", notes.append)
    repaired = Apricot(submodels=3, submodel_epochs=1, rate=1e6, strategy=3).repair(task)
    assert digest(repaired) == before
    assert any("0 of" in n for n in notes)


def test_apricot_is_not_fine_tuning() -> None:
    """Without any further training the adjustment alone moves the weights and gains on validation."""
    task = toy.task("cnn")
    start, names = flatten(task.module, float_names(task.module)), float_names(task.module)
    repaired = Apricot(submodels=6, submodel_epochs=4, further_epochs=0, rate=0.05, strategy=1).repair(copy.deepcopy(task))
    moved = flatten(repaired, names) - start
    assert float(moved.norm()) > 0
    assert sit(repaired, task.validation).accuracy > sit(task.module, task.validation).accuracy


def test_the_controls_change_who_counts_as_right() -> None:
    """Swapped and random sets give other weights than the given ones."""
    options = {"submodels": 6, "submodel_epochs": 4, "further_epochs": 0, "rate": 0.05, "strategy": 1}
    found = {sets: digest(Apricot(**options, sets=sets).repair(toy.task("cnn"))) for sets in ("given", "random", "swapped")}  # type: ignore[arg-type]
    assert len(set(found.values())) > 1
