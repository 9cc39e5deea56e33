"""Arachne: localisation, fitness and both searches."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from airepair.errors import Unsupported
from airepair.exam import logits_of, sit
from airepair.methods.arachne import Arachne, _of, _start, fitness
from airepair.search.evolution import Evolution, evolve
from airepair.search.patch import PatchedLogits, Places
from airepair.testing import toy
from airepair.testing.conformance import MethodConformance
from airepair.types import Task

SMALL = {"population": 20, "generations": 15}


class TestArachneDE(MethodConformance):
    """Version 2 keeps the contract."""

    method = Arachne
    options: ClassVar = SMALL


class TestArachnePSO(MethodConformance):
    """Version 1 keeps the contract, also without batch norm."""

    method = Arachne
    options: ClassVar = {**SMALL, "search": "pso"}
    architectures = ("mlp", "plain")


def test_the_fitness_of_version_1_is_the_printed_one() -> None:
    """(N_patched + 1) / (Loss + 1) + (N_intact + 1) / (Loss + 1), computed by hand for one failing and two passing inputs."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    y = torch.tensor([1, 1, 0])
    loss = nn.functional.cross_entropy(logits, y, reduction="none")
    expected = (0 + 1) / (loss[0] + 1) + (2 + 1) / (loss[1:].mean() + 1)
    assert fitness(logits[None], y, 1, None)[0] == pytest.approx(float(expected))


def test_the_fitness_of_version_2_pays_for_right_inputs_and_nearly_right_ones() -> None:
    """sum over passing + alpha * sum over failing of 1 where right and 1 / (loss + 1) where wrong."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    wrong = nn.functional.cross_entropy(logits[:1], torch.tensor([1]))
    assert fitness(logits[None], torch.tensor([1, 1, 0]), 1, 10.0)[0] == pytest.approx(float(2 + 10 / (wrong + 1)))


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
    both, y, n = torch.cat([task.failing.x, task.passing.x]), torch.cat([task.failing.y, task.passing.y]), len(task.failing)
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


def one_search(task: Task, places: Places, slow: bool, size: int, generations: int) -> tuple[torch.Tensor, float]:
    """The best vector and the seconds of a DE search, batched or with one full forward pass a candidate."""
    both, y = torch.cat([task.failing.x, task.passing.x]), torch.cat([task.failing.y, task.passing.y])
    logits = PatchedLogits(task.module, places, both, task.meter)
    start, low, high = _start(task.module, places, size, torch.Generator().manual_seed(0))
    score = _of(logits.one_by_one if slow else logits, y, len(task.failing), 10.0)
    began = time.perf_counter()
    found = evolve(score, start, 2 * low, 2 * high, Evolution(generations=generations, patience=999), torch.Generator().manual_seed(1))
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
