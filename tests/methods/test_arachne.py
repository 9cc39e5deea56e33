"""Arachne: localisation, fitness and both searches."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.evaluation.exam import logits_of, sit
from airepair.methods import arachne
from airepair.methods.arachne import Arachne, _negative, _of, _start, _stratified, fitness
from airepair.search.evolution import Evolution, evolve
from airepair.search.localise import Impact, impacts
from airepair.search.pareto import pareto_front
from airepair.search.patch import PatchedLogits, Places
from airepair.search.swarm import Found, Swarm
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Split, Task

SMALL = {"population": 20, "generations": 15}


class TestArachneDE(MethodConformance):
    """Version 2 keeps the contract."""

    method = Arachne
    options: ClassVar = SMALL


class TestArachnePSO(MethodConformance):
    """Version 1 keeps the contract, also without batch norm; with fewer particles its swarm stops
    before it has found anything.
    """

    method = Arachne
    options: ClassVar = {"search": "pso", "population": 60, "generations": 60}
    architectures = ("plain",)


class TestArachneConfusion(MethodConformance):
    """So does the repair of the most frequent confusion; of all failing inputs version 1 finds one
    weight only on this network.
    """

    method = Arachne
    options: ClassVar = {"search": "pso", "population": 60, "generations": 60, "target": "confusion"}
    architectures = ("mlp",)


def test_the_fitness_of_version_1_is_the_printed_one() -> None:
    """(N_patched + 1) / (Loss + 1) + (N_intact + 1) / (Loss + 1), computed by hand for one failing
    and two passing inputs.
    """
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    y = torch.tensor([1, 1, 0])
    loss = nn.functional.cross_entropy(logits, y, reduction="none")
    expected = (0 + 1) / (loss[0] + 1) + (2 + 1) / (loss[1:].mean() + 1)
    assert fitness(logits[None], y, 1, None)[0] == pytest.approx(float(expected))


def test_the_fitness_of_version_2_pays_for_right_inputs_and_nearly_right_ones() -> None:
    """sum over passing + alpha * sum over failing of 1 where right and 1 / (loss + 1) where wrong."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    wrong = nn.functional.cross_entropy(logits[:1], torch.tensor([1]))
    assert fitness(logits[None], torch.tensor([1, 1, 0]), 1, 10.0)[0] == pytest.approx(
        float(2 + 10 / (wrong + 1))
    )


@pytest.mark.parametrize("search", ["pso", "de"])
def test_it_repairs_failing_inputs_and_changes_the_localised_weights_only(search: str) -> None:
    """Some failing inputs are right afterwards; of all parameters, as few values differ as the note says."""
    task = toy.task("cnn")
    notes: list[str] = []
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    module = Arachne(search=search).repair(replace(task, note=notes.append))  # type: ignore[arg-type]
    changed = {k: int((v != before[k]).sum()) for k, v in module.state_dict().items()}
    assert sit(module, task.failing).accuracy > 0.3
    assert 0 < sum(changed.values()) <= int(notes[0].split()[0])
    assert not any(count for name, count in changed.items() if name.endswith("bias"))
    assert search == "de" or {k for k, c in changed.items() if c} == {"7.weight"}


@pytest.mark.parametrize("search", ["pso", "de"])
def test_no_change_is_among_the_candidates(search: str) -> None:
    """The result's fitness is never below that of the module as it came."""
    task = toy.task("mlp")
    alpha = None if search == "pso" else 10.0
    both, y, n = (
        torch.cat([task.failing.x, task.passing.x]),
        torch.cat([task.failing.y, task.passing.y]),
        len(task.failing),
    )
    start = fitness(logits_of(task.module, both)[None], y, n, alpha)
    module = Arachne(search=search, population=4, generations=1).repair(task)  # type: ignore[arg-type]
    assert fitness(logits_of(module, both)[None], y, n, alpha) >= start


def test_version_1_says_why_it_refuses_a_last_convolution() -> None:
    """A network that ends in a convolution is no case for v1, and v2 takes it."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    task = replace(toy.task("mlp"), module=net)
    with pytest.raises(Unsupported, match="search=de"):
        Arachne(search="pso").repair(task)
    assert Arachne(population=4, generations=1).repair(task) is net


def one_search(
    task: Task, places: Places, slow: bool, size: int, generations: int
) -> tuple[torch.Tensor, float]:
    """The best vector and the seconds of a DE search, batched or with one full forward pass a candidate."""
    both, y = torch.cat([task.failing.x, task.passing.x]), torch.cat([task.failing.y, task.passing.y])
    logits = PatchedLogits(task.module, places, both, task.meter)
    start, low, high = _start(task.module, places, size, torch.Generator().manual_seed(0))
    score = _of(logits.one_by_one if slow else logits, y, len(task.failing), 10.0)
    began = time.perf_counter()
    found = evolve(
        score,
        start,
        2 * low,
        2 * high,
        Evolution(generations=generations, patience=999),
        torch.Generator().manual_seed(1),
    )
    return found.best, time.perf_counter() - began


def test_the_batched_search_takes_the_way_of_the_slow_one() -> None:
    """Same seed, same vector, whether a generation is one pass or one pass a particle."""
    task = toy.task("cnn")
    places = Places(("5.weight", "7.weight"), torch.tensor([0, 1, 1]), torch.tensor([3, 5, 40]))
    fast, slow = (one_search(copy.deepcopy(task), places, way, 12, 8)[0] for way in (False, True))
    assert torch.allclose(fast, slow, atol=1e-5)


@pytest.mark.slow
def test_a_hundred_particles_and_generations_take_seconds() -> None:
    """The last layer's search is more than ten times as fast batched as one particle at a time."""
    task = toy.task("cnn")
    places = Places(("7.weight",), torch.zeros(5, dtype=torch.int64), torch.tensor([0, 9, 20, 33, 60]))
    (_, fast), (_, slow) = (one_search(task, places, way, 100, 100) for way in (False, True))
    assert slow / fast > 10, (slow, fast)
    assert fast < 10


def one_class_is_hopeless() -> Task:
    """Class 3 is never predicted, but one of its weights is by far the largest: no gradient loss,
    the greatest forward impact.
    """
    task = toy.task("plain")
    layer, features = task.module[5], task.module[:5](task.failing.images(slice(0, 1)))[0]  # type: ignore[index]
    with torch.no_grad():
        layer.bias[3] = -200.0
        layer.weight[3, int(features.argmax())] = 9.0
    return replace(task, failing=Split(task.failing.x[:1], 1 - task.failing.y[:1].clamp(max=1)))


def test_version_1_looks_at_the_twenty_weights_of_largest_gradient_loss() -> None:
    """For one failing input: a weight of great forward impact that does not move the loss is not
    localised, whatever the front says.
    """
    task = one_class_is_hopeless()
    layer = task.module[5]  # type: ignore[index]
    cost = impacts(task.module, [layer], task.failing, behind=False)  # type: ignore[list-item]
    twenty = set(cost.gradient[0].flatten().topk(20).indices.tolist())
    assert int(cost.forward[0].argmax()) not in twenty
    places = Arachne(search="pso")._localise(
        task.module, {"5": layer}, task.failing, task.passing, torch.Generator()
    )  # type: ignore[dict-item]
    chosen = {(int(i)) for i in places.index}
    assert chosen <= twenty
    scores = torch.stack([cost.gradient[0].flatten(), cost.forward[0].flatten()], 1)
    rows = torch.tensor(sorted(twenty))
    assert chosen == set(rows[pareto_front(scores[rows])].tolist())


def test_version_2_divides_both_scores_by_those_of_passing_inputs() -> None:
    """cost / (1 + the same on as many passing inputs), the front taken over all layers together."""
    task = toy.task("cnn")
    names = ["0", "5", "7"]
    layers = {n: task.module.get_submodule(n) for n in names}
    found = Arachne()._localise(task.module, layers, task.failing, task.passing, task.generator(2))  # type: ignore[arg-type]
    like = _stratified(task.passing, len(task.failing), task.generator(2))
    bad, good = (impacts(task.module, list(layers.values()), split) for split in (task.failing, like))  # type: ignore[arg-type]
    scores = [
        torch.cat([(b / (1 + g)).flatten() for b, g in zip(x, y, strict=True)])
        for x, y in zip(both(bad), both(good), strict=True)
    ]
    front = pareto_front(torch.stack(scores, 1))
    sizes = [layers[n].weight.numel() for n in names]  # type: ignore[union-attr,operator]
    starts = {n: sum(sizes[:i]) for i, n in enumerate(names)}
    flat = [
        starts[found.names[int(w)].removesuffix(".weight")] + int(i)
        for w, i in zip(found.which, found.index, strict=True)
    ]
    assert sorted(flat) == front.tolist()
    alone = pareto_front(torch.stack([torch.cat([t.flatten() for t in side]) for side in both(bad)], 1))
    assert alone.tolist() != front.tolist(), "the passing inputs make a difference here"


def test_both_scores_fall_where_passing_inputs_need_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front is taken of gradient loss and forward impact, each divided by 1 + the same on
    passing inputs: number by number.
    """
    task, seen = toy.task("cnn"), []
    layer = task.module.get_submodule("5")
    monkeypatch.setattr(arachne, "pareto_front", lambda scores: seen.append(scores) or pareto_front(scores))
    # Impacts of the passing inputs are made large, so that a product and a quotient are far apart.
    large = Impact((torch.rand(16, 54) * 4,), (torch.rand(16, 54) * 4,))
    bad = impacts(task.module, [layer], task.failing)  # type: ignore[list-item]
    monkeypatch.setattr(arachne, "impacts", lambda *args, behind=None: bad if behind else large)
    Arachne()._localise(task.module, {"5": layer}, task.failing, task.passing, task.generator(2))  # type: ignore[dict-item]
    assert torch.allclose(seen[0][:, 0], (bad.gradient[0] / (1 + large.gradient[0])).flatten())
    assert torch.allclose(seen[0][:, 1], (bad.forward[0] / (1 + large.forward[0])).flatten())


def both(impact: Impact) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    return impact.gradient, impact.forward


@pytest.mark.parametrize(
    ("search", "given", "expected"), [("pso", None, 200), ("de", None, 250), ("pso", 7, 7), ("de", 7, 7)]
)
def test_each_version_protects_as_many_passing_inputs_as_its_paper(
    search: str, given: int | None, expected: int
) -> None:
    """v1 draws 200, v2 takes all; a number that is given holds for both, and the draw follows the seed."""
    task = replace(toy.task("mlp"), passing=toy.images(250, 60))
    drawn = Arachne(search=search, positives=given)._positive(task)  # type: ignore[arg-type]
    assert len(drawn) == expected
    assert torch.equal(drawn.x, Arachne(search=search, positives=given)._positive(task).x)  # type: ignore[arg-type]


def test_alpha_belongs_to_version_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The swarm of v1 hears of no alpha, whatever it is set to; the evolution of v2 does."""
    seen: list[float | None] = []

    def spy(
        logits: PatchedLogits, labels: torch.Tensor, negatives: int, alpha: float | None
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        seen.append(alpha)
        return lambda population: population.new_zeros(len(population))

    monkeypatch.setattr(arachne, "_of", spy)
    for search in ("pso", "de"):
        Arachne(search=search, alpha=3.0, population=4, generations=1).repair(toy.task("mlp"))  # type: ignore[arg-type]
    assert seen == [None, 3.0]


def test_passing_inputs_are_drawn_label_by_label_in_turn() -> None:
    """As many of each label as there are, up to n."""
    y = torch.tensor([0] * 50 + [1] * 3 + [2] * 50)
    drawn = _stratified(Split(torch.zeros(103, 1, 1, 1), y), 13, torch.Generator().manual_seed(0))
    assert drawn.y.bincount().tolist() == [5, 3, 5]


def test_the_most_frequent_confusion_is_one_label_and_one_prediction() -> None:
    """target=confusion keeps the failing inputs of the pair (label, prediction) that occurs most
    often, and no others.
    """
    task = toy.task("mlp")
    predicted = sit(task.module, task.failing).predictions
    pairs = Counter(zip(task.failing.y.tolist(), predicted.tolist(), strict=True))
    (label, wrong), count = pairs.most_common(1)[0]
    chosen = _negative(task, "confusion")
    assert len(pairs) > 1
    assert len(chosen) == count < len(task.failing)
    assert set(chosen.y.tolist()) == {label}
    assert set(sit(task.module, chosen).predictions.tolist()) == {wrong}


def test_values_stay_within_twice_their_layers_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fitness that pulls every weight up, each ends between once and twice the largest
    weight of its own layer.
    """
    task = toy.task("cnn")
    largest = {n: float(p.detach().max()) for n, p in task.module.named_parameters()}
    before = {n: p.detach().clone() for n, p in task.module.named_parameters()}
    monkeypatch.setattr(arachne, "_of", lambda *_: lambda population: population.sum(1))
    module = Arachne(generations=60).repair(task)
    moved = {n: p[p != before[n]] for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    for name, values in moved.items():
        assert float(values.max()) <= 2 * largest[name] + 1e-6
        assert float(values.min()) > largest[name]


@pytest.mark.parametrize("search", ["pso", "de"])
def test_the_weights_as_they_were_are_one_of_the_candidates(
    search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fitness that wants no change nothing changes, bit for bit."""
    task = toy.task("mlp")
    before = {n: p.detach().clone() for n, p in task.module.named_parameters()}
    original: list[torch.Tensor] = []

    def still(logits: PatchedLogits, *_: object) -> Callable[[torch.Tensor], torch.Tensor]:
        original.append(logits.places.values(logits.module))
        return lambda population: -(population - original[0]).abs().sum(1)

    monkeypatch.setattr(arachne, "_of", still)
    module = Arachne(search=search, generations=5).repair(task)  # type: ignore[arg-type]
    assert original
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())


@pytest.mark.parametrize("printed", [False, True])
def test_the_printed_constants_and_those_that_settle(printed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed: 4.1 each and a fifth of the weights' range as least speed; else 2.05 and none. Speed
    is capped at five ranges in both.
    """
    seen: list[Swarm] = []

    def spy(
        fitness: object, start: torch.Tensor, velocity: torch.Tensor, settings: Swarm, generator: object
    ) -> Found:
        seen.append(settings)
        assert not velocity.any()
        return Found(start[0], 0.0, 0, (0.0,))

    task = toy.task("mlp")
    weights = task.module.get_parameter("4.weight")
    span = float(weights.max() - weights.min())
    monkeypatch.setattr(arachne, "swarm", spy)
    Arachne(search="pso", printed=printed).repair(task)
    assert seen[0].inertia == pytest.approx(0.7298, abs=1e-4)
    assert seen[0].cognitive == seen[0].social == pytest.approx(0.7298 * (4.1 if printed else 2.05), abs=1e-3)
    assert seen[0].fastest == pytest.approx(5 * span)
    assert seen[0].slowest == pytest.approx(span / 5 if printed else 0.0)
