"""Weighted regularisation: what each form changes, and what it refuses."""

import math

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.exam import logits_of, sit
from airepair.methods.deeprepair import DeepRepair, confused_loss, cut_and_paste, distance_loss
from airepair.methods.finetune import Finetune
from airepair.testing import toy

OPTIONS = {"lr": 0.05, "epoch": 4, "batch_size": 32}


def last_state(method: DeepRepair | Finetune) -> dict[str, torch.Tensor]:
    """The state after the last epoch (selection off: a validation split that any state serves equally well)."""
    task = toy.task("mlp")
    states = []

    def progress(phase: str, step: int, steps: int, loss: float) -> None:
        states.append({k: v.clone() for k, v in task.module.state_dict().items()})

    object.__setattr__(task, "progress", progress)
    method.repair(task)
    return states[-1]


def test_the_weights_of_w_bn_are_plain_fine_tunings_and_the_last_statistics_are_not() -> None:
    """The published form: the target half never reaches the loss; only running statistics differ."""
    ours, plain = last_state(DeepRepair(**OPTIONS)), last_state(Finetune(lr=0.05, epochs=4, batch_size=32))  # type: ignore[arg-type]
    for key, value in plain.items():
        if "running" in key:
            assert not torch.equal(ours[key], value)
        else:
            torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6)


def test_with_ratio_one_w_bn_is_plain_fine_tuning_altogether() -> None:
    """The target half then has no weight in the statistics either."""
    ours, plain = last_state(DeepRepair(**OPTIONS, ratio=1.0)), last_state(Finetune(lr=0.05, epochs=4, batch_size=32))  # type: ignore[arg-type]
    for key, value in plain.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6)


def test_both_halves_reach_the_loss_in_the_patch_s_form() -> None:
    """AIREPAIR's variant changes the weights, too."""
    published, patched = last_state(DeepRepair(**OPTIONS)), last_state(DeepRepair(**OPTIONS, both_halves=True))  # type: ignore[arg-type]
    assert not torch.allclose(published["1.weight"], patched["1.weight"], atol=1e-4)


def test_the_hooks_come_off() -> None:
    """The repaired module has the interface it came with."""
    module = DeepRepair(**OPTIONS).repair(toy.task("cnn"))  # type: ignore[arg-type]
    assert not any(m._forward_hooks for m in module.modules())
    assert logits_of(module, torch.rand(5, 1, 8, 8)).shape == (5, 4)


def test_w_loss_on_hand_made_logits() -> None:
    """(1 - t) CE + t L; one direction absent leaves the other's mean; both absent plain cross-entropy."""
    logits, y = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 5.0]]), torch.tensor([0, 0, 2])
    each = nn.functional.cross_entropy(logits, y, reduction="none")
    torch.testing.assert_close(confused_loss(logits, y, (0, 1), 0.3), 0.7 * each.mean() + 0.3 * each[0])
    torch.testing.assert_close(confused_loss(logits, y, (1, 2), 0.3), each.mean())


def test_w_dbr_rewards_the_distance_of_the_two_classes() -> None:
    """lam CE - (1 - lam) || mean softmax of a - mean softmax of b ||."""
    logits, y = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), torch.tensor([0, 1, 0])
    p = logits.softmax(1)
    expected = 0.4 * nn.functional.cross_entropy(logits, y) - 0.6 * (p[[0, 2]].mean(0) - p[1]).norm()
    torch.testing.assert_close(distance_loss(logits, y, (0, 1, None), 0.4), expected)


def test_w_os_moves_mass_out_of_the_pair_and_cannot_exchange_its_classes() -> None:
    """It is log(eta) on two biases: within the pair every order stays."""
    task = toy.task("mlp")
    before = logits_of(task.module, task.validation.x)
    after = logits_of(DeepRepair(variant="w-os", first=2, second=3, eta=0.5).repair(task), task.validation.x)
    torch.testing.assert_close(after - before, torch.tensor([0, 0, math.log(0.5), math.log(0.5)]).expand_as(before), atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["w-aug", "w-loss", "w-dbr"])
def test_every_training_form_repairs_something(variant: str) -> None:
    """Of the failing inputs, all wrong before, at least a third are right after."""
    task = toy.task("cnn")
    repaired = DeepRepair(variant=variant, lam=0.5, lr=0.02, epoch=15, batch_size=32).repair(task)  # type: ignore[arg-type]
    assert sit(repaired, task.failing).accuracy > 1 / 3


def test_w_bn_without_batch_norm_names_the_forms_that_would_run() -> None:
    """A result with a reason, not a crash."""
    with pytest.raises(Unsupported, match="w-aug"):
        DeepRepair().repair(toy.task("plain"))


@pytest.mark.parametrize(
    ("options", "why"),
    [({"variant": "w-dbr", "lam": 0.0}, "no cross-entropy"), ({"extra": 64}, "accepted: the same"), ({"first": 9}, "accepted: 0..3")],
)
def test_options_that_exclude_each_other_are_refused(options: dict[str, object], why: str) -> None:
    """One line with the value and what would be accepted."""
    with pytest.raises(UsageError, match=why):
        DeepRepair(**options).repair(toy.task("mlp"))  # type: ignore[arg-type]


def test_cutmix_replaces_the_area_that_it_reports() -> None:
    """The share of the image that is left is the share of pixels left."""
    x, other = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    image, kept = cut_and_paste(x, other, 0.5, torch.Generator().manual_seed(3))
    assert float(1 - image.mean()) == pytest.approx(kept)
