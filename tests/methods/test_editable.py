"""The editor and the editable training."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported, UsageError
from airepair.evaluation.exam import logits_of, sit
from airepair.methods import editable
from airepair.methods.editable import Editable, block_of, edit_loss, load
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Task


class TestEditable(MethodConformance):
    """The editor keeps the contract with the published rate and one input to an edit."""

    method = Editable
    architectures = ("mlp", "plain")


class TestEditableInGroups(MethodConformance):
    """So it does with larger steps for several inputs at once, on a network with convolutions."""

    method = Editable
    options: ClassVar = {"group": 4, "lr": 0.01}
    architectures = ("cnn", "plain")


class TestEditableTraining(MethodConformance):
    """So does the editable training. With one step per edit the method and its ablation see equally
    many images; with more, an edit that is accepted a step later, as on another processor, makes the
    ablation's images 1 % more, and the contract wants no more.
    """

    method = Editable
    options: ClassVar = {"train": True, "epochs": 2, "steps": 1}


def block(task: Task, name: str = "auto") -> dict[str, torch.Tensor]:
    return {
        n: task.module.get_parameter(n) for n in block_of(task.module, name, task.failing.images(slice(2)))
    }


def test_the_edit_loss_is_the_missing_log_probability() -> None:
    """0 where the label leads by the margin, else what is missing."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    assert edit_loss(logits, torch.tensor([0, 0]), 1.0).tolist() == [0.0, 1.5]


@pytest.mark.parametrize("kind", ["mlp", "cnn", "plain"])
def test_an_accepted_edit_is_right_on_the_edited_inputs(kind: toy.Architecture) -> None:
    """Written into the module, the weights of an accepted edit answer the edited inputs by the
    margin, and a refused one does not.
    """
    task = toy.task(kind)
    seen = set()
    for lr in (1e-2, 1e-5):
        for i in range(5):
            x, y = task.failing.images(slice(i, i + 1)), task.failing.y[i : i + 1]
            start = {k: v.detach().clone() for k, v in block(task).items()}
            weights, done = Editable(lr=lr, margin=0.1).edit(task.module, block(task), x, y, None)
            load(task.module, weights)
            assert done == (float(edit_loss(logits_of(task.module, x), y, 0.1)) == 0)
            load(task.module, start)
            seen.add(done)
    assert seen == {True, False}


def test_an_edit_of_what_is_right_changes_nothing() -> None:
    """It stops before its first step."""
    task = toy.task("mlp")
    sure = sit(task.module, task.passing).probabilities.amax(1).argmax()
    weights, done = Editable().edit(
        task.module, block(task), task.passing.images(sure[None]), task.passing.y[sure[None]], None
    )
    assert done
    assert all(torch.equal(v, block(task)[k]) for k, v in weights.items())


def test_the_locality_loss_keeps_the_other_answers() -> None:
    """The same edits move the rehearsal images less with the penalty than without."""
    task = toy.task("mlp")
    images = task.train.images()
    before = logits_of(task.module, images).log_softmax(1)
    moved = {0.0: 0.0, 10.0: 0.0}
    for locality in moved:
        for i in range(4):
            start = {k: v.detach().clone() for k, v in block(task).items()}
            editor = Editable(steps=400, locality=locality, margin=0.05)
            x, y = task.failing.images(slice(i, i + 1)), task.failing.y[i : i + 1]
            weights, done = editor.edit(task.module, block(task), x, y, (images, before))
            assert done
            load(task.module, weights)
            after = logits_of(task.module, images).log_softmax(1)
            moved[locality] += float(
                nn.functional.kl_div(after, before, log_target=True, reduction="batchmean")
            )
            load(task.module, start)
    assert moved[10.0] < 0.7 * moved[0.0]


@pytest.mark.parametrize("locality", [0.0, 2.0])
def test_an_editor_step_descends_the_edit_loss_and_the_divergence(locality: float) -> None:
    """Two RMSProp steps by hand on l_e + locality * KL(answers as they were || now): the second
    feels how far the first one went.
    """
    task, images = toy.task("plain"), toy.dataset().train.images(slice(0, 32))
    x, y = task.failing.images(slice(0, 1)), task.failing.y[:1]
    before = logits_of(task.module, images).log_softmax(1)
    found, _ = Editable(steps=2, margin=1e3, locality=locality, lr=0.01).edit(
        task.module, block(task), x, y, (images, before)
    )
    parameters = list(block(task).values())
    squares = [torch.zeros_like(p) for p in parameters]
    for _ in range(2):
        after = task.module(images).log_softmax(1)
        divergence = (before.exp() * (before - after)).sum(1).mean()
        loss = edit_loss(task.module(x), y, 1e3).mean() + locality * divergence
        for i, (parameter, slope) in enumerate(
            zip(parameters, torch.autograd.grad(loss, parameters), strict=True)
        ):
            squares[i] = 0.5 * squares[i] + 0.5 * slope**2
            parameter.data -= 0.01 * slope / (squares[i] + 1e-16).sqrt()
    for value, expected in zip(found.values(), parameters, strict=True):
        assert torch.allclose(value, expected, atol=1e-5)


def test_editable_training_adds_edit_and_locality_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """L = CE(theta) + c_edit l_e(theta') + c_loc CE(softmax f_theta, softmax f_theta'): each part
    by hand at the drawn image and label.
    """
    task, seen = toy.task("plain"), []
    monkeypatch.setattr(editable, "fit", lambda *_, loss, **__: seen.append(loss))
    editor = Editable(steps=3, lr=0.01, margin=0.5, c_edit=0.3, c_loc=0.7)
    editor._train(task, list(block(task)))
    x, y = task.train.images(slice(0, 8)), task.train.y[:8]
    generator = task.generator(2)
    pick = int(torch.randint(8, (), generator=generator))
    label = torch.randint(4, (1,), generator=generator)
    edited, _ = editor.edit(task.module, block(task), x[pick : pick + 1], label, None, differentiable=True)
    moved = copy.deepcopy(task.module)
    load(moved, edited)
    with torch.no_grad():
        cross = -(task.module(x).softmax(1) * moved(x).log_softmax(1)).sum(1).mean()
        wanted = edit_loss(moved(x[pick : pick + 1]), label, 0.5).mean()
        expected = nn.functional.cross_entropy(task.module(x), y) + 0.3 * wanted + 0.7 * cross
    assert float(seen[0](task.module, x, y).detach()) == pytest.approx(float(expected), rel=1e-5)


def test_the_differentiable_editor_takes_the_same_steps() -> None:
    """With a margin that is never reached both forms end in the same weights, and gradients flow to
    the start.
    """
    task = toy.task("plain")
    x, y = task.failing.images(slice(0, 1)), task.failing.y[:1]
    editor = Editable(steps=3, margin=1e3)
    plain, _ = editor.edit(task.module, block(task), x, y, None)
    through, _ = editor.edit(task.module, block(task), x, y, None, differentiable=True)
    assert all(torch.allclose(plain[k], through[k], atol=1e-6) for k in plain)
    grads = torch.autograd.grad(sum(v.square().sum() for v in through.values()), list(block(task).values()))
    assert all(bool(torch.isfinite(g).all()) and float(g.abs().sum()) > 0 for g in grads)


def test_only_the_block_changes() -> None:
    """Everything outside the block is what it was, batch statistics included."""
    task = toy.task("cnn")
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    module = Editable(lr=0.01, group=8).repair(task)
    changed = {k for k, v in module.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"5.weight", "5.bias"}


def test_editable_training_makes_edits_gentler_or_shorter() -> None:
    """After it, single edits of failing inputs to random labels move other answers less."""
    moved = []
    for epochs in (0, 8):
        task = toy.task("plain")
        editor = Editable(steps=8, lr=3e-3, epochs=max(1, epochs), train_lr=1e-3, c_edit=0.1, c_loc=1.0)
        if epochs:
            editor._train(replace(task, validation=task.train), list(block(task)))
        images = task.train.images()
        before, total = logits_of(task.module, images).log_softmax(1), 0.0
        for i in range(12):
            start = {k: v.detach().clone() for k, v in block(task).items()}
            weights, _ = editor.edit(
                task.module,
                block(task),
                task.failing.images(slice(i, i + 1)),
                task.failing.y[i : i + 1],
                None,
            )
            load(task.module, weights)
            total += float(
                nn.functional.kl_div(
                    logits_of(task.module, images).log_softmax(1),
                    before,
                    log_target=True,
                    reduction="batchmean",
                )
            )
            load(task.module, start)
        moved.append(total)
    assert moved[1] < moved[0]


def test_the_block_is_the_last_before_the_output_layer() -> None:
    """Wrappers are looked through; a named block is taken as it is; an unknown one is refused with
    the choices.
    """
    inner = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.ReLU(),
        nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)),
        nn.Linear(8, 4),
    )
    x = torch.rand(2, 1, 8, 8)
    assert block_of(nn.Sequential(inner), "auto", x)[0] == "0.3.0.weight"
    assert block_of(inner, "1", x) == ["1.weight", "1.bias"]
    assert block_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), "auto", x) == ["1.weight", "1.bias"]
    with pytest.raises(UsageError, match="layer9"):
        block_of(inner, "layer9", x)


def test_training_without_training_data_is_refused() -> None:
    """train=true needs train; the editor alone does not."""
    task = toy.task("mlp")
    empty = task.train.select(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(Unsupported, match="train=false"):
        Editable(train=True).repair(replace(task, train=empty))
    assert sit(Editable(lr=0.003, group=8).repair(replace(task, train=empty)), task.failing).accuracy > 0.3


def test_the_block_lies_within_as_many_wrappers_as_all_layers_share() -> None:
    """Two wrappers around everything are looked through, a third that holds the first layer alone is
    the block.
    """
    first = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    module = nn.Sequential(nn.Sequential(nn.Sequential(first, nn.Linear(8, 4))))
    assert block_of(module, "auto", torch.rand(2, 1, 8, 8)) == ["0.0.0.1.weight", "0.0.0.1.bias"]


def test_the_budget_counts_edits_and_editable_training() -> None:
    """By hand: each started group of failing inputs is an edit, each step of one sees the group and
    the rehearsal batch; training passes twice over its images and adds an edit a batch.
    """
    task = toy.task("mlp")
    edits = math.ceil(len(task.failing) / 4) * 3 * (4 + 16)
    assert Editable(group=4, steps=3, rehearsal=16).budget(task) == edits
    n = len(task.labelled)
    training = 2 * (n + n + math.ceil(n / editable.TRAIN_BATCH) * (3 + 1))
    trained = Editable(group=4, steps=3, rehearsal=16, train=True, epochs=2)
    assert trained.budget(task) == edits + training
