"""MODE: layer choice, kinds of bugs, heat maps, selection."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import sit
from airepair.evaluation.work import step_work
from airepair.methods.mode import Mode, features, heat_maps, probe
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Split


class TestMode(MethodConformance):
    """It keeps the contract."""

    method = Mode
    options: ClassVar = {"rounds": 2, "epochs": 2, "selection": 40}
    architectures = ("mlp", "plain")


def test_heat_maps_are_means_over_right_taken_and_missed_inputs() -> None:
    """Five inputs of three labels by hand; a label without such inputs has zeros."""
    vectors = torch.tensor([[1.0, 0], [3, 0], [0, 2], [0, 4], [5, 5]])
    labels, predictions = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 0])
    maps = heat_maps(vectors, labels, predictions, 3)
    assert maps.hci.tolist() == [[2, 0], [0, 4], [0, 0]]
    assert maps.hmi.tolist() == [[5, 5], [0, 2], [0, 0]]
    assert maps.hwi.tolist() == [[0, 2], [5, 5], [0, 0]]
    assert maps.difference("dhci", 0).tolist() == [2, -2]
    assert maps.difference("dhmi", 0).tolist() == [3, 5]
    assert maps.difference("dhwi", 0).tolist() == [-2, 2]


def test_features_are_what_the_next_weighted_layer_gets() -> None:
    """For the dense network the outputs after ReLU; wide feature maps are pooled over space."""
    task = toy.task("plain")
    found = features(task.module, [task.module[3], task.module[5]], task.passing)  # type: ignore[index]
    hidden = task.module[:3](task.passing.images())  # type: ignore[index]
    assert torch.equal(found[0], hidden)
    assert float(found[1].min()) == 0
    conv = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 1))
    wide = features(conv, [conv[1]], Split(torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)))[0]
    assert wide.shape == (2, 3 * 18 * 18)


def test_a_softmax_layer_learns_what_is_linear() -> None:
    """Two classes that a line separates, and none that it cannot (exclusive or)."""
    x = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    line, xor = (x.sum(1) > 0).long(), (x[:, 0] * x[:, 1] > 0).long()
    assert probe(x[:300], line[:300], x[300:], line[300:], 2, steps=50) > 0.95
    assert probe(x[:300], xor[:300], x[300:], xor[300:], 2) < 0.7


def test_probes_on_stored_features_cost_what_they_are_worth() -> None:
    """Each step on F features of an image is 4 F K operations (forward, and the weights' gradient); an
    image of training is six operations a weight, but four in the first layer, whose input needs no
    gradient. The plain toy network has 64 x 24, 24 x 16 and 16 x 4 weights.
    """
    task = toy.task("plain")
    task.module.register_forward_pre_hook(task.meter)
    layers = [task.module[3], task.module[5]]  # type: ignore[index]
    Mode(probes=100)._layer(task, layers)
    image = 4 * 64 * 24 + 6 * (24 * 16 + 16 * 4)
    assert step_work(task.module, task.train.images(slice(2))) == image
    counted = task.meter.backward - 2 * 2  # the images on which the work of a step was counted, twice
    assert counted == math.ceil(60 * 100 * 4 * (24 + 16) * 4 / image) < 0.1 * 60 * 100 * 2


def test_the_layer_is_the_first_whose_successor_gains_nothing() -> None:
    """A second hidden layer that copies the first adds nothing, so the first is taken; with no
    layer good enough it is the last.
    """
    task = toy.task("plain")
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    ).eval()
    with torch.no_grad():
        for i in (1, 3):
            net[i].weight.copy_(torch.eye(64))
            net[i].bias.zero_()  # type: ignore[union-attr]
    task = replace(task, module=net)
    layers = [net[3], net[5]]
    assert Mode()._layer(task, layers) == 0
    assert Mode(saturation=-0.0)._layer(task, layers) == 1


def test_bugs_are_typed_by_accuracy_and_gap() -> None:
    """On the toy, whose labels 2 and 3 are mixed up in training: over-fit before under-fit, and the
    thresholds decide.
    """
    task = toy.task("plain")
    accuracy = {}
    for split, name in ((task.train, "train"), (task.validation, "validation")):
        exam = sit(task.module, split)
        accuracy[name] = [float(exam.right[exam.y == k].float().mean()) for k in range(4)]
    bugs = Mode()._bugs(task)
    for label, (a, b) in enumerate(zip(accuracy["train"], accuracy["validation"], strict=True)):
        assert bugs.get(label) == ("over" if a - b > 0.1 else "under" if b < 0.9 else None)
    assert bugs
    assert Mode(underfit=0.0, overfit=1.0)._bugs(task) == {}


def told(pairs: list[tuple[int, int, int]]) -> Split:
    """Images that a network reading their first four pixels answers as told: (label, answer, how many)."""
    labels, answers = (torch.tensor([row[i] for row in pairs for _ in range(row[2])]) for i in (0, 1))
    x = torch.zeros(len(labels), 1, 8, 8)
    x.view(len(x), -1)[torch.arange(len(x)), answers] = 1
    return Split(x, labels)


def test_a_gap_makes_a_label_over_fit_and_low_accuracy_under_fit() -> None:
    """Label 0: 1.0 on train, .5 on validation; 1: .95 and .92; 2: .7 and .8, worse on train; 3 does
    not occur on validation.
    """
    reader = nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False)).eval()
    with torch.no_grad():
        reader[1].weight.copy_(torch.eye(64)[:4])
    train = told([(0, 0, 20), (1, 1, 19), (1, 2, 1), (2, 2, 14), (2, 3, 6), (3, 3, 20)])
    validation = told([(0, 0, 10), (0, 3, 10), (1, 1, 46), (1, 0, 4), (2, 2, 16), (2, 1, 4)])
    task = replace(toy.task("plain"), module=reader, train=train, validation=validation)
    assert Mode()._bugs(task) == {0: "over", 2: "under"}
    assert Mode(overfit=0.6)._bugs(task) == {0: "under", 2: "under"}
    assert Mode(underfit=0.95)._bugs(task) == {0: "over", 1: "under", 2: "under"}


def test_selection_takes_the_label_s_most_similar_or_least_similar_inputs() -> None:
    """Under-fit: every selected input of the label scores above every other of the label; over-fit: below."""
    task = toy.task("plain")
    layer, pool, generator = task.module[3], toy.images(200, 50), torch.Generator().manual_seed(0)  # type: ignore[index]
    method = Mode(selection=20, ratio=1.0)
    train = features(task.module, [layer], task.train)[0]
    scale = train.abs().amax(0).clamp_min(1e-12)
    maps = heat_maps(train / scale, task.train.y, sit(task.module, task.train).predictions, 4)
    score = features(task.module, [layer], pool)[0] / scale @ maps.difference("dhci", 2)
    for kind, sign in (("under", 1), ("over", -1)):
        index = method._select(task, layer, pool, {2: kind}, generator)
        assert len(index) == 20
        assert (pool.y[index] == 2).all()
        rest = torch.tensor([i for i in range(200) if pool.y[i] == 2 and i not in index.tolist()])
        assert (sign * score[index]).min() >= (sign * score[rest]).max()


def test_the_rest_of_a_selection_is_random_and_nothing_comes_twice() -> None:
    """ratio says how much is selected; quotas are shared among the bugs."""
    task = toy.task("plain")
    layer, pool = task.module[3], toy.images(200, 50)  # type: ignore[index]
    half = Mode(selection=40, ratio=0.5)._select(
        task, layer, pool, {2: "under", 3: "over"}, torch.Generator().manual_seed(0)
    )
    assert len(half.unique()) == 40
    assert torch.bincount(pool.y[half[:20]], minlength=4).tolist() == [0, 0, 10, 10]
    none = [
        Mode(selection=40, ratio=0.0)._select(
            task, layer, pool, {2: "under"}, torch.Generator().manual_seed(s)
        )
        for s in (0, 0, 1)
    ]
    assert torch.equal(none[0], none[1])
    assert not torch.equal(none[0], none[2])


def test_inputs_taken_for_a_label_come_from_other_labels() -> None:
    """map=dhmi selects no input of the label itself."""
    task = toy.task("plain")
    pool = toy.images(200, 50)
    index = Mode(map="dhmi", selection=20, ratio=1.0)._select(
        task, task.module[3], pool, {2: "over"}, torch.Generator()
    )  # type: ignore[index]
    assert len(index) == 20
    assert not (pool.y[index] == 2).any()


def test_a_clean_pool_repairs_what_train_and_failing_cannot_say() -> None:
    """With a pool there is no note about its absence, and the repaired network is better than it was."""
    notes: list[str] = []
    task = replace(toy.task("mlp"), pool=toy.images(200, 50), note=notes.append)
    before = sit(task.module, toy.dataset().test).accuracy
    module = Mode(epochs=10, rounds=2).repair(task)
    assert notes == []
    assert sit(module, toy.dataset().test).accuracy > before + 0.05


def test_nothing_buggy_leaves_the_module_and_says_so() -> None:
    """With thresholds that nothing crosses the module is untouched."""
    notes: list[str] = []
    task = replace(toy.task("mlp"), note=notes.append)
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    module = Mode(underfit=0.0, overfit=1.0).repair(task)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert "no label is buggy" in notes[-1]
    assert task.meter.backward == 0


def test_what_it_needs_is_named() -> None:
    """No training data, or no hidden layer."""
    task = toy.task("mlp")
    with pytest.raises(Unsupported, match="training inputs"):
        Mode().repair(replace(task, train=task.train.select(torch.zeros(0, dtype=torch.int64))))
    with pytest.raises(Unsupported, match="hidden"):
        Mode().repair(replace(task, module=nn.Sequential(nn.Flatten(), nn.Linear(64, 4))))


def test_features_leave_nothing_on_the_layers() -> None:
    """What listened is gone afterwards: later passes through the network are not recorded."""
    task = toy.task("plain")
    layers = [task.module[3], task.module[5]]  # type: ignore[index]
    features(task.module, layers, task.passing)
    assert not any(layer._forward_pre_hooks for layer in layers)
