"""The audit: a budget that is cheated is seen, and an honest one passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from airepair.case import Case
from airepair.evaluation.work import billed, counter, forward_work, step_work
from airepair.linear.margins import Margins
from airepair.linear.program import Solution
from airepair.linear.proof import Plan, settle
from airepair.methods import build, minimal
from airepair.runner.audit import Audit, Finding
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.testing.trial import attempt
from airepair.types import Category, Meter, Task

Call = Callable[[Tensor], Tensor]
STEPS = 12


@dataclass(frozen=True)
class Training:
    """Plain steps on the failing inputs, honest: the task's module is called, and each call has one
    backward pass.
    """

    name: ClassVar[str] = "training"
    category: ClassVar[Category] = "retraining"
    paper: ClassVar[str] = "made for this test"
    sources: ClassVar[frozenset[str]] = frozenset(("failing",))
    ablations: ClassVar[dict[str, dict[str, float]]] = {}

    def budget(self, task: Task) -> int:
        return STEPS * len(task.failing)

    def called(self, task: Task) -> Call:
        return task.module

    def backward(self, loss: Tensor, task: Task) -> None:
        loss.backward()

    def repair(self, task: Task) -> nn.Module:
        call, optimizer = self.called(task), torch.optim.SGD(task.module.parameters(), 1e-3)
        for step in range(1, STEPS + 1):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(call(task.failing.images()), task.failing.y)
            self.backward(loss, task)
            optimizer.step()
            task.progress("steps", step, STEPS, float(loss.detach()))
        return task.module


class ForwardItself(Training):
    """Hooks do not hear a call of forward."""

    def called(self, task: Task) -> Call:
        return task.module.forward


class Rebuilt(Training):
    """The same layers in a container of its own, whose root has no hook."""

    def called(self, task: Task) -> Call:
        return nn.Sequential(*task.module.children())


class Traced(Training):
    """A graph of the same operations on the same weights."""

    def called(self, task: Task) -> Call:
        return torch.fx.symbolic_trace(task.module)


class FiveBackward(Training):
    """Five backward passes for each forward pass that is counted."""

    def backward(self, loss: Tensor, task: Task) -> None:
        for _ in range(4):
            loss.backward(retain_graph=True)
        loss.backward()


class TakingBack(Training):
    """Lowers what was counted."""

    def backward(self, loss: Tensor, task: Task) -> None:
        loss.backward()
        task.meter.backward -= 10


class Rewinding(Training):
    """Says that all of it will be done again."""

    def repair(self, task: Task) -> nn.Module:
        mark = task.meter.mark()
        module = super().repair(task)
        task.meter.rewind(mark)
        return module


class Behind(Training):
    """Writes into the meter's own fields."""

    def repair(self, task: Task) -> nn.Module:
        module = super().repair(task)
        task.meter._backward //= 2
        return module


CHEATS = (ForwardItself, Rebuilt, Traced, FiveBackward, Rewinding, Behind)


def cell(method: type[Training], *, audit: bool = True, kind: toy.Architecture = "mlp"):
    """The outcome of a cell on the toy subject."""
    return run(prepare(Case("toy", kind, method.name, 0), toy.subject(kind), method(), audit=audit))


@pytest.mark.parametrize("kind", ["mlp", "cnn", "plain"])
def test_honest_training_costs_what_its_images_explain(kind: toy.Architecture):
    """Measured and explained are equal, and the record says so in a note."""
    found = attempt(Training(), toy.task(kind), audited=True).finding
    assert found is not None
    assert found.measured == round(found.explained) > 0
    record = cell(Training, kind=kind).record
    assert record.status == "repaired"
    assert any(
        note.startswith("audit: ") and "(1.00 times as many; at most 1.1)" in note for note in record.notes
    )


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda c: c.__name__)
def test_a_cheated_budget_fails_the_cell(cheat: type[Training]):
    """With --audit the cell is failed, and its reason has the numbers; the same method passes where
    nobody counts.
    """
    assert cell(cheat, audit=False).record.status == "repaired"
    record = cell(cheat).record
    assert record.status == "failed"
    assert record.reason.startswith("audit: ")
    assert "at most 1.1" in record.reason
    assert not record.after


@pytest.mark.parametrize("audit", [False, True])
def test_what_was_counted_cannot_be_lowered(audit: bool):
    """`meter.backward -= 10` fails the cell in every run."""
    record = cell(TakingBack, audit=audit).record
    assert record.status == "failed"
    assert "backward" in record.reason
    with pytest.raises(ValueError, match="-10 images"):
        Meter().add(-10, training=True)


def test_images_that_are_taken_back_stand_in_the_record():
    """A rewound meter says how many training images were counted and are not any more."""
    record = cell(Rewinding, audit=False).record
    assert record.budget["backward"] == 0
    assert record.budget["taken_back"] == STEPS * len(toy.task("mlp").failing)
    assert "taken_back" not in cell(Training, audit=False).record.budget


def test_a_tenth_beside_the_network_is_free():
    """Up to 1.1 times what the images explain passes, more does not; work without an image never does."""
    assert Finding(1100, 1000.0, "").passed
    assert not Finding(1101, 1000.0, "").passed
    assert not Finding(1, 0.0, "").passed
    assert Finding(0, 0.0, "").passed


def test_arithmetic_of_a_methods_own_is_billed_as_images():
    """A product of matrices as large as three and a half forward passes counts as four."""
    task = toy.task("plain")
    image = forward_work(task.module, task.validation.images(slice(2)))
    with billed(task):
        torch.zeros(1, round(3.5 * image / 2)) @ torch.zeros(round(3.5 * image / 2), 1)
    assert task.meter.forward == 4


def test_the_rounds_of_a_linear_program_are_billed(monkeypatch: pytest.MonkeyPatch):
    """How many the solver takes depends on the machine; however many, the images of minimal explain them."""

    def slow(rows: Margins, plan: Plan, **more: Any) -> Solution:
        for _ in range(300):
            rows.values(np.zeros(rows.size))
        return settle(rows, plan, **more)

    spent = []
    for rounds in (settle, slow):
        monkeypatch.setattr(minimal, "settle", rounds)
        found = attempt(build("minimal", {}), toy.task("plain"), audited=True)
        assert found.finding is not None
        assert found.finding.measured <= found.finding.explained
        spent.append(found.task.meter.forward)
    assert spent[1] > 2 * spent[0]


def test_a_steps_work_is_forward_and_both_gradients():
    """Of a 64-24-16-4 network: two operations a weight forward, two for its gradient, two for its
    input's but in the first layer.
    """
    module, x = toy.architecture("plain"), torch.zeros(2, 1, 8, 8)
    weights = 64 * 24 + 24 * 16 + 16 * 4
    assert forward_work(module, x) == 2 * weights
    assert step_work(module, x) == 2 * (3 * weights - 64 * 24)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_in_groups_are_counted_once(groups: int):
    """The weight's gradient costs as much as the forward pass, whatever the number of groups."""
    layer, x = nn.Conv2d(4, 8, 3, groups=groups, bias=False), torch.zeros(2, 4, 6, 6)
    with counter() as forward:
        out = layer(x)
    with counter() as backward:
        torch.autograd.grad(out.sum(), [layer.weight])
    assert forward.get_total_flops() == 2 * 2 * (4 * 4) * 8 * (4 // groups) * 9
    assert backward.get_total_flops() == forward.get_total_flops()


def test_a_network_that_was_extended_is_measured_as_what_it_became():
    """deepcorrect's units cost more than the toy network: their training is explained by the images
    through the larger one.
    """
    method = build("deepcorrect", {"distortion": "noise", "epochs": 1, "sample": 20, "draws": 1})
    found = attempt(method, toy.task("cnn"), audited=True).finding
    assert found is not None
    assert found.passed
    alone = Audit(toy.task("cnn")).cost[1]
    assert found.measured > 50 * alone * 160
