"""Pareto fronts, swarms, evolution, cached prefixes, localisation and batched candidates: their
mathematics.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from airepair.evaluation.exam import logits_of
from airepair.models.layers import runs, weighted
from airepair.search.evolution import Evolution, evolve, trials
from airepair.search.intervene import Intervened, channelwise
from airepair.search.localise import impacts
from airepair.search.pareto import pareto_front
from airepair.search.patch import PatchedLogits, Places
from airepair.search.prefix import Prefix, tiles
from airepair.search.sparse import SparseChange
from airepair.search.swarm import Swarm, constriction, settles, swarm
from airepair.types import Meter, Split


class Residual(nn.Module):
    """Two convolutions around a shortcut, in-place activations, a shared ReLU, grouped and padded windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.left = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.right = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        out = self.left(x)
        out += self.right(x)
        return self.head(self.relu(out).mean((2, 3)))


@pytest.fixture
def net() -> nn.Module:
    """A residual network with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Residual().eval()


@pytest.fixture
def data() -> Split:
    """Twelve random images of three classes."""
    return Split(torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3)


points = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=1, max_size=40)


@given(points)
@settings(max_examples=200, deadline=None)
def test_the_front_holds_exactly_the_undominated(rows: list[tuple[int, int]]) -> None:
    """A row is on the front if and only if no other dominates it, repeated rows included."""
    scores = torch.tensor(rows, dtype=torch.float32)
    at_least = (scores[:, None] >= scores[None]).all(2) & (scores[:, None] > scores[None]).any(2)
    assert pareto_front(scores).tolist() == (~at_least.any(0)).nonzero()[:, 0].tolist()


def test_the_front_ignores_a_row_that_is_not_a_number() -> None:
    """NaN never beats anything."""
    assert pareto_front(torch.tensor([[1.0, 1.0], [float("nan"), 0.5]])).tolist() == [0]


def test_constriction_is_the_published_constant() -> None:
    """chi(4.1) = 0.7298, and the sum 4.1 settles where the printed 2 x 4.1 does not."""
    chi = constriction(4.1)
    assert chi == pytest.approx(0.7298, abs=1e-4)
    assert settles(chi, chi * 4.1)
    assert not settles(chi, chi * 8.2)


def sphere(population: Tensor) -> Tensor:
    return -((population - 1.5) ** 2).sum(1)


def test_a_swarm_finds_the_top_of_a_parabola() -> None:
    """Constriction with 2.05 each reaches the optimum; the same seed reaches it by the same way."""
    chi = constriction(4.1)
    how = Swarm(chi, chi * 2.05, chi * 2.05, 200, 60)
    start = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    found = [
        swarm(sphere, start, torch.zeros_like(start), how, torch.Generator().manual_seed(1)) for _ in range(2)
    ]
    assert torch.allclose(found[0].best, torch.full((4,), 1.5), atol=1e-2)
    assert torch.equal(found[0].best, found[1].best)
    assert list(found[0].history) == sorted(found[0].history)


def test_a_swarm_without_velocity_that_starts_in_one_point_stays_there() -> None:
    """Why CARE's swarm, which starts at 0, needs velocities: all its differences are 0."""
    start = torch.zeros(20, 3)
    found = swarm(
        sphere,
        start,
        torch.zeros_like(start),
        Swarm(0.8, 0.41, 0.41, 30, 30),
        torch.Generator().manual_seed(0),
    )
    assert torch.equal(found.best, torch.zeros(3))


def test_each_element_of_a_velocity_keeps_its_bounds() -> None:
    """No step is shorter than `slowest` or longer than `fastest`, whatever the differences and the
    inertia would give.
    """
    seen: list[Tensor] = []

    def watched(population: Tensor) -> Tensor:
        seen.append(population)
        return sphere(population)

    start = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    how = Swarm(0.7, 1.5, 1.5, 20, 99, fastest=0.4, slowest=0.1)
    swarm(
        watched,
        start,
        torch.randn(30, 5, generator=torch.Generator().manual_seed(2)),
        how,
        torch.Generator().manual_seed(1),
    )
    steps = torch.stack([b - a for a, b in pairwise(seen)]).abs()
    assert float(steps.min()) == pytest.approx(0.1, abs=1e-5)
    assert float(steps.max()) == pytest.approx(0.4, abs=1e-5)


def test_evolution_finds_the_top_of_a_parabola_within_its_bounds() -> None:
    """DE/rand/1/bin reaches the optimum, and stays below a bound that cuts it off."""
    start = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    for high, best in ((10.0, 1.5), (1.0, 1.0)):
        bound = torch.full((4,), high)
        found = evolve(
            sphere,
            start.clamp(max=high),
            -bound,
            bound,
            Evolution(generations=200),
            torch.Generator().manual_seed(1),
        )
        assert torch.allclose(found.best, torch.full((4,), best), atol=2e-2)


def test_evolution_stops_when_nothing_improves() -> None:
    """A flat fitness ends after patience + 1 generations."""
    start = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    found = evolve(
        lambda p: p.new_zeros(len(p)),
        start,
        start - 9,
        start + 9,
        Evolution(patience=3),
        torch.Generator().manual_seed(1),
    )
    assert found.generations == 4


def test_a_trial_mixes_three_others_and_changes_at_least_one_element() -> None:
    """With no crossover one element is forced, and it is a + F (b - c) of three distinct other members."""
    population = torch.tensor([[1.0, 1], [10, 10], [100, 100], [1000, 1000]])
    made = trials(population, 0.5, 0.0, torch.Generator().manual_seed(2))
    assert ((made != population).sum(1) == 1).all()
    for i, row in enumerate(made):
        others = [float(population[j, 0]) for j in range(4) if j != i]
        possible = {a + 0.5 * (b - c) for a in others for b in others for c in others if len({a, b, c}) == 3}
        assert float(row[row != population[i]]) in possible


@pytest.mark.parametrize("changed", ["stem", "left", "right", "head"])
def test_a_replayed_prefix_gives_the_full_forward(net: nn.Module, data: Split, changed: str) -> None:
    """Whatever layer changes, replaying gives the same logits bit for bit, with in-place
    activations and shared modules.
    """
    expected = logits_of(net, data.x)
    prefix = Prefix(net, [net.get_submodule(changed)], data.x)
    for _ in range(2):
        with prefix.replaying(), torch.no_grad():
            assert torch.equal(net(data.x), expected)
    assert torch.equal(logits_of(net, data.x), expected)
    assert net.get_submodule(changed) not in prefix.recorded


@pytest.mark.parametrize(
    ("pool", "side"),
    [
        (nn.MaxPool2d(2), 2),
        (nn.MaxPool2d(3), 3),
        (nn.MaxPool2d((2, 2), (2, 2)), 2),
        (nn.MaxPool2d(3, 2), 0),
        (nn.MaxPool2d(2, padding=1), 0),
        (nn.MaxPool2d(2, ceil_mode=True), 0),
        (nn.MaxPool2d((2, 1)), 0),
    ],
)
def test_pooling_over_tiles_is_replayed_bit_for_bit(pool: nn.MaxPool2d, side: int) -> None:
    """Tiles by elementwise maxima, on sides that they do not divide; every other pooling as it is.

    Both return to torch's own afterwards.
    """
    assert tiles(pool) == side
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), pool, nn.Flatten(), nn.LazyLinear(4)
        ).eval()
    x = torch.rand(5, 1, 7, 8, generator=torch.Generator().manual_seed(1))
    expected = logits_of(net, x)
    with Prefix(net, [net[0]], x).replaying(), torch.no_grad():
        assert torch.allclose(net(x), expected, atol=1e-6)
        y = net[1](net[0](x))
        assert torch.equal(
            pool(y),
            nn.functional.max_pool2d(
                y, pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode
            ),
        )
        assert ("forward" in vars(pool)) is bool(side)
    assert "forward" not in vars(pool)


def test_a_prefix_holds_what_runs_before_and_nothing_else(net: nn.Module, data: Split) -> None:
    """Before `left` come stem and norm; the shared ReLU runs on both sides, so it cannot be replayed."""
    names = {
        n for n, m in net.named_modules() if m in Prefix(net, [net.get_submodule("left")], data.x).recorded
    }
    assert names == {"stem", "norm"}


@pytest.mark.parametrize(
    "names",
    [
        ("head.weight",),
        ("left.weight",),
        ("right.weight",),
        ("stem.weight", "head.weight"),
        ("left.weight", "right.weight", "head.weight"),
    ],
)
def test_a_batched_population_equals_one_by_one(net: nn.Module, data: Split, names: tuple[str, ...]) -> None:
    """Logits of all candidates at once are those of one full forward pass each, and the module is
    left as it was.
    """
    generator = torch.Generator().manual_seed(3)
    which = torch.arange(6) % len(names)
    index = torch.empty_like(which)
    for number, name in enumerate(
        names
    ):  # different places: what a weight given twice should be has no answer
        here = which == number
        index[here] = torch.randperm(net.get_parameter(name).numel(), generator=generator)[: int(here.sum())]
    both, before = Places(names, which, index), copy.deepcopy(net.state_dict())
    population = torch.randn(7, 6, generator=generator)
    meter = Meter()
    net.register_forward_pre_hook(meter)
    logits = PatchedLogits(net, both, data.x, meter)
    seen = meter.forward
    batched = logits(population)
    assert meter.forward - seen == 7 * 12
    assert torch.allclose(batched, logits.one_by_one(population), atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_places_write_what_they_read(net: nn.Module) -> None:
    """Writing a vector puts each value at its own place and nowhere else."""
    places = Places(("stem.weight", "head.weight"), torch.tensor([0, 1, 1]), torch.tensor([3, 0, 11]))
    head = net.get_parameter("head.weight").clone()
    places.write(net, torch.tensor([7.0, 8.0, 9.0]))
    assert places.values(net).tolist() == [7, 8, 9]
    assert int((net.get_parameter("head.weight") != head).sum()) == 2


def test_forward_impact_of_a_dense_layer_is_the_mean_product() -> None:
    """v1: FI_ij = mean over inputs of |o_i w_ij|, and GL is the sum's gradient."""
    layer = nn.Linear(3, 2, bias=False)
    x, y = torch.tensor([[[[1.0, 0.0, 0.5]]], [[[0.2, 0.4, 0.0]]]]), torch.tensor([0, 1])
    found = impacts(nn.Sequential(nn.Flatten(), layer), [layer], Split(x, y), behind=False)
    o = x.flatten(1)
    assert torch.allclose(found.forward[0], (o[:, None] * layer.weight.abs()).mean(0))
    loss = nn.functional.cross_entropy(layer(o), y, reduction="sum")
    assert torch.allclose(found.gradient[0], torch.autograd.grad(loss, layer.weight)[0].abs())


def test_forward_impact_shares_sum_to_one_for_each_layer(net: nn.Module, data: Split) -> None:
    """v2: front shares of a neuron sum to 1 and behind shares of a layer sum to 1, so a layer's FI
    sums to 1 where every position has input.
    """
    layers = [run.layer for run in weighted(runs(net, data.x))]
    found = impacts(net, layers, data)  # type: ignore[arg-type]
    stem, left, right, head = (float(f.sum()) for f in found.forward)
    assert (stem, left, head) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))
    assert 0.9 < right < 1, "the 1 x 1 window sees some positions where every channel is 0"


def test_a_convolution_of_one_position_is_a_dense_layer() -> None:
    """FI and GL agree between a 1 x 1 window on one pixel and the dense layer with the same weights."""
    dense, conv = nn.Linear(5, 4), nn.Conv2d(5, 4, 1)
    with torch.no_grad():
        conv.weight.copy_(dense.weight[:, :, None, None])
        conv.bias.copy_(dense.bias)  # type: ignore[union-attr]
    data = Split(torch.rand(6, 5, 1, 1), torch.arange(6) % 4)
    one = impacts(nn.Sequential(nn.Flatten(), dense, nn.ReLU()), [dense], data)
    two = impacts(nn.Sequential(conv, nn.Flatten(), nn.ReLU()), [conv], data)
    assert torch.allclose(one.forward[0], two.forward[0].flatten(1), atol=1e-6)
    assert torch.allclose(one.gradient[0], two.gradient[0].flatten(1), atol=1e-6)


def test_many_interventions_equal_one_at_a_time(net: nn.Module, data: Split) -> None:
    """Scaling a channel by hooks, batched, gives what scaling the layer's own weights gives."""
    layer = net.get_submodule("left")
    scales = torch.rand(5, 4, generator=torch.Generator().manual_seed(4))
    batched = Intervened(net, [layer], data.x, lambda _, out, p: out * channelwise(p[0], out), Meter())(
        scales
    )
    for scale, logits in zip(scales, batched, strict=True):
        scaled = copy.deepcopy(net)
        with torch.no_grad():
            scaled.left.weight.mul_(scale[:, None, None, None])  # type: ignore[union-attr,operator]
            scaled.left.bias.mul_(scale)  # type: ignore[union-attr,operator]
        assert torch.allclose(logits, logits_of(scaled, data.x), atol=1e-5)


def test_a_swarm_runs_as_many_generations_as_it_may() -> None:
    """With patience left it is the number of generations that ends it, the last of them included."""
    start = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    told: list[tuple[int, int]] = []
    how = Swarm(0.7, 1.4, 1.4, 3, 50, progress=lambda number, of, _: told.append((number, of)))
    found = swarm(sphere, start, torch.zeros_like(start), how, torch.Generator().manual_seed(1))
    assert found.generations == 3
    assert len(found.history) == 4
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_change_of_a_layer_with_one_output_is_added_to_it() -> None:
    """A single output is no special case: what the two changed weights see is added, times their change."""
    layer, x = nn.Linear(3, 1), torch.tensor([[1.0, 10.0, 100.0]])
    change = SparseChange(layer, torch.tensor([0, 2]))
    assert change.added(torch.tensor([[5.0]]), x, torch.tensor([2.0, 3.0])).tolist() == [[5 + 2 + 300]]
