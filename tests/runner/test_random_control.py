"""The random change that stands beside a direct weight modification: as far as the repair went,
tensor by tensor, and filed with it.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from airepair.case import Case
from airepair.methods import build
from airepair.records import SAME_NORM
from airepair.runner.outcome import Outcome
from airepair.runner.random_control import same_norm
from airepair.testing import toy
from airepair.testing.cells import prepare, run


def repaired(module: nn.Module) -> nn.Module:
    """One tensor moved by a norm of 2, another in one place by 3, the statistics as well."""
    after = copy.deepcopy(module)
    with torch.no_grad():
        after[1].weight.add_(2.0 / after[1].weight.numel() ** 0.5)
        after[4].bias[1] += 3.0
        after[2].running_mean.add_(1.0)
    return after


def test_each_tensor_moves_as_far_as_the_repair_moved_it() -> None:
    """In another direction; what the repair left alone stays bit-equal, statistics are the
    subject's, and the subject is untouched.
    """
    before = toy.subject("mlp").module
    kept, after = copy.deepcopy(before.state_dict()), repaired(before)
    moved = same_norm(before, after, seed=0)
    assert moved is not None
    for name, value in moved.state_dict().items():
        wanted = {"1.weight": 2.0, "4.bias": 3.0}.get(name, 0.0)
        assert float((value.float() - kept[name].float()).norm()) == pytest.approx(wanted, rel=1e-4)
        assert torch.equal(before.state_dict()[name], kept[name])
    assert int((moved.get_parameter("4.bias") != kept["4.bias"]).sum()) == 4
    assert torch.equal(
        moved.get_parameter("1.weight"), same_norm(before, after, seed=0).get_parameter("1.weight")
    )  # type: ignore[union-attr]
    assert not torch.equal(
        moved.get_parameter("1.weight"), same_norm(before, after, seed=1).get_parameter("1.weight")
    )  # type: ignore[union-attr]


def test_there_is_none_for_other_parameters_or_no_change() -> None:
    """Two channels, attached units, and a repair that changed nothing."""
    before = toy.subject("mlp").module
    assert same_norm(before, nn.Sequential(copy.deepcopy(before), nn.Linear(4, 4)), 0) is None
    assert same_norm(before, copy.deepcopy(before), 0) is None


def cell(method: str, options: dict[str, object]) -> Outcome:
    return run(prepare(Case("toy", "mlp", method, 0), toy.subject("mlp"), build(method, options)))


def test_it_is_filed_with_a_direct_weight_modification_and_costs_nothing() -> None:
    """Last of the phases, without images or seconds, with scores of its own; a retraining and a
    repair that moved nothing have none.
    """
    record = cell("minimal", {}).record
    found = record.phases[-1]
    assert (found.name, found.images, found.seconds) == (SAME_NORM, 0, 0.0)
    assert found.scores.keys() >= record.after.keys()
    assert found.scores["accuracy"] != record.after["accuracy"]
    assert record.budget["backward"] == 0
    assert SAME_NORM not in [p.name for p in cell("finetune", {"epochs": 1}).record.phases]
    assert cell("editable", {"lr": 0.0}).record.phases == ()
