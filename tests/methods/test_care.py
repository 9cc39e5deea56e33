"""CARE: interventions, folding, search."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import logits_of, sit
from airepair.methods import care
from airepair.methods.care import Care, badness, fold, neurons, rectified
from airepair.search.swarm import Found, Swarm
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Split, Task


class TestCare(MethodConformance):
    """CARE keeps the contract, also without batch norm."""

    method = Care
    options: ClassVar = {"values": 4, "iterations": 6, "sample": 16}
    architectures = ("mlp", "cnn", "plain")


@pytest.mark.parametrize(("kind", "name"), [("mlp", "2"), ("cnn", "1"), ("cnn", "5"), ("plain", "3")])
def test_folding_equals_scaling_the_outputs(kind: toy.Architecture, name: str) -> None:
    """A factor in the layer's weight and bias is a factor on its output channels: batch norm,
    convolution, dense.
    """
    task = toy.task(kind)
    factors = torch.tensor([0.0, 1.5, 0.3])
    channels = torch.tensor([0, 2, 4])

    def scale(_m: nn.Module, _a: object, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, channels] *= factors.view(1, -1, *([1] * (out.ndim - 2)))
        return out

    handle = task.module.get_submodule(name).register_forward_hook(scale)
    expected = logits_of(task.module, task.passing.x)
    handle.remove()
    fold(task.module.get_submodule(name), channels, factors)
    assert torch.allclose(logits_of(task.module, task.passing.x), expected, atol=1e-5)


def test_neurons_are_norms_or_what_no_norm_follows() -> None:
    """A convolution in front of a batch norm is left to it, and the output layer has no neurons."""
    x = toy.dataset().train.images(slice(2))
    assert [r.name for r in neurons(toy.architecture("cnn").eval(), x)] == ["1", "5"]
    assert [r.name for r in neurons(toy.architecture("plain").eval(), x)] == ["1", "3"]


class Functional(nn.Module):
    """The "plain" toy network with functions of torch between its layers."""

    def __init__(self, layers: nn.Sequential, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers, self.activation = nn.ModuleList([layers[1], layers[3], layers[5]]), activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers[:2]:
            x = self.activation(layer(x))
        out: Tensor = self.layers[2](x)
        return out


def by_hand(module: nn.Sequential, activation: nn.Module, neuron: int, data: Split) -> float:
    """Mean misbehaviour with one output of `activation` set to its smallest, middle and largest
    value, one after the other.
    """
    seen: list[Tensor] = []
    handle = activation.register_forward_hook(lambda _m, _a, out: seen.append(out))
    logits_of(module, data.x)
    handle.remove()
    low, high = seen[0][:, neuron].min(), seen[0][:, neuron].max()
    bad = []
    for value in (low, (low + high) / 2, high):

        def put(_m: nn.Module, _a: object, out: Tensor, value: Tensor = value) -> Tensor:
            out = out.clone()
            out[:, neuron] = value
            return out

        handle = activation.register_forward_hook(put)
        bad.append(badness(logits_of(module, data.x)[None], data.y))
        handle.remove()
    return float(torch.cat(bad).mean())


@pytest.mark.parametrize("form", ["modules", "one module", "functions"])
def test_attribution_is_the_mean_over_interventions_on_the_activation(form: str) -> None:
    """Set by hand behind the ReLU, one neuron and value at a time: the same, however the ReLU is written."""
    task = toy.task("plain")
    plain: nn.Sequential = copy.deepcopy(task.module)  # type: ignore[assignment]
    if form == "one module":
        task.module[4] = task.module[2]  # type: ignore[index,operator]
    if form == "functions":
        object.__setattr__(task, "module", Functional(task.module, torch.relu).eval())  # type: ignore[arg-type]
    for number, activation in ((0, plain[2]), (1, plain[4])):
        run = neurons(task.module, task.failing.images(slice(2)))[number]
        found = Care(values=3)._attribution(task, run, task.failing)
        for neuron in (0, 7, 12):
            assert float(found[neuron]) == pytest.approx(
                by_hand(plain, activation, neuron, task.failing), abs=1e-5
            )


def test_behind_another_function_the_values_are_the_layers_own() -> None:
    """tanh sees negative values: the lowest value that is set is the lowest that was observed."""
    task = toy.task("plain")
    net = Functional(task.module, torch.tanh).eval()  # type: ignore[arg-type]
    object.__setattr__(task, "module", net)
    run = neurons(net, task.failing.images(slice(2)))[1]
    x = task.failing.images()
    assert not rectified(net, run.layer, x)
    with torch.no_grad():
        out = net.layers[1](torch.tanh(net.layers[0](x.flatten(1))))
    bad = []
    for value in (out[:, 7].min(), out[:, 7].max()):
        moved = out.clone()
        moved[:, 7] = value
        bad.append(badness(net.layers[2](torch.tanh(moved))[None].detach(), task.failing.y))
    found = Care(values=2)._attribution(task, run, task.failing)
    assert float(found[7]) == pytest.approx(float(torch.cat(bad).mean()), abs=1e-5)


def planted() -> Task:
    """A hidden neuron that always speaks for class 3, put into a toy network that is otherwise as it was."""
    task = toy.task("plain")
    module = task.module
    with torch.no_grad():
        module[3].weight[5], module[3].bias[5] = 0, 1  # type: ignore[index]
        module[5].weight[:, 5] = torch.tensor([-4.0, -4.0, -4.0, 12.0])  # type: ignore[index]
    repair = toy.dataset().repair
    right = sit(module, repair).right
    task = copy.copy(task)
    object.__setattr__(task, "failing", repair.select(~right))
    object.__setattr__(task, "passing", repair.select(right))
    return task


def test_a_planted_neuron_is_found_and_switched_off() -> None:
    """A constant neuron that pushes everything into one class is scaled down, and most failing
    inputs are right again.
    """
    task = planted()
    before = len(task.failing)
    assert before > 60
    assert sit(Care(share=0.3).repair(task), task.failing).accuracy > 0.5


def test_it_never_ends_below_where_it_started() -> None:
    """No change is one of the particles, so the weighted cost cannot rise."""
    task = toy.task("mlp")

    def cost(module: nn.Module, data: Split) -> Tensor:
        return badness(logits_of(module, data.x)[None], data.y)

    start = 0.7 * cost(task.module, task.failing) + 0.3 * (1 - sit(task.module, task.passing).accuracy)
    module = Care(most=3).repair(task)
    assert 0.7 * cost(module, task.failing) + 0.3 * (1 - sit(module, task.passing).accuracy) < start


def test_the_swarm_minimises_the_published_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 - alpha) badness + alpha (1 - accuracy) of the scaled network: what the swarm is told
    equals what the folded module scores.
    """
    told: list[float] = []

    def spy(
        fitness: Callable[[Tensor], Tensor],
        start: Tensor,
        speed: Tensor,
        settings: Swarm,
        generator: torch.Generator,
    ) -> Found:
        r = 2 * torch.rand(start.shape, generator=torch.Generator().manual_seed(0)) - 1
        told.append(float(fitness(r)[0]))
        return Found(r[0], told[0], 0, (told[0],))

    monkeypatch.setattr(care, "swarm", spy)
    task = toy.task("cnn")
    module = Care(share=1.0, alpha=0.4).repair(task)
    accuracy = sit(module, task.passing).accuracy
    assert accuracy < 0.95, "the change is large enough to tell"
    bad = float(badness(logits_of(module, task.failing.x)[None], task.failing.y))
    assert -told[0] == pytest.approx(0.6 * bad + 0.4 * (1 - accuracy), abs=1e-5)


def test_a_network_without_hidden_layer_is_refused() -> None:
    """There is nothing to scale in a single dense layer."""
    task = toy.task("mlp")
    object.__setattr__(task, "module", nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(Unsupported, match="no hidden layer"):
        Care().repair(task)


def test_misbehaviour_is_the_mean_of_what_the_label_lacks() -> None:
    """Two candidates, two inputs: labels at one half and one quarter, and at one half twice."""
    logits = torch.tensor([[[0.5, 0.5], [0.75, 0.25]], [[0.5, 0.5], [0.5, 0.5]]]).log()
    assert badness(logits, torch.tensor([0, 1])).tolist() == pytest.approx([0.625, 0.5])


def test_a_dense_layer_on_sequences_has_no_neurons() -> None:
    """Its features come last, so that no channel of its output could be scaled; on vectors it counts."""
    x = torch.rand(2, 1, 8, 8)
    tail = (nn.Linear(64, 6), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4))
    assert neurons(nn.Sequential(nn.Flatten(2), *tail), x) == []
    assert [run.name for run in neurons(nn.Sequential(nn.Flatten(), *tail), x)] == ["1"]
