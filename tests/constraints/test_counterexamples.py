"""The oracle: points stay in their regions, worse ones are found the longer it looks, and nothing
of the network changes.
"""

import copy

import pytest
import torch
from torch import nn

from airepair.constraints.counterexamples import (
    BoxGround,
    Hunt,
    Search,
    SegmentGround,
    counterexamples,
    descend,
    frozen,
    worst,
)
from airepair.constraints.parser import parse
from airepair.testing import toy


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


X = torch.rand(6, 1, 8, 8, generator=generator())
X2 = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Y, Y2 = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 2, 3, 0, 1, 2])


def find(text: str, search: Search, module: nn.Module) -> dict[str, torch.Tensor]:
    (constraint,) = parse(text)
    return counterexamples(
        Hunt(constraint, search), module, {"x": X, "x2": X2}, {"y": Y, "y2": Y2}, generator()
    )


def test_points_of_a_box_stay_within_eps_and_within_the_pixels_range():
    """With steps far larger than the box."""
    z = find("RobustnessG(eps=0.1)", Search(5, 1.0), toy.subject().module)["z"]
    assert float((z - X).abs().max()) <= 0.1 + 1e-6
    assert float(z.min()) >= 0
    assert float(z.max()) <= 1
    assert not torch.equal(z, X)


def test_a_start_is_uniform_in_the_box_as_clipped_to_the_pixels_range():
    """A black pixel starts anywhere in 0..eps, a white one in 1 - eps..1, as in DL2's Box: neither
    piles up at the end of the range.
    """
    x = torch.tensor([0.0, 1.0, 0.05, 0.5]).reshape(1, 1, 1, 4).repeat(20_000, 1, 1, 1)
    starts = BoxGround(x, 0.3).start(generator())[:, 0, 0]
    for column, (low, high) in enumerate(((0.0, 0.3), (0.7, 1.0), (0.0, 0.35), (0.2, 0.8))):
        found = (starts[:, column] - low) / (high - low)
        tenths = torch.histc(found, 10, 0, 1) / len(found)
        assert float((tenths - 0.1).abs().max()) < 0.01
        assert float(found.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(((found <= 0) | (found >= 1)).float().mean()) < 0.001


def test_points_of_a_segment_lie_on_it():
    """z - x is a multiple in [0, 1] of x2 - x."""
    z = find("SegmentG()", Search(5, 0.1), toy.subject().module)["z"]
    t = ((z - X) / (X2 - X)).flatten(1)
    assert torch.allclose(t, t.median(1, keepdim=True).values.expand_as(t), atol=1e-3)
    assert float(t.median(1).values.min()) >= -1e-4
    assert float(t.median(1).values.max()) <= 1 + 1e-4


def test_projection_is_to_the_nearest_point_of_the_segment():
    """Beyond an end it is the end."""
    ground = SegmentGround(torch.zeros(3, 1, 1, 2), torch.ones(3, 1, 1, 2))
    z = torch.tensor([[1.0, 0.0], [5, 5], [-3, 1]]).reshape(3, 1, 1, 2)
    assert torch.allclose(ground.project(z).flatten(1), torch.tensor([[0.5, 0.5], [1, 1], [0, 0]]))


def test_a_segment_of_length_zero_is_its_point():
    """No division by zero."""
    ground = SegmentGround(X, X)
    assert torch.equal(ground.project(X + 0.3), X)


def test_a_linear_objective_reaches_the_corner_of_the_box():
    """The minimum of <w, z> within eps is x - eps sign(w)."""
    w = torch.randn(1, 8, 8, generator=generator())
    inside = X * 0.5 + 0.25
    (z,), value = worst(
        lambda p: (p[0] * w).sum((1, 2, 3)), [BoxGround(inside, 0.1)], 6, Search(30, 0.01), generator()
    )
    assert torch.allclose(z, inside - 0.1 * w.sign(), atol=1e-6)
    assert torch.allclose(value, ((inside - 0.1 * w.sign()) * w).sum((1, 2, 3)), atol=1e-4)


def test_more_steps_and_more_restarts_never_find_less():
    """The best iterate of the best restart is kept: with the same starts the objective cannot rise."""
    module = toy.subject("cnn").module

    def least(steps: int, restarts: int) -> torch.Tensor:
        boxes = [BoxGround(X.repeat(restarts, 1, 1, 1), 0.2)]
        labels = Y.repeat(restarts)
        with frozen(module):
            of_label = lambda p: module(p[0]).log_softmax(1).gather(1, labels[:, None])[:, 0]  # noqa: E731
            return worst(of_label, boxes, 6, Search(steps, 0.02, restarts), generator())[1]

    once = least(3, 1)
    assert bool((least(10, 1) <= once).all())
    assert bool((least(3, 4) <= once).all())
    assert bool((least(10, 1) < least(0, 1)).all())


def test_a_batch_finds_what_each_sample_finds_alone():
    """From equal starts: samples do not influence each other."""
    module = toy.subject().module

    def objective(y: torch.Tensor):
        return lambda p: module(p[0]).gather(1, y[:, None])[:, 0]

    with frozen(module):
        together, _ = descend(objective(Y), [X], [BoxGround(X, 0.1)], Search(5))
        for k in range(6):
            part = slice(k, k + 1)
            alone, _ = descend(objective(Y[part]), [X[part]], [BoxGround(X[part], 0.1)], Search(5))
            assert torch.allclose(together[0][part], alone[0], atol=1e-5)


@pytest.mark.parametrize("text", ["RobustnessG(eps=0.1)", "LipschitzG()", "SegmentG()"])
def test_the_search_leaves_weights_statistics_modes_and_gradients_alone(text):
    """Also in train mode, where a forward pass would move the batch-norm statistics."""
    module = toy.subject().module.train()
    module[0].eval()
    module.zero_grad(set_to_none=True)
    next(module.parameters()).requires_grad_(False)
    before = copy.deepcopy(module)
    find(text, Search(2), module)
    assert all(
        torch.equal(a, b)
        for a, b in zip(module.state_dict().values(), before.state_dict().values(), strict=True)
    )
    assert [m.training for m in module.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in module.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in module.parameters())


def test_a_constraint_without_quantifiers_asks_nothing():
    """And one whose negation has no gradient keeps its random starts."""
    module = toy.subject().module
    assert find("RobustnessT", Search(3), module) == {}
    z = find("forall z in box(x, 0.1): true", Search(3), module)["z"]
    assert float((z - X).abs().max()) <= 0.1 + 1e-6


def test_the_same_seed_finds_the_same_points():
    """Starts come from the generator only."""
    module = toy.subject().module
    first, again = (find("LipschitzG()", Search(3, restarts=2), module) for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in ("z", "w"))


def test_of_equal_iterates_the_first_is_kept() -> None:
    """A step from 0.25 across the least point 0.5 ends at 0.75, which is as far: the start stays."""
    start = torch.full((2, 1, 1, 1), 0.25)
    found, least = descend(
        lambda z: (z[0] - 0.5).abs().flatten(), [start], [BoxGround(start, 1.0)], Search(1, 0.5)
    )
    assert torch.equal(found[0], start)
    assert least.tolist() == [0.25, 0.25]
